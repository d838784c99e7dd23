"""One request at a time for each resumable upload.

A client whose line broke comes back before the server has noticed that the old connection is
dead. So a newcomer does not wait for what an older request may still receive: the older one is
ended, keeps what came, and makes room.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

from node_app.errors import UploadLocked

# An upload that has come in whole is stored before the next request has its turn; one that finds
# no turn within this many seconds is told to come again.
PATIENCE_SECONDS: Final = 60.0


class _Line:
    """Those who want one upload: one at work, the others waiting."""

    def __init__(self) -> None:
        self.lock = asyncio.Lock()
        self.waiting = 0
        self.receiving: asyncio.Timeout | None = None

    def hurry(self) -> None:
        """End what is being received, as somebody waits."""
        receiving, self.receiving = self.receiving, None
        if receiving is not None:
            receiving.reschedule(asyncio.get_running_loop().time())


class Turn:
    """The right to work on an upload, while it lasts."""

    def __init__(self, line: _Line) -> None:
        self._line = line

    @asynccontextmanager
    async def receiving(self) -> AsyncIterator[None]:
        """Receive in here, until another request wants its turn: that ends it with UploadLocked."""
        try:
            async with asyncio.timeout(None) as patience:
                self._line.receiving = patience
                if self._line.waiting:
                    self._line.hurry()
                try:
                    yield
                finally:
                    self._line.receiving = None
        except TimeoutError:
            if not patience.expired():
                raise
            raise UploadLocked("Another request goes on with this upload.") from None


class Turns:
    """Hands out turns; belongs to one event loop."""

    def __init__(self, patience: float = PATIENCE_SECONDS) -> None:
        self._patience = patience
        self._lines: dict[str, _Line] = {}

    def is_busy(self, upload_id: str) -> bool:
        """Tell whether a request is at work on the upload."""
        return upload_id in self._lines

    @asynccontextmanager
    async def take(self, upload_id: str) -> AsyncIterator[Turn]:
        """Work on the upload alone; UploadLocked when the turn does not come for too long."""
        line = self._lines.setdefault(upload_id, _Line())
        line.waiting += 1
        line.hurry()
        try:
            async with asyncio.timeout(self._patience):
                await line.lock.acquire()
        except TimeoutError:
            raise UploadLocked("Another request works on this upload; try again later.") from None
        finally:
            line.waiting -= 1
            self._leave(upload_id, line)
        try:
            yield Turn(line)
        finally:
            line.lock.release()
            self._leave(upload_id, line)

    def _leave(self, upload_id: str, line: _Line) -> None:
        if not line.waiting and not line.lock.locked():
            del self._lines[upload_id]
