"""A node's own SQLite file, with grouped commits.

Writers wait until their rows are on disk. What waits together is committed together: one
fsync serves all who came while the one before was under way.
"""

import contextlib
import queue
import sqlite3
import threading
from collections.abc import Sequence
from concurrent.futures import Future
from pathlib import Path
from typing import Any, Final

from node_app.errors import StoreFailed, StoreFull

MAX_GROUP: Final = 256

SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS blob (
    hash TEXT PRIMARY KEY,
    sha256 TEXT NOT NULL,
    size INTEGER NOT NULL,
    name TEXT NOT NULL,
    content_type TEXT NOT NULL,
    stored_at REAL NOT NULL,
    encoding TEXT NOT NULL DEFAULT '',
    stored_size INTEGER,
    stamp TEXT NOT NULL DEFAULT '',
    verified_at REAL
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS further_name (
    hash TEXT NOT NULL,
    name TEXT NOT NULL,
    content_type TEXT NOT NULL,
    stored_at REAL NOT NULL,
    PRIMARY KEY (hash, name)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS journal (
    id INTEGER PRIMARY KEY,
    hash TEXT NOT NULL,
    content BLOB NOT NULL
);
CREATE TABLE IF NOT EXISTS outbox (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    registration TEXT NOT NULL
);
CREATE TABLE IF NOT EXISTS refused (
    registration TEXT PRIMARY KEY,
    reason TEXT NOT NULL
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS loss (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    hash TEXT NOT NULL,
    reason TEXT NOT NULL,
    found_by TEXT NOT NULL,
    at REAL NOT NULL
);
CREATE TABLE IF NOT EXISTS upload (
    id TEXT PRIMARY KEY,
    length INTEGER,
    received INTEGER NOT NULL,
    name TEXT NOT NULL,
    content_type TEXT NOT NULL,
    metadata TEXT NOT NULL,
    concat TEXT NOT NULL,
    idle_seconds REAL NOT NULL,
    stored TEXT
) WITHOUT ROWID;
"""

# Columns that files of earlier versions do not have, and how they are added.
ADDED_COLUMNS: Final = (
    ("blob", "encoding", "ALTER TABLE blob ADD COLUMN encoding TEXT NOT NULL DEFAULT ''"),
    ("blob", "stored_size", "ALTER TABLE blob ADD COLUMN stored_size INTEGER"),
    ("blob", "stamp", "ALTER TABLE blob ADD COLUMN stamp TEXT NOT NULL DEFAULT ''"),
    ("blob", "verified_at", "ALTER TABLE blob ADD COLUMN verified_at REAL"),
)
# What needs all columns to be there.
INDEXES: Final = """
CREATE INDEX IF NOT EXISTS blob_to_compress ON blob (stored_at) WHERE stored_size IS NULL;
CREATE INDEX IF NOT EXISTS blob_to_scrub ON blob (verified_at);
"""

Statement = tuple[str, Sequence[Any]]
_Write = tuple[Sequence[Statement], Future[None]]


class NodeDatabase:
    """One file, one writing thread, one reading connection. Errors are sqlite3's own.

    What is committed together fails together: an error reaches every writer of its group.
    """

    def __init__(self, path: Path) -> None:
        self._writes: queue.SimpleQueue[_Write | None] = queue.SimpleQueue()
        self._is_closed = False
        self._writer = self._connect(path)
        self._upgrade()
        self._reader = self._connect(path)
        self._reading = threading.Lock()
        self._thread = threading.Thread(target=self._write_loop, name="node-database", daemon=True)
        self._thread.start()

    def write(self, sql: str, parameters: Sequence[Any]) -> Future[None]:
        """Queue one statement; the future is done once the row is on disk."""
        return self.write_all([(sql, parameters)])

    def write_all(self, statements: Sequence[Statement]) -> Future[None]:
        """Queue several; the future is done once all of it is on disk."""
        future: Future[None] = Future()
        self._writes.put((statements, future))
        if self._is_closed:
            self._refuse_rest()
        return future

    def read(self, sql: str, parameters: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        """Return the rows of one query over what is committed."""
        with self._reading:
            return self._reader.execute(sql, parameters).fetchall()

    def probe(self) -> None:
        """Put a page on disk, for good; StoreFull or StoreFailed when that is not possible."""
        # It writes a number that nobody reads, to the first page of the file.
        wait_for(self.write("PRAGMA user_version = 0", ()))

    def close(self) -> None:
        """Finish what is queued and close the file."""
        self._writes.put(None)
        self._thread.join()
        self._writer.close()
        with self._reading:
            self._reader.close()

    @staticmethod
    def _connect(path: Path) -> sqlite3.Connection:
        connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        # FULL, because NORMAL loses committed rows when the power is cut.
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA synchronous=FULL")
        return connection

    def _upgrade(self) -> None:
        """Make what is missing, in a new file or in one of an earlier version."""
        self._writer.executescript(SCHEMA)
        for table, column, statement in ADDED_COLUMNS:
            found = self._writer.execute("SELECT name FROM pragma_table_info(?)", (table,))
            if (column,) not in found.fetchall():
                self._writer.execute(statement)
        self._writer.executescript(INDEXES)

    def _write_loop(self) -> None:
        while (first := self._writes.get()) is not None:
            group, closing = [first], False
            with contextlib.suppress(queue.Empty):
                while len(group) < MAX_GROUP and not closing:
                    following = self._writes.get_nowait()
                    if following is None:
                        closing = True
                    else:
                        group.append(following)
            self._commit(group)
            if closing:
                break
        self._is_closed = True
        self._refuse_rest()

    def _refuse_rest(self) -> None:
        """Let nobody wait for ever for what came after the end."""
        with contextlib.suppress(queue.Empty):
            while True:
                if late := self._writes.get_nowait():
                    late[1].set_exception(sqlite3.ProgrammingError("The database is closed."))

    def _commit(self, group: Sequence[_Write]) -> None:
        try:
            self._writer.execute("BEGIN IMMEDIATE")
            for statements, _ in group:
                for sql, parameters in statements:
                    self._writer.execute(sql, parameters)
            self._writer.execute("COMMIT")
        except Exception as error:  # noqa: BLE001  All have waiters, and the thread must go on.
            if self._writer.in_transaction:
                with contextlib.suppress(sqlite3.Error):
                    self._writer.execute("ROLLBACK")
            for _, future in group:
                future.set_exception(error)
        else:
            for _, future in group:
                future.set_result(None)


def wait_for(write: Future[None]) -> None:
    """Return once a write is on disk; StoreFull or StoreFailed when it cannot be put there."""
    try:
        write.result()
    except sqlite3.Error as error:
        if getattr(error, "sqlite_errorcode", None) == sqlite3.SQLITE_FULL:
            raise StoreFull("The disk is full; free some space and try again.") from error
        raise StoreFailed(f"The node's database cannot be written: {error}") from error
