"""Reads every blob again within a set period, and sets aside what has changed on its disk.

A thread of its own takes up blobs whose last verification is half the period old, the oldest
first, so that the other half is left to do it in. It reads past the page cache, at a bounded rate
and after everybody else. Where it is stands in the index, blob by blob, so that a restart changes
nothing.
"""

import logging
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from typing import Any, Final

from node_app.blobindex import BlobRecord
from node_app.blobstore import CHUNK_BYTES, SCRUB, BlobReader, Check, Checked
from node_app.compression import CompressedReader
from node_app.errors import NodeError, StoreFailed
from node_app.giving_way import Rests, Stopped, take_lowest_priority
from node_app.local_blobstore import LocalBlobReader, LocalBlobStore

logger = logging.getLogger(__name__)

BATCH: Final = 64
# What was verified is noted in groups, and after this long at the latest.
NOTE_SECONDS: Final = 10.0
# How often it is looked whether anything is due.
INTERVAL_SECONDS: Final = 10.0
# After a failing disk or index.
RETRY_SECONDS: Final = 60.0
# What opening a file costs a disk, in the bytes that it could have read meanwhile.
OPENING_BYTES: Final = 64 * 1024


@dataclass(frozen=True)
class Round:
    """What was checked since something was last found due; sizes are bytes, times unix seconds."""

    started_at: float | None = None
    ended_at: float | None = None
    blobs_checked: int = 0
    bytes_checked: int = 0
    bad_found: int = 0
    unreadable: int = 0


class Scrubber:
    """The background task of one node. `rests` are taken by its thread alone."""

    def __init__(
        self,
        store: LocalBlobStore,
        rests: Rests,
        stopping: threading.Event,
        *,
        period: float,
        bytes_per_second: float,
    ) -> None:
        self._store = store
        self._rests = rests
        self._stopping = stopping
        self._max_age = period / 2
        self._rate = bytes_per_second
        self._round = Round()
        self._is_running = False
        self._is_at_full_speed = False
        # What the disk did not give, to be tried again after the round.
        self._failed: set[str] = set()
        # Set by whoever wants all blobs read at once.
        self._requested = threading.Event()
        self._wake = threading.Event()
        self._thread = threading.Thread(target=self._work, name="scrubber", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """End after the piece that is under way; blocks until then."""
        self._stopping.set()
        self._wake.set()
        self._thread.join()

    def begin_now(self) -> None:
        """Read all blobs, whenever they were read before, as fast as the disk gives them."""
        self._requested.set()
        self._wake.set()

    def progress(self) -> dict[str, Any]:
        """Return what this round has come to, and when the blob that waits longest was verified.

        A round lasts until nothing is due; `running` and `full_speed` tell of this moment.
        """
        return {
            "running": self._is_running or self._requested.is_set(),
            "full_speed": self._is_at_full_speed or self._requested.is_set(),
            **asdict(self._round),
            "oldest_verified_at": self._store.oldest_verification(),
        }

    def scrub_due(self) -> None:
        """Check all blobs that are due; StoreFull or StoreFailed as the disk says, Stopped."""
        while not self._requested.is_set() and (due := self._due()):
            with self._under_way():
                if not self._check_all(due):
                    break
        self._end_round()

    def _due(self) -> list[BlobRecord]:
        limit = BATCH + len(self._failed)
        due = self._store.due_for_scrub(max_age=self._max_age, limit=limit)
        return [record for record in due if record.hash not in self._failed]

    def scrub_all(self) -> None:
        """Check every blob, in the order of the hashes: no clock can make that endless."""
        self._end_round()
        self._requested.clear()
        self._is_at_full_speed = True
        last = ""
        try:
            with self._under_way():
                while blobs := self._store.page(last, BATCH):
                    self._check_all(blobs)
                    last = blobs[-1].hash
        finally:
            self._is_at_full_speed = False
        self._end_round()

    def _work(self) -> None:
        take_lowest_priority()
        while not self._stopping.is_set():
            wait = INTERVAL_SECONDS
            try:
                if self._requested.is_set():
                    self.scrub_all()
                self.scrub_due()
                if self._failed:
                    wait = RETRY_SECONDS
                    self._failed.clear()
            except Stopped:
                return
            except NodeError as error:
                logger.warning("Scrubbing goes on in %.0f s: %s", RETRY_SECONDS, error)
                wait = RETRY_SECONDS
            except Exception:
                logger.exception("Scrubbing failed")
                wait = RETRY_SECONDS
            self._wake.wait(wait)
            self._wake.clear()

    def _check_all(self, records: list[BlobRecord]) -> bool:
        """Check these; return whether any of them is not due any more."""
        good: list[BlobRecord] = []
        noted_at, is_progress = time.monotonic(), False
        try:
            for record in records:
                checked = self._check(record)
                is_progress = is_progress or checked.result is not Check.CHANGED
                if checked.result is Check.GOOD:
                    now = time.time()
                    good.append(replace(record, stamp=checked.stamp, verified_at=now))
                if good and time.monotonic() - noted_at > NOTE_SECONDS:
                    self._store.note_all_verified(good)
                    good, noted_at = [], time.monotonic()
        finally:
            if good:
                self._store.note_all_verified(good)
        return is_progress

    def _check(self, record: BlobRecord) -> Checked:
        """Read one blob, and count it; StoreFailed when the disk fails as a whole."""
        try:
            checked = self._store.check(record.hash, found_by=SCRUB, pieces=self._paced)
        except StoreFailed as error:
            self._store.probe()
            logger.error("The copy of %s cannot be read: %s", record.hash, error)  # noqa: TRY400  no traceback
            self._failed.add(record.hash)
            self._count(unreadable=1)
            return Checked(Check.UNKNOWN)
        is_bad = checked.result in {Check.BAD, Check.LOST}
        self._count(blobs=1, size=record.size - record.saved, bad=is_bad)
        return checked

    def _count(self, *, blobs: int = 0, size: int = 0, bad: int = 0, unreadable: int = 0) -> None:
        now = self._round
        self._round = replace(
            now,
            blobs_checked=now.blobs_checked + blobs,
            bytes_checked=now.bytes_checked + size,
            bad_found=now.bad_found + bad,
            unreadable=now.unreadable + unreadable,
        )

    def _paced(self, reader: BlobReader) -> Iterator[bytes]:
        """Yield a content piece by piece, with the rests that keep the rate."""
        file = reader.file if isinstance(reader, CompressedReader) else reader
        if isinstance(file, LocalBlobReader):
            file.pass_cache_by()
        stored_share = getattr(file, "size", reader.size) / max(1, reader.size)
        began = time.monotonic()
        cost = float(OPENING_BYTES)
        for offset in range(0, reader.size, CHUNK_BYTES):
            piece = reader.read_at(offset, CHUNK_BYTES)
            cost += len(piece) * stored_share
            yield piece
            self._rest(cost, began)
            began, cost = time.monotonic(), 0.0
        if cost:
            self._rest(cost, began)

    def _rest(self, cost: float, began: float) -> None:
        """Wait until so many bytes may have been read; not at all in a pass at full speed."""
        if self._stopping.is_set():
            raise Stopped
        if not self._is_at_full_speed and not self._requested.is_set():
            self._rests.take(max(0.0, cost / self._rate - (time.monotonic() - began)))

    @contextmanager
    def _under_way(self) -> Iterator[None]:
        if self._round.started_at is None or self._round.ended_at is not None:
            self._round = Round(started_at=time.time())
        self._is_running = True
        try:
            yield
        finally:
            self._is_running = False

    def _end_round(self) -> None:
        if self._round.started_at is not None and self._round.ended_at is None:
            self._round = replace(self._round, ended_at=time.time())
