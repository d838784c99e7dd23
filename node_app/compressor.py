"""Compresses blobs that have been at rest for a while, one at a time and after everybody else.

A thread of its own writes the frames of a plain blob to a temporary file, reads them back, and
lets them take the plain form's place only when both digests are those of the record. Whatever is
cut off on the way is still without its mark in the index, and is taken up again from there.
"""

import logging
import os
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Final

from node_app.blobindex import BlobRecord
from node_app.blobstore import digests_of
from node_app.blobwriter import Digests
from node_app.compression import (
    FRAME_BYTES,
    CompressedReader,
    FrameEncoder,
    Readable,
    is_worth_while,
    may_gain,
    sample_shrinks,
)
from node_app.disk import FILE_MODE, storage_errors
from node_app.errors import BlobNotFound, NodeError, StoreFailed
from node_app.giving_way import Rests, Stopped, take_lowest_priority
from node_app.local_blobstore import LocalBlobReader, LocalBlobStore

logger = logging.getLogger(__name__)

BATCH: Final = 64
# How often it is looked whether anything is due, as far as the blobs' age lets it matter.
MIN_INTERVAL_SECONDS: Final = 0.2
MAX_INTERVAL_SECONDS: Final = 10.0
# After a full disk or a failing index.
RETRY_SECONDS: Final = 60.0


class Compressor:
    """The background task of one node; `is_busy` tells whether uploads are under way."""

    def __init__(
        self, store: LocalBlobStore, *, after_seconds: float, is_busy: Callable[[], bool]
    ) -> None:
        self._store = store
        self._after = after_seconds
        self._interval = min(max(after_seconds / 4, MIN_INTERVAL_SECONDS), MAX_INTERVAL_SECONDS)
        self._stopping = threading.Event()
        self._rests = Rests(self._stopping, is_busy)
        self._thread = threading.Thread(target=self._work, name="compressor", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """End after the frame that is under way; blocks until then."""
        self._stopping.set()
        self._thread.join()

    def compress_due(self) -> int:
        """Compress all blobs that are due; return how many take less room now.

        StoreFull, or StoreFailed for an index that cannot be written; Stopped in the end.
        """
        compressed = 0
        while due := self._store.untried(min_age=self._after, limit=BATCH):
            for record in due:
                compressed += self._settle(record)
        return compressed

    def _work(self) -> None:
        take_lowest_priority()
        wait = self._interval
        while not self._stopping.wait(wait):
            wait = self._interval
            try:
                self.compress_due()
            except Stopped:
                return
            except NodeError as error:
                logger.warning("Compression goes on in %.0f s: %s", RETRY_SECONDS, error)
                wait = RETRY_SECONDS
            except Exception:
                logger.exception("Compression failed")
                wait = RETRY_SECONDS

    def _settle(self, record: BlobRecord) -> bool:
        """Try one blob, and mark it as tried; return whether it takes less room now."""
        try:
            with storage_errors(), closing(self._store.open_plain(record.hash)) as content:
                if self._compress(record, content):
                    return True
        except BlobNotFound:
            if self._store.finish_compressed(record):
                return True
            logger.error("The bytes of %s are gone from this node's disk", record.hash)  # noqa: TRY400  no traceback
        except StoreFailed as error:
            logger.error("%s cannot be compressed: %s", record.hash, error)  # noqa: TRY400  the same
        self._store.keep_plain(record)
        return False

    def _compress(self, record: BlobRecord, content: LocalBlobReader) -> bool:
        expected = Digests(record.hash, record.sha256, record.size)
        # Files of earlier versions have rows of what could never gain.
        if not may_gain(record.size, record.content_type) or not sample_shrinks(content):
            return False
        with self._temporary_path() as path:
            found = self._write_frames(content, path)
            if found != expected:
                logger.error("%s does not have its digests; it is not compressed", record.hash)
                return False
            if not is_worth_while(record.size, path.stat().st_size):
                return False
            with closing(CompressedReader(LocalBlobReader(path))) as reader:
                if digests_of(self._paced(reader)) != expected:
                    logger.error("The frames of %s do not hold its content", record.hash)
                    return False
            return self._store.replace_by_compressed(record, path)

    def _write_frames(self, content: Readable, path: Path) -> Digests:
        """Write the compressed form, durably; return the digests of what was read."""
        encoder = FrameEncoder()
        with path.open("wb") as file:

            def taken() -> Iterator[bytes]:
                for piece in self._paced(content):
                    file.write(encoder.frame(piece))
                    yield piece

            digests = digests_of(taken())
            file.write(encoder.table())
            file.flush()
            path.chmod(FILE_MODE)
            os.fsync(file.fileno())
        return digests

    @contextmanager
    def _temporary_path(self) -> Iterator[Path]:
        descriptor, name = tempfile.mkstemp(prefix="compress-", dir=self._store.temporary_folder)
        os.close(descriptor)
        path = Path(name)
        try:
            yield path
        finally:
            path.unlink(missing_ok=True)

    def _paced(self, content: Readable) -> Iterator[bytes]:
        """Yield a content in pieces of one frame, with rests between them."""
        for offset in range(0, content.size, FRAME_BYTES):
            began = time.monotonic()
            yield content.read_at(offset, FRAME_BYTES)
            # For as long as it worked.
            self._rests.take(time.monotonic() - began)
