"""The audit finds what it is there to find: tests of faults are worth no more than that."""

import random
from collections.abc import Callable, Iterator
from dataclasses import replace

import pytest

from tests.faults.audit import audit, damaged_replicas, short_of_copies, unreadable
from tests.faults.journal import Acknowledged, Journal
from tests.faults.load import Load
from tests.support.machines import Machines

pytestmark = pytest.mark.faults


@pytest.fixture(scope="module")
def used(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machines]:
    """Start a cluster whose files nobody needs."""
    cluster = Machines(tmp_path_factory.mktemp("audit"), node_count=2, HEARTBEAT_SECONDS="0.3")
    try:
        cluster.start()
        cluster.wait_until_ready()
        yield cluster
    finally:
        cluster.stop()


@pytest.fixture
def journal(used: Machines) -> Journal:
    """Return the journal of uploads that the audit has nothing against."""
    with Load(used.nodes, seed=random.randrange(10_000)) as load:
        load.wait_for(10)
    journal = load.journal
    names = {record["name"] for record in used.master.get("/list").json()}
    for name in names - journal.names_sent:
        journal.sending(name)
    audit(used, journal)
    return journal


def flip_a_byte(cluster: Machines, entry: Acknowledged) -> None:
    path = cluster.blob_paths(entry.hash)[0]
    content = bytearray(path.read_bytes())
    content[100] ^= 1
    path.write_bytes(content)


def remove_one(cluster: Machines, entry: Acknowledged) -> None:
    cluster.blob_paths(entry.hash)[0].unlink()


def remove_all(cluster: Machines, entry: Acknowledged) -> None:
    for path in cluster.blob_paths(entry.hash):
        path.unlink()


def test_an_upload_that_is_in_no_list_is_found(used: Machines, journal: Journal) -> None:
    known = journal.entries[0]
    journal.sending("never registered")
    journal.acknowledged(replace(known, name="never registered"))

    with pytest.raises(AssertionError, match="not listed"):
        audit(used, journal)


def test_a_name_that_nobody_sent_is_found(used: Machines, journal: Journal) -> None:
    assert used.nodes[0].upload(b"nobody's", "nobody's.bin").ok

    with pytest.raises(AssertionError, match="never sent"):
        audit(used, journal)


def test_a_file_that_was_deleted_and_is_there_is_found(used: Machines, journal: Journal) -> None:
    name = journal.entries[0].name
    journal.deleting(name)
    audit(used, journal)
    journal.deleted(name)

    with pytest.raises(AssertionError, match="deleted and listed"):
        audit(used, journal)


@pytest.mark.parametrize(
    ("spoil", "find"),
    [
        (flip_a_byte, lambda cluster, _: damaged_replicas(cluster)),
        (remove_one, lambda cluster, entry: short_of_copies(cluster, [entry], 2)),
        (remove_all, lambda cluster, entry: unreadable(cluster.nodes, [entry])),
    ],
)
def test_a_replica_that_was_spoilt_is_found(
    used: Machines,
    journal: Journal,
    spoil: Callable[[Machines, Acknowledged], None],
    find: Callable[[Machines, Acknowledged], list[object]],
) -> None:
    entry = journal.entries[0]
    whole = {path: path.read_bytes() for path in used.blob_paths(entry.hash)}
    assert not find(used, entry)
    spoil(used, entry)

    # The parts of the audit one by one: nodes mend what its other parts make them notice.
    assert find(used, entry)

    for path, content in whole.items():
        path.write_bytes(content)
