"""What a node has verified: one row a blob, with the SHA-256 that stands beside the MD5.

The blobs are plain files and the index is made from them: without a row, a blob's bytes are
read and hashed before anything is believed of them.
"""

import json
import logging
import threading
import time
from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from operator import attrgetter
from typing import Final, NamedTuple

from node_app.database import NodeDatabase, Statement, wait_for

logger = logging.getLogger(__name__)

NOTED_SECONDS: Final = 60.0
REMEMBERED: Final = 16_384
COLUMNS: Final = (
    "hash, sha256, size, name, content_type, stored_at, encoding, stored_size, stamp, verified_at"
)
_row: Final = attrgetter(*COLUMNS.split(", "))
_NAME_NOTED_AT: Final = "SELECT stored_at FROM further_name WHERE hash = ? AND name = ?"
_ADD_NAME: Final = "INSERT OR REPLACE INTO further_name VALUES (?, ?, ?, ?)"
_FURTHER: Final = """
SELECT hash, sha256, size, n.name, n.content_type, n.stored_at, encoding, stored_size
FROM further_name AS n JOIN blob USING (hash)
WHERE (n.hash, n.name) > (?, ?) ORDER BY n.hash, n.name LIMIT ?
"""


@dataclass(frozen=True)
class BlobRecord:
    """A verified blob; `size` in bytes, `stored_at` in unix seconds.

    `encoding` is how the bytes stand on disk, empty for as they are, and `stored_size` what they
    take there; None while nobody has tried yet whether compression makes it less.
    `stamp` is what the file looked like when its bytes were good, `verified_at` when that was, in
    unix seconds; both say nothing of which blob it is.
    """

    hash: str
    sha256: str
    size: int
    name: str
    content_type: str
    stored_at: float
    encoding: str = ""
    stored_size: int | None = None
    stamp: str = field(default="", compare=False)
    verified_at: float | None = field(default=None, compare=False)

    @property
    def saved(self) -> int:
        """The bytes that compression saves."""
        return 0 if self.stored_size is None else self.size - self.stored_size


@dataclass(frozen=True)
class Totals:
    """How many blobs there are, their bytes together, and how many of these compression saves."""

    count: int
    size: int
    saved: int = 0

    @property
    def stored_size(self) -> int:
        """The bytes that the blobs take where they are kept."""
        return self.size - self.saved


class Known(NamedTuple):
    """What every read asks of a blob; see `BlobRecord`."""

    size: int
    stamp: str
    verified_at: float | None


class BlobIndex:
    """The table `blob` of a node's database. StoreFull or StoreFailed when it cannot be written."""

    def __init__(self, database: NodeDatabase) -> None:
        self._database = database
        sums = "COUNT(*), COALESCE(SUM(size), 0), COALESCE(SUM(size - stored_size), 0)"
        (totals,) = database.read(f"SELECT {sums} FROM blob")  # noqa: S608  a constant
        self._totals = Totals(*totals)
        self._counting = threading.Lock()
        self._known: dict[str, Known] = {}

    def put(self, records: Sequence[BlobRecord], *, along: Sequence[Statement] = ()) -> None:
        """Keep the records of blobs that have none, all or nothing; returns once on disk.

        `along` is committed with them.
        """
        sql = f"INSERT INTO blob ({COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"  # noqa: S608
        self._wait([*((sql, _row(record)) for record in records), *along])
        for record in records:
            self._counted(1, record.size, record.saved)

    def get(self, blob_hash: str) -> BlobRecord | None:
        sql = f"SELECT {COLUMNS} FROM blob WHERE hash = ?"  # noqa: S608
        rows = self._database.read(sql, (blob_hash,))
        return BlobRecord(*rows[0]) if rows else None

    def page(self, after: str, limit: int) -> list[BlobRecord]:
        """Return the blobs that follow `after` in the order of their hashes."""
        sql = f"SELECT {COLUMNS} FROM blob WHERE hash > ? ORDER BY hash LIMIT ?"  # noqa: S608
        return [BlobRecord(*row) for row in self._database.read(sql, (after, limit))]

    def some(self, hashes: Sequence[str]) -> list[BlobRecord]:
        """Return those blobs of `hashes` that there are."""
        sql = f"SELECT {COLUMNS} FROM blob WHERE hash IN (SELECT value FROM json_each(?))"  # noqa: S608
        return [BlobRecord(*row) for row in self._database.read(sql, (json.dumps(hashes),))]

    def add_name(self, record: BlobRecord, *, name: str, content_type: str) -> None:
        """Note when a known blob has come again, and under which name; nobody waits for the disk.

        It is committed along with what is written next, within moments. The upload that brings it
        waits for the master, which knows all names; this is for the day when that is lost. What
        comes twice within NOTED_SECONDS is noted once.
        """
        now = time.time()
        noted = self._database.read(_NAME_NOTED_AT, (record.hash, name))
        if name == record.name:
            noted.append((record.stored_at,))
        if noted and now - max(moment for (moment,) in noted) < NOTED_SECONDS:
            return
        row = (record.hash, name, content_type, now)
        self._database.write(_ADD_NAME, row).add_done_callback(_log_failure)

    def further_names(self, after: tuple[str, str], limit: int) -> list[BlobRecord]:
        """Return blobs under the names that they came under later, in the order of hash and name.

        The page begins behind the hash and name that `after` is.
        """
        return [BlobRecord(*row) for row in self._database.read(_FURTHER, (*after, limit))]

    def untried(self, before: float, limit: int) -> list[BlobRecord]:
        """Return blobs of before a moment that nobody has tried to compress, the oldest first."""
        sql = (
            f"SELECT {COLUMNS} FROM blob "  # noqa: S608
            "WHERE stored_size IS NULL AND stored_at <= ? ORDER BY stored_at LIMIT ?"
        )
        return [BlobRecord(*row) for row in self._database.read(sql, (before, limit))]

    def due_for_scrub(self, before: float, now: float, limit: int) -> list[BlobRecord]:
        """Return blobs last verified before a moment, or never, or in the future; oldest first."""
        # The index has those that were never verified first.
        sql = f"SELECT {COLUMNS} FROM blob ORDER BY verified_at LIMIT ?"  # noqa: S608
        oldest = [BlobRecord(*row) for row in self._database.read(sql, (limit,))]
        due = [r for r in oldest if r.verified_at is None or r.verified_at < before]
        if due:
            return due
        sql = f"SELECT {COLUMNS} FROM blob WHERE verified_at > ? ORDER BY verified_at LIMIT ?"  # noqa: S608
        return [BlobRecord(*row) for row in self._database.read(sql, (now, limit))]

    def oldest_verification(self) -> float | None:
        """Return when the blob that waits longest was verified; None for never, or for no blob."""
        sql = "SELECT verified_at FROM blob ORDER BY verified_at LIMIT 1"
        rows = self._database.read(sql)
        return rows[0][0] if rows else None

    def set_stored(
        self, record: BlobRecord, *, encoding: str, stored_size: int, stamp: str = ""
    ) -> None:
        """Note how a known blob stands on disk; returns once that is on disk.

        A `stamp` says that the file's bytes are good; without one, what is known of it stays.
        """
        sql = (
            "UPDATE blob SET encoding = ?, stored_size = ?, stamp = iif(? = '', stamp, ?) "
            "WHERE hash = ?"
        )
        self._wait([(sql, (encoding, stored_size, stamp, stamp, record.hash))])
        self._known.pop(record.hash, None)
        self._counted(0, 0, record.size - stored_size - record.saved)

    def set_verified(self, verified: Sequence[BlobRecord]) -> None:
        """Note the stamps and times of records whose bytes are good; returns once on disk.

        What has another content by now, or is gone, stays as it is. Reads believe it at once, also
        where the disk is full.
        """
        for record in verified:
            self._known[record.hash] = Known(record.size, record.stamp, record.verified_at)
        sql = "UPDATE blob SET stamp = ?, verified_at = ? WHERE hash = ? AND sha256 = ?"
        rows = [(r.stamp, r.verified_at, r.hash, r.sha256) for r in verified]
        self._wait([(sql, row) for row in rows])

    def known(self, blob_hash: str) -> Known | None:
        """Return a verified blob's size and stamp; remembered, for every read asks for them.

        They may be those of a blob removed since: a content's size never changes, and no other
        file has its stamp.
        """
        known = self._known.get(blob_hash)
        if known is None and (record := self.get(blob_hash)) is not None:
            if len(self._known) >= REMEMBERED:
                self._known.clear()
            # What has been noted meanwhile is newer.
            known = self._known.setdefault(
                blob_hash, Known(record.size, record.stamp, record.verified_at)
            )
        return known

    def remove(self, record: BlobRecord, *, along: Sequence[Statement] = ()) -> None:
        """Forget a blob, also for the journal's sake; returns once that is on disk.

        `along` is committed with it.
        """
        tables = ("blob", "further_name", "journal")
        deletions = [f"DELETE FROM {table} WHERE hash = ?" for table in tables]  # noqa: S608
        self._wait([*((deletion, (record.hash,)) for deletion in deletions), *along])
        self._known.pop(record.hash, None)
        self._counted(-1, -record.size, -record.saved)

    def write(self, statement: Statement) -> None:
        """Carry out what belongs to no record; returns once that is on disk."""
        self._wait([statement])

    def totals(self) -> Totals:
        """Return the totals, kept up to date in memory: every heartbeat asks for them."""
        return self._totals

    def _counted(self, count: int, size: int, saved: int) -> None:
        with self._counting:
            now = self._totals
            self._totals = Totals(now.count + count, now.size + size, now.saved + saved)

    def _wait(self, statements: Sequence[Statement]) -> None:
        wait_for(self._database.write_all(statements))


def _log_failure(write: Future[None]) -> None:
    if (error := write.exception()) is not None:
        logger.warning("A further name of a blob is not noted: %s", error)
