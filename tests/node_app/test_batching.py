"""Batches: what gathers, what each caller hears, and what a failure leaves behind."""

import asyncio
from collections.abc import Sequence

import pytest

from node_app import batching
from node_app.batching import MAX_ITEMS, Batcher


class Sender:
    """Records batches and holds each until the test lets it go."""

    def __init__(self) -> None:
        self.batches: list[list[int]] = []
        self.gate = asyncio.Event()
        self.failure: Exception | None = None

    async def __call__(self, items: Sequence[int]) -> list[int | Exception]:
        self.batches.append(list(items))
        await self.gate.wait()
        if self.failure is not None:
            raise self.failure
        return [ValueError("odd") if item % 2 else item * 10 for item in items]


async def turns(count: int = 5) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


async def test_one_alone_goes_at_once() -> None:
    sender = Sender()
    sender.gate.set()

    assert await Batcher(sender).submit(2) == 20
    assert sender.batches == [[2]]


async def test_what_comes_while_one_is_under_way_goes_together() -> None:
    sender = Sender()
    batcher = Batcher(sender)
    first = batcher.submit(0)
    await turns()
    others = [batcher.submit(item) for item in (2, 4, 6)]
    await turns()
    assert sender.batches == [[0]]
    sender.gate.set()

    assert await asyncio.gather(first, *others) == [0, 20, 40, 60]
    assert sender.batches == [[0], [2, 4, 6]]


async def test_what_comes_in_the_same_turn_goes_together() -> None:
    sender = Sender()
    sender.gate.set()
    batcher = Batcher(sender)

    await asyncio.gather(*(batcher.submit(item) for item in (2, 4)))

    assert sender.batches == [[2, 4]]


async def test_several_may_be_under_way() -> None:
    sender = Sender()
    batcher = Batcher(sender, in_flight=2)
    tasks = []
    for item in (0, 2, 4):
        tasks.append(batcher.submit(item))
        await turns()
    assert sender.batches == [[0], [2]]
    sender.gate.set()

    assert await asyncio.gather(*tasks) == [0, 20, 40]


async def test_each_hears_its_own_outcome() -> None:
    sender = Sender()
    sender.gate.set()
    batcher = Batcher(sender)

    outcomes = await asyncio.gather(*map(batcher.submit, (1, 2)), return_exceptions=True)

    assert isinstance(outcomes[0], ValueError)
    assert outcomes[1] == 20


async def test_a_failed_batch_fails_for_all_and_the_next_goes_on() -> None:
    sender = Sender()
    sender.gate.set()
    sender.failure = RuntimeError("gone")
    batcher = Batcher(sender)
    outcomes = await asyncio.gather(*map(batcher.submit, (2, 4)), return_exceptions=True)
    assert [str(outcome) for outcome in outcomes] == ["gone", "gone"]
    sender.failure = None

    assert await batcher.submit(6) == 60


async def test_who_is_cancelled_while_it_waits_is_left_out() -> None:
    sender = Sender()
    batcher = Batcher(sender)
    first = batcher.submit(0)
    await turns()
    second, third = (batcher.submit(item) for item in (2, 4))
    await turns()
    second.cancel()
    await turns()
    sender.gate.set()

    assert await asyncio.gather(first, third) == [0, 40]
    assert sender.batches == [[0], [4]]
    with pytest.raises(asyncio.CancelledError):
        await second


async def test_who_is_cancelled_under_way_disturbs_nobody() -> None:
    sender = Sender()
    batcher = Batcher(sender)
    tasks = [batcher.submit(item) for item in (2, 4)]
    await turns()
    tasks[0].cancel()
    await turns()
    sender.gate.set()

    assert await tasks[1] == 40


async def test_a_batch_has_an_upper_bound() -> None:
    sender = Sender()
    sender.gate.set()
    batcher = Batcher(sender)

    await asyncio.gather(*(batcher.submit(2 * item) for item in range(MAX_ITEMS + 1)))

    assert [len(batch) for batch in sender.batches] == [MAX_ITEMS, 1]


async def test_after_one_of_several_there_is_a_moment_to_gather(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(batching, "GATHER_SECONDS", 0.3)
    sender = Sender()
    sender.gate.set()
    batcher = Batcher(sender)
    await asyncio.gather(*(batcher.submit(item) for item in (2, 4, 6)))

    first = batcher.submit(8)
    await turns()
    await asyncio.gather(first, batcher.submit(10))

    assert sender.batches == [[2, 4, 6], [8, 10]]


async def test_as_many_as_in_the_latest_one_wait_for_no_more(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(batching, "GATHER_SECONDS", 60)
    sender = Sender()
    sender.gate.set()
    batcher = Batcher(sender)

    async with asyncio.timeout(10):
        for items in ((2, 4), (6, 8, 10)):
            await asyncio.gather(*(batcher.submit(item) for item in items))

    assert sender.batches == [[2, 4], [6, 8, 10]]


async def test_after_one_alone_the_next_goes_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batching, "GATHER_SECONDS", 60)
    sender = Sender()
    sender.gate.set()
    batcher = Batcher(sender)

    async with asyncio.timeout(10):
        for item in (2, 4, 6):
            await batcher.submit(item)

    assert sender.batches == [[2], [4], [6]]
