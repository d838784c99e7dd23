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

    index.put([record(1, size=2**40)])

    assert index.get(record(1).hash) == record(1, size=2**40)
    assert index.get(record(2).hash) is None


def test_the_totals_follow_what_is_put_and_removed(database: NodeDatabase) -> None:
    index = BlobIndex(database)
    assert index.totals() == Totals(0, 0)

    index.put([record(1, size=5)])
    index.put([record(2, size=0)])
    index.put([record(3, size=7)])
    index.remove(record(1, size=5))

    assert index.totals() == BlobIndex(database).totals() == Totals(2, 7)


def test_only_blobs_that_nobody_has_tried_are_to_be_tried_the_oldest_first(
    database: NodeDatabase,
) -> None:
    index = BlobIndex(database)
    ages = {1: 30.0, 2: 10.0, 3: 20.0, 4: 40.0}
    records = {number: replace(record(number), stored_at=at) for number, at in ages.items()}
    for each in records.values():
        index.put([each])
    index.put([replace(record(5), stored_at=1.0, stored_size=10)])

    assert index.untried(before=30.0, limit=10) == [records[2], records[3], records[1]]
    assert index.untried(before=30.0, limit=1) == [records[2]]

    index.set_stored(records[2], encoding="zstd", stored_size=4)
    index.set_stored(records[3], encoding="", stored_size=10)

    assert index.untried(before=30.0, limit=10) == [records[1]]
    assert index.get(records[2].hash) == replace(records[2], encoding="zstd", stored_size=4)


def test_what_is_saved_follows_what_is_compressed_and_removed(database: NodeDatabase) -> None:
    index = BlobIndex(database)
    for number in (1, 2):
        index.put([record(number, size=100)])
        index.set_stored(record(number, size=100), encoding="zstd", stored_size=30)
    assert index.totals() == BlobIndex(database).totals() == Totals(2, 200, 140)
    assert index.totals().stored_size == 60

    compressed = index.get(record(1).hash)
    assert compressed is not None
    assert compressed.saved == 70
    index.remove(compressed)

    assert index.totals() == BlobIndex(database).totals() == Totals(1, 100, 70)


def test_a_record_that_cannot_be_written_is_not_counted(database: NodeDatabase) -> None:
    index = BlobIndex(database)
    index.put([record(1)])

    with pytest.raises(StoreFailed) as caught:
        index.put([record(1)])

    assert isinstance(caught.value.__cause__, sqlite3.IntegrityError)
    assert index.totals() == Totals(1, 10)


def test_a_full_disk_is_told_apart_from_a_failed_one(database: NodeDatabase) -> None:
    index = BlobIndex(database)
    ((pages,),) = database._writer.execute("PRAGMA page_count").fetchall()
    database._writer.execute(f"PRAGMA max_page_count={pages}").fetchall()

    with pytest.raises(StoreFull):
        index.put([replace(record(1), name="n" * 100_000)])
