"""Contents that peers have sent ahead of their names, kept for the moment until these follow."""

import asyncio
import logging
import secrets
from typing import Final

from node_app.blobwriter import BlobWriter

logger = logging.getLogger(__name__)

# The peer has all of the content by then, and only a client's last bytes to wait for.
KEPT_SECONDS: Final = 60.0


class Receipts:
    """Received contents by the receipts that were given for them. Belongs to one event loop."""

    def __init__(self, seconds: float = KEPT_SECONDS) -> None:
        self._seconds = seconds
        self._kept: dict[str, tuple[BlobWriter, asyncio.TimerHandle]] = {}

    def give(self, writer: BlobWriter) -> str:
        """Keep a content for a while; it is closed when nobody comes for it."""
        receipt = secrets.token_hex(16)
        timer = asyncio.get_running_loop().call_later(self._seconds, self._drop, receipt)
        self._kept[receipt] = (writer, timer)
        return receipt

    def take(self, receipt: str) -> BlobWriter | None:
        """Return a content, once, to whoever has its receipt; None when it is gone."""
        writer, timer = self._kept.pop(receipt, (None, None))
        if timer is not None:
            timer.cancel()
        return writer

    def close(self) -> None:
        """Give up what nobody has come for."""
        for receipt in tuple(self._kept):
            self._drop(receipt)

    def _drop(self, receipt: str) -> None:
        writer = self.take(receipt)
        if writer is not None:
            logger.info("A content that a peer sent ahead was never named")
            writer.close()
