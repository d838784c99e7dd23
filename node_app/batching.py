"""Group commit for anything: what comes while one batch is on its way goes with the next."""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final, Generic, TypeVar

Item = TypeVar("Item")
Outcome = TypeVar("Outcome")

MAX_ITEMS: Final = 64
# Under load so much is waited for what else comes: a batch costs far more than an item of it.
GATHER_SECONDS: Final = 0.003


class Batcher(Generic[Item, Outcome]):
    """Hands items to `send` in batches as large as the load asks for.

    After a batch of one the next leaves at once, so that one alone never waits.

    `send` returns for each item its outcome, or the exception that is its outcome; one that it
    raises is every item's. Belongs to one event loop.
    """

    def __init__(
        self,
        send: Callable[[Sequence[Item]], Awaitable[Sequence[Outcome | Exception]]],
        *,
        in_flight: int = 1,
    ) -> None:
        self._send = send
        self._free = in_flight
        self._waiting: deque[tuple[Item, asyncio.Future[Outcome]]] = deque()
        self._tasks: set[asyncio.Task[None]] = set()
        # How many items the latest batch had.
        self._latest = 1

    def submit(self, item: Item) -> asyncio.Future[Outcome]:
        """Return the item's outcome to come. Cancelling it does not stop what has begun."""
        future: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()
        self._waiting.append((item, future))
        if self._free:
            self._free -= 1
            # It begins a turn of the loop later, so that what comes in this turn goes with it.
            task = asyncio.create_task(self._deliver())
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        return future

    async def _deliver(self) -> None:
        try:
            while self._waiting:
                if 1 < self._latest > len(self._waiting):
                    await asyncio.sleep(GATHER_SECONDS)
                batch = self._next_batch()
                self._latest = len(batch)
                if batch:
                    _settle(batch, await self._outcomes([item for item, _ in batch]))
        finally:
            self._free += 1

    def _next_batch(self) -> list[tuple[Item, asyncio.Future[Outcome]]]:
        count = min(len(self._waiting), MAX_ITEMS)
        taken = [self._waiting.popleft() for _ in range(count)]
        # Whoever was cancelled while it waited wants nothing any more.
        return [(item, future) for item, future in taken if not future.done()]

    async def _outcomes(self, items: Sequence[Item]) -> Sequence[Outcome | Exception]:
        try:
            return await self._send(items)
        except Exception as error:  # noqa: BLE001  Every waiter has to hear of it.
            return [error] * len(items)


def _settle(
    batch: Sequence[tuple[Any, asyncio.Future[Outcome]]],
    outcomes: Sequence[Outcome | Exception],
) -> None:
    for (_, future), outcome in zip(batch, outcomes, strict=True):
        if future.done():
            continue
        if isinstance(outcome, Exception):
            future.set_exception(outcome)
        else:
            future.set_result(outcome)
