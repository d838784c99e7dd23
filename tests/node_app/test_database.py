"""The node's database: grouped commits, and errors that reach whoever waits."""

import sqlite3
import threading
from collections.abc import Iterator
from concurrent.futures import Future, wait
from pathlib import Path
from typing import Self

import pytest

from node_app.blobindex import COLUMNS
from node_app.database import MAX_GROUP, NodeDatabase

INSERT = "INSERT INTO outbox (registration) VALUES (?)"
SECONDS = 10


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "node.sqlite3"


@pytest.fixture
def database(path: Path) -> Iterator[NodeDatabase]:
    opened = NodeDatabase(path)
    yield opened
    opened.close()


def texts(connection: NodeDatabase | sqlite3.Connection) -> list[str]:
    sql = "SELECT registration FROM outbox ORDER BY id"
    if isinstance(connection, NodeDatabase):
        return [str(row[0]) for row in connection.read(sql)]
    return [str(row[0]) for row in connection.execute(sql)]


class Lock:
    """Holds the database's write lock from outside, so that writes have to gather."""

    def __init__(self, path: Path) -> None:
        self.connection = sqlite3.connect(path, isolation_level=None)

    def __enter__(self) -> Self:
        self.connection.execute("BEGIN IMMEDIATE")
        return self

    def __exit__(self, *_: object) -> None:
        self.connection.execute("ROLLBACK")
        self.connection.close()


def test_a_write_is_done_only_once_others_can_see_it(database: NodeDatabase, path: Path) -> None:
    database.write(INSERT, ("one",)).result(SECONDS)

    other = sqlite3.connect(path)
    assert texts(other) == ["one"]
    other.close()


def test_a_write_is_not_done_before_it_is_committed(database: NodeDatabase, path: Path) -> None:
    with Lock(path):
        future = database.write(INSERT, ("one",))
        assert texts(database) == []
        assert not future.done()

    future.result(SECONDS)
    assert texts(database) == ["one"]


def test_what_waits_together_is_committed_together(database: NodeDatabase, path: Path) -> None:
    commits: list[str] = []
    database._writer.set_trace_callback(
        lambda sql: commits.append(sql) if sql == "COMMIT" else None
    )
    with Lock(path):
        futures = [database.write(INSERT, (str(number),)) for number in range(MAX_GROUP + 10)]

    wait(futures, SECONDS)

    assert texts(database) == [str(number) for number in range(MAX_GROUP + 10)]
    # The first may have gone alone, before the others came.
    assert len(commits) <= 3


def test_writes_are_durable_and_readers_do_not_wait_for_them(database: NodeDatabase) -> None:
    for connection in (database._writer, database._reader):
        assert connection.execute("PRAGMA synchronous").fetchall() == [(2,)]
        assert connection.execute("PRAGMA journal_mode").fetchall() == [("wal",)]


FIRST_VERSION = """
CREATE TABLE blob (
    hash TEXT PRIMARY KEY,
    sha256 TEXT NOT NULL,
    size INTEGER NOT NULL,
    name TEXT NOT NULL,
    content_type TEXT NOT NULL,
    stored_at REAL NOT NULL
) WITHOUT ROWID;
INSERT INTO blob VALUES ('old', 'sha256', 5, 'old.txt', 'text/plain', 1.5);
"""


def test_a_file_of_an_earlier_version_is_upgraded_in_place_and_only_once(path: Path) -> None:
    earlier = sqlite3.connect(path)
    earlier.executescript(FIRST_VERSION)
    earlier.close()

    for _ in range(2):
        database = NodeDatabase(path)
        row = ("old", "sha256", 5, "old.txt", "text/plain", 1.5, "", None, "", None)
        assert database.read(f"SELECT {COLUMNS} FROM blob") == [row]  # noqa: S608  a constant
        database.close()


def test_a_look_for_what_is_untried_reads_no_other_rows(database: NodeDatabase) -> None:
    sql = "SELECT hash FROM blob WHERE stored_size IS NULL AND stored_at <= 5 ORDER BY stored_at"
    ((*_, plan),) = database.read(f"EXPLAIN QUERY PLAN {sql}")
    assert "blob_to_compress" in str(plan)


def test_an_error_reaches_everybody_of_the_group_and_nothing_of_it_is_kept(
    database: NodeDatabase, path: Path
) -> None:
    with Lock(path):
        # The writing thread may take this one alone; what follows is one group.
        first = database.write(INSERT, ("first",))
        statements = [("good", INSERT), ("bad", "INSERT INTO no_such_table VALUES (?)")]
        group: list[Future[None]] = [database.write(sql, (text,)) for text, sql in statements]

    failed = [future.exception(SECONDS) for future in group]

    assert all(isinstance(error, sqlite3.OperationalError) for error in failed)
    assert "good" not in texts(database)
    wait([first], SECONDS)


@pytest.mark.parametrize("value", [2**70, object(), "\ud800"], ids=["huge", "object", "surrogate"])
def test_a_value_that_cannot_be_kept_is_an_error_and_writes_go_on(
    database: NodeDatabase, value: object
) -> None:
    error = database.write(INSERT, (value,)).exception(SECONDS)

    assert error is not None
    database.write(INSERT, ("next",)).result(SECONDS)
    assert texts(database) == ["next"]


def test_writes_go_on_after_an_error(database: NodeDatabase) -> None:
    assert database.write("no sql", ()).exception(SECONDS) is not None

    database.write(INSERT, ("next",)).result(SECONDS)

    assert texts(database) == ["next"]


def test_closing_finishes_what_is_queued(path: Path) -> None:
    database = NodeDatabase(path)
    with Lock(path):
        futures = [database.write(INSERT, (str(number),)) for number in range(600)]
        closing = threading.Thread(target=database.close)
        closing.start()
    closing.join(SECONDS)

    assert not closing.is_alive()
    assert all(future.exception(0) is None for future in futures)
    reopened = NodeDatabase(path)
    assert len(texts(reopened)) == 600
    reopened.close()


def test_a_write_after_the_end_is_an_error_and_no_wait(path: Path) -> None:
    database = NodeDatabase(path)
    database.close()

    error = database.write(INSERT, ("late",)).exception(SECONDS)

    assert isinstance(error, sqlite3.ProgrammingError)


def test_many_threads_read_and_write_at_once(database: NodeDatabase) -> None:
    seen: list[int] = []

    def work(number: int) -> None:
        database.write(INSERT, (str(number),)).result(SECONDS)
        seen.append(len(texts(database)))

    threads = [threading.Thread(target=work, args=(number,)) for number in range(24)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(SECONDS)

    assert len(seen) == 24
    assert max(seen) == 24
    assert sorted(texts(database), key=int) == [str(number) for number in range(24)]
