"""The index of verified blobs."""

import sqlite3
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from node_app.blobindex import BlobIndex, BlobRecord, Totals
from node_app.database import NodeDatabase
from node_app.errors import StoreFailed, StoreFull


@pytest.fixture
def database(tmp_path: Path) -> Iterator[NodeDatabase]:
    opened = NodeDatabase(tmp_path / "node.sqlite3")
    yield opened
    opened.close()


def record(number: int, size: int = 10) -> BlobRecord:
    return BlobRecord(f"{number:032x}", f"{number:064x}", size, "näme.txt", "text/plain", 12.5)


def test_a_record_is_read_back_as_it_was(database: NodeDatabase) -> None:
    index = BlobIndex(database)

    index.put(record(1, size=2**40))

    assert index.get(record(1).hash) == record(1, size=2**40)
    assert index.get(record(2).hash) is None


def test_the_totals_follow_what_is_put_and_removed(database: NodeDatabase) -> None:
    index = BlobIndex(database)
    assert index.totals() == Totals(0, 0)

    index.put(record(1, size=5))
    index.put(record(2, size=0))
    index.put(record(3, size=7))
    index.remove(record(1, size=5))

    assert index.totals() == BlobIndex(database).totals() == Totals(2, 7)


def test_a_record_that_cannot_be_written_is_not_counted(database: NodeDatabase) -> None:
    index = BlobIndex(database)
    index.put(record(1))

    with pytest.raises(StoreFailed) as caught:
        index.put(record(1))

    assert isinstance(caught.value.__cause__, sqlite3.IntegrityError)
    assert index.totals() == Totals(1, 10)


def test_a_full_disk_is_told_apart_from_a_failed_one(database: NodeDatabase) -> None:
    index = BlobIndex(database)
    ((pages,),) = database._writer.execute("PRAGMA page_count").fetchall()
    database._writer.execute(f"PRAGMA max_page_count={pages}").fetchall()

    with pytest.raises(StoreFull):
        index.put(replace(record(1), name="n" * 100_000))
