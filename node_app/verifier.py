"""Which copies may be sent as they are, and the reading of those that may not."""

import asyncio
import logging
import threading
from collections.abc import Iterator
from typing import Final

from node_app.blobstore import READ, BlobReader, BlobStore, Check, Checked, whole
from node_app.blobwriter import Digests
from node_app.blocking import RunBlocking
from node_app.errors import BlobDamaged, BlobNotFound, NodeError, ShuttingDown, StoreFailed

logger = logging.getLogger(__name__)

# Whoever reads a whole content pays for its verification once a day: what has gone bad on the disk
# meanwhile is then found by the first who reads it.
WHOLE_SECONDS: Final = 24 * 3600.0
# Each takes a thread for as long as its copy is large.
CHECKS_AT_ONCE: Final = 4


class Verifier:
    """Knows what was verified within `max_age` seconds; reads a copy once, whoever asks."""

    def __init__(self, store: BlobStore, run: RunBlocking, *, max_age: float) -> None:
        self._store = store
        self._run = run
        self._max_age = max_age
        self._turns = asyncio.Semaphore(CHECKS_AT_ONCE)
        self._checks: dict[str, asyncio.Task[Checked]] = {}
        self._stopping = threading.Event()

    async def stop(self) -> None:
        """End the checks that are under way."""
        self._stopping.set()
        await asyncio.gather(*self._checks.values(), return_exceptions=True)

    def is_verified(self, blob_hash: str, reader: BlobReader, *, as_whole: bool) -> bool:
        """Tell whether this open copy may be sent, in part or as a whole, without a look at it."""
        max_age = min(self._max_age, WHOLE_SECONDS) if as_whole else self._max_age
        return self._store.is_verified(blob_hash, reader, max_age=max_age)

    def is_checking(self, blob_hash: str) -> bool:
        """Tell whether somebody has just doubted this copy."""
        return blob_hash in self._checks

    def doubt(self, blob_hash: str) -> None:
        """Have a copy read soon, and set aside if it is bad; its next reader waits for that."""
        if not self._stopping.is_set():
            self._check(blob_hash)

    def note_absence(self, blob_hash: str) -> None:
        """Have a copy that was not there looked for once more, if the index knows of it."""
        if self._store.record(blob_hash) is not None:
            self.doubt(blob_hash)

    async def confirm(self, blob_hash: str, reader: BlobReader) -> None:
        """Return once this open copy has been read and is good.

        BlobDamaged, BlobNotFound or StoreFailed otherwise: another node may have a good one.
        """
        checked = await asyncio.shield(self._check(blob_hash))
        if checked.result in {Check.LOST, Check.UNKNOWN}:
            raise BlobNotFound("This node has no such blob.")
        if checked.result is Check.BAD:
            raise BlobDamaged("This node's copy of the blob is damaged.")
        if checked.result is Check.CHANGED or checked.stamp != reader.stamp:
            raise StoreFailed("The copy was replaced while it was read; try again.")

    async def note(self, blob_hash: str, stamp: str) -> None:
        """Remember that the copy that looks like this is good; a full disk does not matter."""
        try:
            await self._run(self._store.note_verified, blob_hash, stamp)
        except NodeError as error:
            logger.warning("That %s was verified is not on disk: %s", blob_hash, error)

    def _check(self, blob_hash: str) -> "asyncio.Task[Checked]":
        task = self._checks.get(blob_hash)
        if task is None:
            task = self._checks[blob_hash] = asyncio.create_task(self._read(blob_hash))
            task.add_done_callback(lambda done: self._ended(blob_hash, done))
        return task

    async def _read(self, blob_hash: str) -> Checked:
        async with self._turns:
            checked: Checked = await self._run(
                self._store.check, blob_hash, found_by=READ, read=self._digests
            )
        if checked.result is Check.GOOD:
            await self.note(blob_hash, checked.stamp)
        return checked

    def _digests(self, blob_hash: str) -> Digests:
        return self._store.digests(blob_hash, self._pieces)

    def _pieces(self, reader: BlobReader) -> Iterator[bytes]:
        for piece in whole(reader):
            if self._stopping.is_set():
                raise ShuttingDown("The node is stopping; ask another one.")
            yield piece

    def _ended(self, blob_hash: str, task: "asyncio.Task[Checked]") -> None:
        del self._checks[blob_hash]
        if not task.cancelled() and (error := task.exception()) is not None:
            logger.warning("The copy of %s could not be checked: %s", blob_hash, error)
