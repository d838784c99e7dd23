"""Work that must not be left alone: who waits for it, and is told to go."""

import asyncio

import pytest

from mini_dropbox.until_done import until_done


@pytest.fixture
async def work() -> "asyncio.Future[int]":
    return asyncio.get_running_loop().create_future()


async def test_the_result_is_returned(work: "asyncio.Future[int]") -> None:
    work.set_result(5)
    assert await until_done(work) == 5


async def test_an_error_is_raised(work: "asyncio.Future[int]") -> None:
    work.set_exception(ValueError("so it is"))
    with pytest.raises(ValueError, match="so it is"):
        await until_done(work)


@pytest.mark.parametrize("ends", ["well", "badly", "cancelled"])
@pytest.mark.parametrize("times", [1, 3])
async def test_a_cancelled_one_waits_for_the_end(
    work: "asyncio.Future[int]", ends: str, times: int
) -> None:
    told: list[str] = []
    waiting = asyncio.create_task(until_done(work, on_cancel=lambda: told.append("hurry")))
    await asyncio.sleep(0)
    for _ in range(times):
        waiting.cancel()
        await asyncio.sleep(0)
        await asyncio.sleep(0)
    assert not waiting.done()
    assert told == ["hurry"]
    if ends == "well":
        work.set_result(5)
    elif ends == "badly":
        work.set_exception(ValueError)
    else:
        work.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
