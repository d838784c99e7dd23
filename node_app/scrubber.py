"""Reads every blob again within a set period, and sets aside what has changed on its disk.

A thread of its own takes up blobs whose last verification is half the period old, the oldest
first, so that the other half is left to do it in. A process of its own reads them, past the page
cache, at a bounded rate and after everybody else. Where it is stands in the index, blob by blob,
so that a restart changes nothing.
"""

import logging
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from typing import Any, Final

from node_app.blobindex import BlobRecord
from node_app.blobstore import CHUNK_BYTES, SCRUB, Check, Checked
from node_app.blobwriter import Digests
from node_app.copy_reading import Reading, ReadingProcess
from node_app.errors import NodeError, StoreFailed
from node_app.giving_way import Rests, Stopped
from node_app.local_blobstore import LocalBlobStore

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
# How much is read at a time in a pass at full speed, which rests for as long as it reads: without
# that, requests would lose more than a fifth of their rate to it.
FULL_SPEED_BYTES: Final = 64 * 1024 * 1024
# The part of the time in which a pass at full speed may keep requests from the interpreter.
INTERPRETER_SHARE: Final = 0.05
# The reading process is kept for so long after there was something to read.
KEEP_SECONDS: Final = 60.0


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
        reading: Reading | None = None,
    ) -> None:
        self._store = store
        self._rests = rests
        self._stopping = stopping
        self._reading = reading or ReadingProcess()
        self._max_age = period / 2
        self._rate = bytes_per_second
        self._round = Round()
        self._is_running = False
        self._is_at_full_speed = False
        # What the disk did not give, to be tried again after the round.
        self._failed: set[str] = set()
        self._read_at = 0.0
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
        self._reading.interrupt()
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
        try:
            self._scrub_until_stopped()
        except Stopped:
            pass
        finally:
            self._reading.end()

    def _scrub_until_stopped(self) -> None:
        while not self._stopping.is_set():
            wait = INTERVAL_SECONDS
            try:
                if self._requested.is_set():
                    self.scrub_all()
                self.scrub_due()
                if self._failed:
                    wait = RETRY_SECONDS
                    self._failed.clear()
                if time.monotonic() - self._read_at > KEEP_SECONDS:
                    self._reading.end()
            except Stopped:
                raise
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
                with self._sharing():
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
            checked = self._store.check(record.hash, found_by=SCRUB, read=self._digests)
        except StoreFailed as error:
            if self._stopping.is_set():
                raise Stopped from None
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

    def _digests(self, blob_hash: str) -> Digests:
        """Read one copy, with the rests that keep the rate."""
        began, first = time.monotonic(), OPENING_BYTES

        def rest(count: int) -> None:
            nonlocal began, first
            self._rest(first + count, began)
            began, first = time.monotonic(), 0

        every = FULL_SPEED_BYTES if self._is_at_full_speed else CHUNK_BYTES
        self._read_at = time.monotonic()
        found = self._reading.digests(self._store.path(blob_hash), rest, every=every)
        if first:
            self._rest(first, began)
        return found

    def _rest(self, cost: float, began: float) -> None:
        """Wait until so many bytes may have been read; in a pass on demand, as long as it took."""
        if self._stopping.is_set():
            raise Stopped
        took = time.monotonic() - began
        if self._is_at_full_speed:
            self._stopping.wait(took)
        elif not self._requested.is_set():
            self._rests.take(max(0.0, cost / self._rate - took))

    @contextmanager
    def _sharing(self) -> Iterator[None]:
        """Let others have the interpreter for most of the time that this and a rest take."""
        began, worked = time.monotonic(), time.thread_time()
        try:
            yield
        finally:
            due = (time.thread_time() - worked) / INTERPRETER_SHARE
            self._stopping.wait(max(0.0, due - (time.monotonic() - began)))

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
