"""The loop that buries, and tells nodes what to remove."""

import re
from collections.abc import Sequence
from io import StringIO
from threading import Event
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.test import Client
from django.urls import reverse

from master_app import node_client
from master_app.collection import collector as module
from master_app.collection import services
from master_app.collection.collector import Collector
from master_app.models import Blob, File, Removal, Tombstone
from master_app.node_client import NodeRequestError
from mini_dropbox.wire import RemovalOrder, RemovalResult, RemovalStatus
from tests.support.records import add_file, add_node

pytestmark = pytest.mark.django_db

GRACE = 24 * 3600.0


class FakeNodes:
    """Removes what it is told to, or not."""

    def __init__(self) -> None:
        self.orders: list[tuple[str, str]] = []
        self.keeping: set[str] = set()
        self.silent: set[str] = set()

    def order_removals(
        self, *, base_url: str, orders: Sequence[RemovalOrder]
    ) -> list[RemovalResult]:
        node_id = base_url[-4:]
        if node_id in self.silent:
            raise NodeRequestError("no answer")
        self.orders += [(node_id, order.hash) for order in orders]
        assert {order.untouched_seconds for order in orders} == {600.0}
        kept = RemovalStatus.KEPT if node_id in self.keeping else RemovalStatus.REMOVED
        return [RemovalResult(hash=order.hash, status=kept, reason="busy") for order in orders]


@pytest.fixture
def nodes(monkeypatch: pytest.MonkeyPatch) -> FakeNodes:
    for node_id in ("8001", "8002"):
        add_node(node_id, outbox_count=0)
    fake = FakeNodes()
    monkeypatch.setattr(node_client, "order_removals", fake.order_removals)
    return fake


class Clock:
    """Seconds that pass when the test says so."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def collector(nodes: FakeNodes, clock: Clock) -> Collector:
    return Collector(Event(), clock=clock)


def deleted(name: str) -> str:
    """Return the hash of a file that has been deleted."""
    file = add_file(name)
    services.files_delete(keys=[file.pk])
    return file.blob.hash


def test_nothing_goes_before_the_grace_period_is_over(
    collector: Collector, clock: Clock, nodes: FakeNodes
) -> None:
    deleted("a.txt")
    collector.step()
    services.clock_advance(seconds=GRACE - 30)
    clock.now += 29
    collector.step()

    assert Blob.objects.exists()
    assert not nodes.orders


def test_then_every_node_is_told_once(collector: Collector, clock: Clock, nodes: FakeNodes) -> None:
    blob_hash = deleted("a.txt")
    kept = add_file("b.txt")
    services.clock_advance(seconds=GRACE)
    collector.step()
    collector.step()

    assert nodes.orders == [("8001", blob_hash), ("8002", blob_hash)]
    assert [blob.hash for blob in Blob.objects.all()] == [kept.blob.hash]
    assert Tombstone.objects.get().hash == blob_hash
    assert not Removal.objects.exists()
    assert (collector.collected.buried_blobs, collector.collected.removed_replicas) == (1, 2)


def test_only_time_that_a_master_has_seen_passes(collector: Collector, clock: Clock) -> None:
    collector.step()
    clock.now += 2 * 24 * 3600
    collector.step()
    assert services.clock_now() == module.LONGEST_STEP_SECONDS
    clock.now += 10
    collector.step()
    assert services.clock_now() == module.LONGEST_STEP_SECONDS + 10


def test_only_one_lets_the_clock_go_on(nodes: FakeNodes, clock: Clock) -> None:
    first, second = (Collector(Event(), clock=clock) for _ in range(2))
    for each in (first, second):
        each.step()
    clock.now += 10
    for each in (first, second):
        each.step()
    assert services.clock_now() == 10

    first.close()
    second.step()
    clock.now += 10
    second.step()
    assert services.clock_now() == 20


def test_nothing_is_buried_while_a_node_is_away(collector: Collector, nodes: FakeNodes) -> None:
    add_node("8003", silent_seconds=3600, outbox_count=0)
    deleted("a.txt")
    services.clock_advance(seconds=GRACE)
    collector.step()

    assert Blob.objects.exists()
    assert not nodes.orders


def test_a_node_that_keeps_or_is_silent_is_asked_again_later(
    collector: Collector, nodes: FakeNodes
) -> None:
    blob_hash = deleted("a.txt")
    services.clock_advance(seconds=GRACE)
    nodes.keeping.add("8001")
    nodes.silent.add("8002")
    collector.step()
    collector.step()
    assert {removal.reason for removal in Removal.objects.all()} == {"busy", "no answer"}
    assert len(nodes.orders) == 1

    nodes.keeping.clear()
    nodes.silent.clear()
    services.clock_advance(seconds=60)
    collector.step()
    assert not Removal.objects.exists()
    assert nodes.orders[-2:] == [("8001", blob_hash), ("8002", blob_hash)]


def collect(**options: Any) -> str:
    output = StringIO()
    call_command("collect", stdout=output, **options)
    return output.getvalue()


def test_the_command_says_what_it_would_remove(nodes: FakeNodes) -> None:
    blob_hash = deleted("old.txt")
    services.clock_advance(seconds=GRACE)
    deleted("new.txt")
    text = re.sub(r"\s+", " ", collect(dry_run=True))

    assert "1 blobs 7 bytes to be removed" in text
    assert "1 blobs 7 bytes deleted, in the grace period" in text
    assert f"{blob_hash} 7 bytes on 8001, 8002" in text
    assert not nodes.orders
    assert Blob.objects.count() == 2


def test_the_command_removes(nodes: FakeNodes) -> None:
    deleted("old.txt")
    services.clock_advance(seconds=GRACE)

    assert "1 blobs given up, 2 copies removed." in collect()
    assert not Blob.objects.exists()


def test_the_command_says_what_keeps_it_from_removing(nodes: FakeNodes) -> None:
    add_node("8003", outbox_count=7)
    with pytest.raises(CommandError, match="node 8003 has 7 uploads to register"):
        collect()


def test_the_api_deletes_files_and_tells_what_is_left(client: Client, nodes: FakeNodes) -> None:
    file = add_file("a.txt", b"12345")
    url = f"/api/v1/files/{file.pk}/"

    assert client.delete(url).status_code == 204
    assert client.delete(url).status_code == 404
    assert client.get(url).status_code == 404
    assert client.get("/get", {"hash": file.blob.hash}).status_code == 404
    status = client.get("/api/v1/collection/").json()
    assert (status["unreferenced_blobs"], status["unreferenced_bytes"]) == (1, 5)
    assert (status["due_blobs"], status["grace_seconds"], status["obstacle"]) == (0, GRACE, "")


def test_a_page_of_another_site_deletes_nothing(client: Client) -> None:
    file = add_file("a.txt")
    answer = client.delete(
        f"/api/v1/files/{file.pk}/", headers={"Origin": "http://elsewhere.example"}
    )

    assert answer.status_code == 403
    assert File.objects.exists()


def test_the_admin_deletes_files(admin_client: Client, nodes: FakeNodes) -> None:
    first, second, third = (add_file(name) for name in ("a.txt", "b.txt", "c.txt"))
    url = reverse("admin:master_app_file_delete", args=[first.pk])
    assert admin_client.post(url, {"post": "yes"}).status_code == 302
    chosen = {"action": "delete_selected", "_selected_action": [second.pk], "post": "yes"}
    assert admin_client.post(reverse("admin:master_app_file_changelist"), chosen).status_code == 302

    assert [file.pk for file in File.objects.all()] == [third.pk]
    assert Blob.objects.filter(unreferenced_at__isnull=False).count() == 2
    assert "11 B deleted" not in admin_client.get(reverse("admin:index")).content.decode()
    assert "deleted and kept for now" in admin_client.get(reverse("admin:index")).content.decode()
