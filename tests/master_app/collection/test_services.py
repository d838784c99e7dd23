"""What deletion leaves behind, and what becomes of it."""

from typing import Any

import pytest

from master_app.collection import selectors, services
from master_app.models import Blob, File, Node, Removal, Replica, Tombstone
from master_app.services import file_register, registrations_apply
from tests.support.records import add_file, add_node, registration

pytestmark = pytest.mark.django_db


def delete(*files: File) -> int:
    return services.files_delete(keys=[file.pk for file in files])


def due(grace_seconds: float = 0) -> list[str]:
    return [blob.hash for blob in selectors.collectable(grace_seconds=grace_seconds)]


def bury(*files: File) -> int:
    return services.blobs_bury(keys=[file.blob.pk for file in files])


@pytest.fixture(autouse=True)
def nodes() -> list[Node]:
    return [add_node("8001", outbox_count=0), add_node("8002", outbox_count=0)]


def test_a_deleted_file_leaves_its_blob_for_now() -> None:
    file = add_file("a.txt")

    assert delete(file) == 1
    assert not File.objects.exists()
    assert due() == [file.blob.hash]
    assert Replica.objects.count() == 2


def test_another_file_keeps_the_blob() -> None:
    first, second = add_file("a.txt", b"same"), add_file("b.txt", b"same")
    delete(first)
    assert due() == []
    delete(second)
    assert due() == [first.blob.hash]


def test_what_is_deleted_twice_is_gone_once() -> None:
    file = add_file("a.txt")
    key = file.pk
    assert services.files_delete(keys=[key]) == 1
    assert services.files_delete(keys=[key]) == 0


def test_a_record_that_no_node_has_confirmed_goes_at_once() -> None:
    file_register(blob_hash="test123", name="a.txt", size=1, replicas=[])
    delete(File.objects.get())

    assert not Blob.objects.exists()


def test_the_grace_period_is_over_when_the_service_clock_says_so() -> None:
    services.clock_advance(seconds=50)
    file = add_file("a.txt")
    delete(file)
    assert due(100) == []
    services.clock_advance(seconds=99)
    assert due(100) == []
    services.clock_advance(seconds=1)
    assert due(100) == [file.blob.hash]


@pytest.mark.parametrize("way", ["node", "client"])
def test_a_file_that_comes_again_keeps_the_blob(way: str) -> None:
    file = add_file("a.txt", b"same")
    delete(file)
    if way == "node":
        add_file("b.txt", b"same")
    else:
        file_register(blob_hash=file.blob.hash, name="b.txt", size=4, replicas=[])

    assert due() == []
    assert bury(file) == 0
    assert Blob.objects.count() == 1


def test_burying_looks_once_more_and_leaves_a_tombstone_for_every_node(nodes: list[Node]) -> None:
    first, second = add_file("a.txt"), add_file("b.txt")
    delete(first)

    assert bury(first, second) == 1
    assert [blob.hash for blob in Blob.objects.all()] == [second.blob.hash]
    stone = Tombstone.objects.get()
    assert (stone.hash, stone.sha256, stone.size) == (
        first.blob.hash,
        first.blob.sha256,
        first.blob.size,
    )
    assert {removal.node for removal in Removal.objects.all()} == set(nodes)


def test_what_comes_again_after_its_burial_has_to_be_stored_again() -> None:
    file = add_file("a.txt", b"same")
    delete(file)
    bury(file)
    entry, other = registration("b.txt", b"same"), registration("c.txt")

    statuses = [result.status for result in registrations_apply(registrations=[entry, other])]
    assert statuses == ["store_again", "registered"]
    assert not File.objects.filter(name="b.txt").exists()
    assert not Tombstone.objects.exists()
    assert not Removal.objects.exists()

    (result,) = registrations_apply(registrations=[entry])
    assert result.status == "registered"
    assert File.objects.get(name="b.txt").blob.replicas.count() == 2


def test_a_tombstone_is_no_obstacle_to_another_content() -> None:
    file = add_file("a.txt", b"same")
    delete(file)
    bury(file)
    entry = registration("b.txt", b"same", sha256="0" * 64)

    (result,) = registrations_apply(registrations=[entry])
    assert result.status == "registered"
    assert Tombstone.objects.exists()


def test_two_contents_under_one_address_are_still_told_apart() -> None:
    one, two = registration("a.txt", b"same"), registration("b.txt", b"same", sha256="0" * 64)

    statuses = [result.status for result in registrations_apply(registrations=[one, two])]
    assert statuses == ["registered", "hash_collision"]


def test_removals_are_done_node_by_node_and_put_off_with_a_reason(nodes: list[Node]) -> None:
    file = add_file("a.txt")
    delete(file)
    bury(file)
    first, second = nodes
    services.removals_done(node=first.pk, hashes=[file.blob.hash])
    services.removals_put_off(node=second.pk, reasons={file.blob.hash: "not now"}, seconds=60)

    assert not selectors.due_removals(node=first, limit=10)
    assert not selectors.due_removals(node=second, limit=10)
    services.clock_advance(seconds=60)
    (due_now,) = selectors.due_removals(node=second, limit=10)
    assert due_now.sha256 == file.blob.sha256
    assert Removal.objects.get().reason == "not now"


def test_tombstones_are_forgotten_long_after_every_node_has_obeyed(nodes: list[Node]) -> None:
    files = [add_file("a.txt"), add_file("b.txt")]
    delete(*files)
    bury(*files)
    services.removals_done(node=nodes[0].pk, hashes=[file.blob.hash for file in files])
    services.removals_done(node=nodes[1].pk, hashes=[files[0].blob.hash])
    assert services.tombstones_forget(limit=10) == 0
    services.clock_advance(seconds=services.REMEMBERED_SECONDS + 1)

    assert services.tombstones_forget(limit=10) == 1
    assert Tombstone.objects.get().hash == files[1].blob.hash


@pytest.mark.parametrize(
    ("values", "obstacle"),
    [
        ({"outbox_count": 0}, ""),
        ({"outbox_count": 3}, "node 8003 has 3 uploads to register"),
        ({}, "node 8003 does not say whether it has uploads to register"),
        (
            {"outbox_count": 0, "silent_seconds": 3600},
            "node 8003 is down: nobody knows what it has to register",
        ),
    ],
)
def test_nothing_is_removed_while_a_node_may_have_uploads_that_nobody_knows(
    values: dict[str, Any], obstacle: str
) -> None:
    add_node("8003", **values)

    assert selectors.obstacle() == obstacle
