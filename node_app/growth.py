"""How much of an upload has been written, for those who read it while it grows."""

import asyncio


class Growth:
    """Told by one writer, awaited by any number of readers, all on one event loop."""

    def __init__(self) -> None:
        # How many bytes it will have, as far as the sender has told.
        self.total: int | None = None
        self._size = 0
        self._is_complete = False
        self._changed = asyncio.Event()

    def advance(self, size: int) -> None:
        """Note that the first `size` bytes can be read."""
        self._size = size
        self._wake()

    def finish(self, size: int) -> None:
        """Note that `size` bytes are all of it."""
        self._is_complete = True
        self.advance(size)

    async def beyond(self, offset: int) -> int:
        """Return how many bytes there are once they are more than `offset`, or all."""
        while self._size <= offset and not self._is_complete:
            await self._changed.wait()
        return self._size

    def _wake(self) -> None:
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()
