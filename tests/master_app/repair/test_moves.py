"""Blobs are brought to where placement wants them, and never have too few copies on the way."""

from collections.abc import Iterator, Sequence
from io import StringIO
from threading import Event
from typing import Any

import pytest
from django.contrib.auth import get_user_model
from django.core.management import CommandError, call_command
from django.test import Client
from django.urls import reverse

from master_app import node_client, services
from master_app.models import MoveTask, Replica
from master_app.repair import moves
from master_app.repair.census import CensusTaker
from master_app.repair.repairer import Repairer
from mini_dropbox import placement
from mini_dropbox.wire import (
    CopyOrder,
    CopyResult,
    CopyStatus,
    RemovalOrder,
    RemovalResult,
    RemovalStatus,
)
from tests.support.records import add_file, add_node

pytestmark = pytest.mark.django_db


class FakeNodes:
    """Copies and removes as it is told; notes how many copies a blob had at each removal."""

    def __init__(self) -> None:
        self.removed: list[tuple[str, str]] = []
        self.fewest = 9
        self.keeping = False
        self.failing = False

    def order_copies(self, *, base_url: str, orders: Sequence[CopyOrder]) -> list[CopyResult]:
        status = CopyStatus.FAILED if self.failing else CopyStatus.MADE
        return [CopyResult(hash=o.hash, status=status, reason="full") for o in orders]

    def order_removals(
        self, *, base_url: str, orders: Sequence[RemovalOrder]
    ) -> list[RemovalResult]:
        for order in orders:
            left = Replica.objects.filter(blob__hash=order.hash).count()
            self.fewest = min(self.fewest, left)
        if not self.keeping:
            self.removed += [(base_url[-4:], order.hash) for order in orders]
        status = RemovalStatus.KEPT if self.keeping else RemovalStatus.REMOVED
        return [RemovalResult(hash=o.hash, status=status, reason="busy") for o in orders]


@pytest.fixture
def nodes(monkeypatch: pytest.MonkeyPatch) -> FakeNodes:
    for node_id in ("8001", "8002", "8003"):
        add_node(node_id, outbox_count=0)
    fake = FakeNodes()
    monkeypatch.setattr(node_client, "order_copies", fake.order_copies)
    monkeypatch.setattr(node_client, "order_removals", fake.order_removals)
    return fake


@pytest.fixture
def repairer(nodes: FakeNodes) -> Iterator[Repairer]:
    repairer = Repairer(Event())
    yield repairer
    repairer.close()


def homes(blob_hash: str) -> set[str]:
    ranked = placement.rank(services.cluster_map().nodes, blob_hash)
    return {node.node_id for node in ranked[:2]}


def holders(blob_hash: str) -> set[str]:
    found = Replica.objects.filter(blob__hash=blob_hash)
    return set(found.values_list("node__node_id", flat=True))


def rebalance(**options: Any) -> str:
    output = StringIO()
    call_command("rebalance", stdout=output, **options)
    return output.getvalue()


def add_files(count: int) -> list[str]:
    """Return the hashes of files that are on the first two nodes, as before a third came."""
    return [add_file(f"{number}.txt").blob.hash for number in range(count)]


def test_every_blob_comes_to_its_homes(repairer: Repairer, nodes: FakeNodes) -> None:
    hashes = add_files(30)
    elsewhere = [each for each in hashes if homes(each) != {"8001", "8002"}]
    assert 5 < len(elsewhere) < 30

    said = rebalance(no_wait=True)
    assert f"{len(elsewhere)} blobs are not where placement wants them" in said
    assert MoveTask.objects.count() == len(elsewhere)
    repairer.step()

    assert all(holders(each) == homes(each) for each in hashes)
    assert {blob_hash for _, blob_hash in nodes.removed} == set(elsewhere)
    assert nodes.fewest == 2
    assert not MoveTask.objects.exists()


def test_a_dry_run_notes_nothing(nodes: FakeNodes) -> None:
    add_files(30)
    assert "copies to make" in rebalance(dry_run=True)
    assert not MoveTask.objects.exists()


def test_moving_is_cancelled(nodes: FakeNodes) -> None:
    add_files(30)
    rebalance(no_wait=True)
    count = MoveTask.objects.count()
    assert f"{count} blobs stay where they are" in rebalance(cancel=True)
    assert not MoveTask.objects.exists()


def test_copies_that_are_too_many_go(repairer: Repairer, nodes: FakeNodes) -> None:
    file = add_file("a.txt", replicas=("8001", "8002", "8003"))
    rebalance(no_wait=True)
    repairer.step()

    assert holders(file.blob.hash) == homes(file.blob.hash)
    assert len(nodes.removed) == 1


def test_what_a_node_keeps_stays_on_record(repairer: Repairer, nodes: FakeNodes) -> None:
    add_file("a.txt", replicas=("8001", "8002", "8003"))
    nodes.keeping = True
    rebalance(no_wait=True)
    repairer.step()

    assert Replica.objects.count() == 3
    assert MoveTask.objects.get().reason.endswith(": busy")


def test_without_its_new_copy_nothing_goes(repairer: Repairer, nodes: FakeNodes) -> None:
    hashes = add_files(20)
    nodes.failing = True
    rebalance(no_wait=True)
    repairer.step()

    assert not nodes.removed
    assert all(holders(each) == {"8001", "8002"} for each in hashes)
    assert {task.attempts for task in MoveTask.objects.all()} == {1}


def test_no_copy_is_released_while_others_are_too_few(nodes: FakeNodes) -> None:
    file = add_file("a.txt", replicas=("8001", "8002"))
    census = CensusTaker(600).take()
    released = moves.replicas_release(
        node=census.keys()["8001"], blobs=[file.blob.pk], counted=census.counted, wanted=2
    )

    assert released == set()
    assert Replica.objects.count() == 2


def test_too_few_nodes_are_said_to_be(nodes: FakeNodes) -> None:
    for node_id in ("8002", "8003"):
        call_command("read_only", node_id, stdout=StringIO())
    with pytest.raises(CommandError, match="1 nodes take any"):
        rebalance(dry_run=True)


def confirmed(admin_client: Client, name: str) -> tuple[str, str]:
    """Open the page that asks, and agree; return what both pages say."""
    url = reverse(f"admin:master_app_movetask_{name}")
    asked = admin_client.get(url).content.decode()
    return asked, admin_client.post(url, follow=True).content.decode()


def test_the_admin_rebalances_and_cancels_after_it_has_shown_the_plan(
    admin_client: Client, nodes: FakeNodes
) -> None:
    add_files(30)
    listed = admin_client.get(reverse("admin:master_app_movetask_changelist")).content.decode()
    assert reverse("admin:master_app_movetask_rebalance") in listed
    admin_client.get(reverse("admin:master_app_movetask_rebalance"))
    assert not MoveTask.objects.exists()

    asked, done = confirmed(admin_client, "rebalance")
    count = MoveTask.objects.count()
    assert count
    assert f"{count} blobs are not where placement wants them" in asked
    assert f"{count} blobs are moved when repair is done" in done

    asked, done = confirmed(admin_client, "cancel")
    assert f"{count} blobs are still to be moved" in asked
    assert f"{count} blobs stay where they are" in done
    assert not MoveTask.objects.exists()


def test_the_admin_says_why_nothing_can_be_moved(admin_client: Client) -> None:
    add_node("8001")
    asked, done = confirmed(admin_client, "rebalance")

    assert "start another node first" in asked
    assert "Nothing is moved: 2 copies of each blob are wanted" in done


def test_who_may_not_operate_nodes_may_not_rebalance(client: Client, nodes: FakeNodes) -> None:
    add_files(30)
    person = get_user_model().objects.create_user("reader", is_staff=True)
    client.force_login(person)

    for name in ("rebalance", "cancel"):
        url = reverse(f"admin:master_app_movetask_{name}")
        assert {client.get(url).status_code, client.post(url).status_code} == {403}
    assert not MoveTask.objects.exists()
