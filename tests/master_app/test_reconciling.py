"""Nodes are compared with the books, both ways."""

import hashlib
from collections.abc import Iterator
from io import StringIO
from typing import Any

import pytest
from django.core.management import CommandError, call_command

from master_app.adoption import reconciling
from master_app.adoption.reconciling import RECONCILE_SECONDS, Reconciled, node_reconcile
from master_app.collection import selectors, services
from master_app.models import Blob, Node, Orphan, Removal, RepairTask, Replica, Tombstone
from mini_dropbox.wire import Holding
from tests.support.inventory_server import InventoryServer, serve_inventory
from tests.support.records import add_file, add_node

pytestmark = pytest.mark.django_db

CLUSTER, STORE = "c" * 32, "a" * 32


def holding(name: str, **values: Any) -> Holding:
    body = name.encode()
    said: dict[str, Any] = {
        "hash": hashlib.md5(body, usedforsecurity=False).hexdigest(),
        "sha256": hashlib.sha256(body).hexdigest(),
        "size": len(body),
        "name": name,
        "content_type": "",
        "stored_at": 1_700_000_000.0,
    }
    return Holding(**{**said, **values})


@pytest.fixture
def server() -> Iterator[InventoryServer]:
    with serve_inventory(node_id="8001", store_id=STORE, cluster_id=CLUSTER) as server:
        yield server


@pytest.fixture
def node(server: InventoryServer) -> Node:
    add_node("8002", outbox_count=0, store_id="b" * 32, url=server.url)
    return add_node("8001", outbox_count=0, store_id=STORE, url=server.url)


def holders(name: str) -> set[str]:
    copies = Replica.objects.filter(blob__files__name=name)
    return set(copies.values_list("node__node_id", flat=True))


def test_what_is_as_it_should_be_stays(node: Node, server: InventoryServer) -> None:
    add_file("a.txt")
    server.holdings = [holding("a.txt")]

    assert node_reconcile(node=node) == Reconciled()
    assert holders("a.txt") == {"8001", "8002"}
    assert not RepairTask.objects.exists()


def test_a_copy_that_is_not_there_goes_from_the_record_and_is_repaired(
    node: Node, server: InventoryServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reconciling, "PAGE_ROWS", 2)
    for number in range(7):
        add_file(f"{number}.txt")
    server.holdings = [holding(f"{number}.txt") for number in range(5)]
    server.holdings[0] = holding("0.txt", sha256="0" * 64)

    assert node_reconcile(node=node).missing == 3
    assert holders("6.txt") == holders("0.txt") == {"8002"}
    assert {task.copies for task in RepairTask.objects.all()} == {1}
    assert RepairTask.objects.count() == 3


def test_a_copy_that_nobody_noted_is_noted(node: Node, server: InventoryServer) -> None:
    add_file("a.txt", replicas=("8002",))
    server.holdings = [holding("a.txt")]

    assert node_reconcile(node=node) == Reconciled(noted=1)
    assert holders("a.txt") == {"8001", "8002"}


def test_what_was_deleted_is_removed_from_a_node_that_brings_it_back(
    node: Node, server: InventoryServer
) -> None:
    file = add_file("a.txt")
    services.files_delete(keys=[file.pk])
    services.blobs_bury(keys=[file.blob.pk])
    Removal.objects.all().delete()
    server.holdings = [holding("a.txt")]

    assert node_reconcile(node=node) == Reconciled(deleted=1)
    assert Removal.objects.get().node == node
    assert not Blob.objects.exists()
    assert not Orphan.objects.exists()


def test_what_nobody_knows_is_an_orphan_until_somebody_does(
    node: Node, server: InventoryServer
) -> None:
    server.holdings = [holding("a.txt"), holding("b.txt")]
    assert node_reconcile(node=node).orphans == 2
    assert selectors.orphans() == {"orphans": 2, "orphan_bytes": 10}

    add_file("a.txt", replicas=())
    assert node_reconcile(node=node) == Reconciled(noted=1, orphans=1)
    assert Orphan.objects.get().hash == holding("b.txt").hash
    server.holdings = []
    node_reconcile(node=node)
    assert not Orphan.objects.exists()


def orphans(**options: Any) -> str:
    output = StringIO()
    call_command("orphans", stdout=output, **options)
    return output.getvalue()


def test_orphans_go_after_the_grace_period_and_only_when_somebody_says_so(
    node: Node, server: InventoryServer
) -> None:
    server.holdings = [holding("a.txt")]
    Node.objects.filter(node_id="8002").delete()
    assert "1 copies, 5" in orphans()
    assert "0 copies are removed" in orphans(remove=True)
    services.clock_advance(seconds=24 * 3600)
    assert "1 copies are removed" in orphans(remove=True)

    assert Tombstone.objects.get().hash == holding("a.txt").hash
    assert Removal.objects.get().node == node


def test_an_orphan_that_was_registered_meanwhile_stays(node: Node) -> None:
    each = holding("a.txt")
    Orphan.objects.create(node=node, hash=each.hash, sha256=each.sha256, size=5, found_at=0)
    add_file("a.txt")
    services.clock_advance(seconds=100)

    assert services.orphans_bury(grace_seconds=0) == 0
    assert not Tombstone.objects.exists()


def test_orphans_stay_while_a_node_is_away(node: Node, server: InventoryServer) -> None:
    add_node("8003", silent_seconds=3600)
    with pytest.raises(CommandError, match="node 8003 is down"):
        orphans(remove=True)


def test_a_node_is_due_once_a_day_and_when_it_comes_back(node: Node) -> None:
    was_down: set[int] = set()
    Node.objects.filter(node_id="8002").delete()
    assert reconciling._due(was_down) == []
    services.clock_advance(seconds=RECONCILE_SECONDS)
    assert reconciling._due(was_down) == [node]
    Node.objects.update(reconciled_at=services.clock_now())
    assert reconciling._due(was_down) == []

    heartbeat = Node.objects.get().last_heartbeat_at
    Node.objects.update(last_heartbeat_at=heartbeat.replace(year=2020))
    assert reconciling._due(was_down) == []
    Node.objects.update(last_heartbeat_at=heartbeat)
    assert reconciling._due(was_down) == [node]
