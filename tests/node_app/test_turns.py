"""Who may work on an upload, and who has to wait."""

import asyncio

import pytest

from node_app.errors import UploadLocked
from node_app.turns import Turns


async def receive_until_interrupted(turns: Turns, begun: asyncio.Event) -> None:
    async with turns.take("upload") as turn, turn.receiving():
        begun.set()
        await asyncio.Event().wait()


async def test_who_receives_makes_room_for_the_next() -> None:
    turns, begun = Turns(), asyncio.Event()
    older = asyncio.create_task(receive_until_interrupted(turns, begun))
    await begun.wait()

    async with turns.take("upload"):
        assert turns.is_busy("upload")
        with pytest.raises(UploadLocked):
            await older

    assert not turns.is_busy("upload")


async def test_who_stores_is_waited_for_and_at_last_given_up() -> None:
    turns = Turns(patience=0.01)
    async with turns.take("upload"):
        with pytest.raises(UploadLocked):
            async with turns.take("upload"):
                pytest.fail("two have the same turn")
        assert turns.is_busy("upload")

    assert not turns.is_busy("upload")
    async with turns.take("upload"):
        assert turns.is_busy("upload")


async def test_who_begins_to_receive_while_another_waits_is_interrupted_at_once() -> None:
    turns = Turns()
    async with turns.take("upload") as turn:
        waiting = asyncio.create_task(receive_until_interrupted(turns, asyncio.Event()))
        await asyncio.sleep(0)
        with pytest.raises(UploadLocked):
            async with turn.receiving():
                await asyncio.Event().wait()
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert not turns.is_busy("upload")


async def test_uploads_do_not_wait_for_one_another() -> None:
    turns = Turns()
    async with turns.take("one"), turns.take("other"):
        assert turns.is_busy("one")
        assert turns.is_busy("other")


async def test_a_time_limit_of_something_else_is_not_taken_for_an_interruption() -> None:
    turns = Turns()
    with pytest.raises(TimeoutError):
        async with turns.take("upload") as turn, turn.receiving():
            raise TimeoutError
