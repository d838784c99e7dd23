"""What a node has verified: one row a blob, with the SHA-256 that stands beside the MD5.

The blobs are plain files and the index is made from them: without a row, a blob's bytes are
read and hashed before anything is believed of them.
"""

import sqlite3
import threading
from dataclasses import astuple, dataclass
from typing import Final

from node_app.database import NodeDatabase
from node_app.errors import StoreFailed, StoreFull

REMEMBERED_SIZES: Final = 16_384


@dataclass(frozen=True)
class BlobRecord:
    """A verified blob; `size` in bytes, `stored_at` in unix seconds."""

    hash: str
    sha256: str
    size: int
    name: str
    content_type: str
    stored_at: float


@dataclass(frozen=True)
class Totals:
    """How many blobs there are, and their bytes together."""

    count: int
    size: int


class BlobIndex:
    """The table `blob` of a node's database. StoreFull or StoreFailed when it cannot be written."""

    def __init__(self, database: NodeDatabase) -> None:
        self._database = database
        sql = "SELECT COUNT(*), COALESCE(SUM(size), 0) FROM blob"
        ((self._count, self._size),) = database.read(sql)
        self._counting = threading.Lock()
        self._sizes: dict[str, int] = {}

    def put(self, record: BlobRecord) -> None:
        """Keep the record of a blob that has none; returns once it is on disk."""
        self._wait("INSERT INTO blob VALUES (?, ?, ?, ?, ?, ?)", astuple(record))
        self._counted(1, record.size)

    def get(self, blob_hash: str) -> BlobRecord | None:
        rows = self._database.read("SELECT * FROM blob WHERE hash = ?", (blob_hash,))
        return BlobRecord(*rows[0]) if rows else None

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
        """Forget a blob; returns once that is on disk."""
        self._wait("DELETE FROM blob WHERE hash = ?", (record.hash,))
        self._counted(-1, -record.size)

    def totals(self) -> Totals:
        """Return the totals, kept up to date in memory: every heartbeat asks for them."""
        return Totals(self._count, self._size)

    def _counted(self, count: int, size: int) -> None:
        with self._counting:
            self._count += count
            self._size += size

    def _wait(self, sql: str, parameters: tuple[object, ...]) -> None:
        try:
            self._database.write(sql, parameters).result()
        except sqlite3.Error as error:
            if getattr(error, "sqlite_errorcode", None) == sqlite3.SQLITE_FULL:
                raise StoreFull("The disk is full; free some space and try again.") from error
            raise StoreFailed(f"The node's index cannot be written: {error}") from error
