"""What a node has verified: one row a blob, with the SHA-256 that stands beside the MD5.

The blobs are plain files and the index is made from them: without a row, a blob's bytes are
read and hashed before anything is believed of them.
"""

import threading
from collections.abc import Sequence
from dataclasses import dataclass
from operator import attrgetter
from typing import Final

from node_app.database import NodeDatabase, Statement, wait_for

REMEMBERED_SIZES: Final = 16_384
COLUMNS: Final = "hash, sha256, size, name, content_type, stored_at, encoding, stored_size"
_row: Final = attrgetter(*COLUMNS.split(", "))


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
        deletions = [f"DELETE FROM {table} WHERE hash = ?" for table in ("blob", "journal")]  # noqa: S608
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
