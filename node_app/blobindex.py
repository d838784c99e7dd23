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
from dataclasses import dataclass
from operator import attrgetter
from typing import Final

from node_app.database import NodeDatabase, Statement, wait_for

logger = logging.getLogger(__name__)

REMEMBERED_SIZES: Final = 16_384
NOTED_SECONDS: Final = 60.0
COLUMNS: Final = "hash, sha256, size, name, content_type, stored_at, encoding, stored_size"
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
    """

    hash: str
    sha256: str
    size: int
    name: str
    content_type: str
    stored_at: float
    encoding: str = ""
    stored_size: int | None = None

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


class BlobIndex:
    """The table `blob` of a node's database. StoreFull or StoreFailed when it cannot be written."""

    def __init__(self, database: NodeDatabase) -> None:
        self._database = database
        sums = "COUNT(*), COALESCE(SUM(size), 0), COALESCE(SUM(size - stored_size), 0)"
        (totals,) = database.read(f"SELECT {sums} FROM blob")  # noqa: S608  a constant
        self._totals = Totals(*totals)
        self._counting = threading.Lock()
        self._sizes: dict[str, int] = {}

    def put(self, records: Sequence[BlobRecord], *, along: Sequence[Statement] = ()) -> None:
        """Keep the records of blobs that have none, all or nothing; returns once on disk.

        `along` is committed with them.
        """
        sql = f"INSERT INTO blob ({COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?)"  # noqa: S608
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

    def set_stored(self, record: BlobRecord, *, encoding: str, stored_size: int) -> None:
        """Note how a known blob stands on disk; returns once that is on disk."""
        sql = "UPDATE blob SET encoding = ?, stored_size = ? WHERE hash = ?"
        self._wait([(sql, (encoding, stored_size, record.hash))])
        self._counted(0, 0, record.size - stored_size - record.saved)

    def size(self, blob_hash: str) -> int | None:
        """Return a verified blob's size in bytes; remembered, for every read asks for it.

        It may be that of a blob removed since: a content's size never changes.
        """
        size = self._sizes.get(blob_hash)
        if size is None and (record := self.get(blob_hash)) is not None:
            if len(self._sizes) >= REMEMBERED_SIZES:
                self._sizes.clear()
            size = self._sizes[blob_hash] = record.size
        return size

    def remove(self, record: BlobRecord) -> None:
        """Forget a blob, also for the journal's sake; returns once that is on disk."""
        tables = ("blob", "further_name", "journal")
        deletions = [f"DELETE FROM {table} WHERE hash = ?" for table in tables]  # noqa: S608
        self._wait([(deletion, (record.hash,)) for deletion in deletions])
        self._counted(-1, -record.size, -record.saved)

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
