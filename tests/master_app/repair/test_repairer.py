"""Copies are ordered until every blob has enough, and what became of them is written down."""

from collections.abc import Callable, Iterator, Sequence
from datetime import timedelta
from threading import Event
from typing import Any

import pytest
from django.utils import timezone

from master_app import node_client
from master_app.models import Blob, Lease, Node, RepairTask, Replica
from master_app.node_client import NodeRequestError
from master_app.repair import repairer as module
from master_app.repair import selectors, services
from master_app.repair.repairer import (
    LOST,
    REST_SECONDS,
    VAIN_SHARE,
    WAITING,
    Repairer,
)
from mini_dropbox.wire import CopyOrder, CopyResult, CopyStatus
from tests.support.records import add_file, add_node

# Copies are recorded by the thread of the test; those that order them have no database.
pytestmark = pytest.mark.django_db


class FakeNodes:
    """Takes orders for copies, and does what a test wants of it."""

    def __init__(self) -> None:
        self.orders: list[tuple[str, CopyOrder]] = []
        self.failing: dict[str, str] = {}
        self.silent: set[str] = set()
        self.without: dict[str, tuple[str, ...]] = {}
        self.meanwhile: Callable[[], Any] = lambda: None

    def order_copies(self, *, base_url: str, orders: Sequence[CopyOrder]) -> list[CopyResult]:
        if base_url in self.silent:
            raise NodeRequestError(f"POST {base_url}: no answer")
        self.orders += [(base_url, order) for order in orders]
        return [self._result(order) for order in orders]

    def _result(self, order: CopyOrder) -> CopyResult:
        without = self.without.get(order.name, ())
        if order.name in self.failing or without:
            reason = self.failing.get(order.name, "gone")
            return CopyResult(
                hash=order.hash, status=CopyStatus.FAILED, reason=reason, without=without
            )
        return CopyResult(hash=order.hash, status=CopyStatus.MADE)


@pytest.fixture
def nodes(monkeypatch: pytest.MonkeyPatch) -> FakeNodes:
    fake = FakeNodes()
    monkeypatch.setattr(node_client, "order_copies", fake.order_copies)
    return fake


@pytest.fixture
def repairer(nodes: FakeNodes) -> Iterator[Repairer]:
    repairer = Repairer(Event())
    yield repairer
    repairer.close()


def holders(name: str) -> set[str]:
    return set(
        Replica.objects.filter(blob__files__name=name).values_list("node__node_id", flat=True)
    )


def lose(node_id: str) -> None:
    """Let a node's records go, as when its disk has been replaced."""
    Replica.objects.filter(node__node_id=node_id).delete()


def test_an_upload_with_too_few_copies_gets_another(repairer: Repairer, nodes: FakeNodes) -> None:
    for node_id in ("8001", "8002", "8003"):
        add_node(node_id)
    add_file("a.txt", replicas=("8001",), content_type="text/plain")
    assert RepairTask.objects.get().copies == 1

    repairer.step()

    ((url, order),) = nodes.orders
    assert holders("a.txt") == {"8001", url[-4:]}
    assert (order.name, order.content_type, order.sources) == ("a.txt", "text/plain", ("8001",))
    assert not RepairTask.objects.exists()


def test_what_has_enough_copies_is_left_alone(repairer: Repairer, nodes: FakeNodes) -> None:
    for node_id in ("8001", "8002", "8003"):
        add_node(node_id)
    add_file("a.txt", replicas=("8001", "8002"))
    add_file("claimed.txt", replicas=("8001",))
    add_file("claimed.txt", replicas=("8002",))

    repairer.step()

    assert not nodes.orders
    assert not RepairTask.objects.exists()


def test_lost_records_are_found_by_looking_at_all_blobs(
    repairer: Repairer, nodes: FakeNodes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("master_app.repair.scan.PAGE_ROWS", 3)
    for node_id in ("8001", "8002"):
        add_node(node_id)
    names = [f"{number}.txt" for number in range(10)]
    for name in names:
        add_file(name)
    lose("8002")

    repairer.step()

    assert {order.name for _, order in nodes.orders} == set(names)
    assert all(holders(name) == {"8001", "8002"} for name in names)
    assert repairer.progress.copied_blobs == 10
    assert repairer.progress.scan_percent == 100


def test_a_node_that_is_silent_for_too_long_is_replaced(
    nodes: FakeNodes, settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = [1000.0]
    monkeypatch.setattr("master_app.repair.repairer.time.monotonic", lambda: clock[0])
    add_node("8001")
    add_node("8002", silent_seconds=3600)
    add_node("8003")
    add_file("a.txt", replicas=("8001", "8002"))
    repairer = Repairer(Event())
    repairer._census_taker._clock = lambda: clock[0]
    repairer.step()
    assert not nodes.orders

    clock[0] += settings.ENV.repair_grace_seconds
    Node.objects.exclude(node_id="8002").update(last_heartbeat_at=timezone.now())
    repairer.step()
    repairer.close()

    assert holders("a.txt") == {"8001", "8002", "8003"}


def test_the_most_endangered_come_first(
    repairer: Repairer, nodes: FakeNodes, settings: Any
) -> None:
    settings.ENV = settings.ENV.__class__(**{**vars(settings.ENV), "replication_factor": 3})
    for node_id in ("8001", "8002", "8003", "8004"):
        add_node(node_id)
    add_file("two.txt", replicas=("8001", "8002"))
    add_file("one.txt", replicas=("8001",))

    page = selectors.tasks_after(None, limit=1)
    (first,) = selectors.endangered(page.keys)
    assert first.name == "one.txt"

    repairer.step()
    assert len(holders("one.txt")) == len(holders("two.txt")) == 3


def test_a_failure_is_kept_with_its_reason_and_tried_again_later(
    repairer: Repairer, nodes: FakeNodes
) -> None:
    for node_id in ("8001", "8002"):
        add_node(node_id)
    add_file("a.txt", replicas=("8001",))
    nodes.failing["a.txt"] = "its disk is full"

    repairer.step()

    task = RepairTask.objects.get()
    assert (task.attempts, task.reason) == (1, "node 8002: its disk is full")
    assert task.try_at > timezone.now()

    nodes.failing.clear()
    repairer.step()
    assert holders("a.txt") == {"8001"}
    RepairTask.objects.update(try_at=timezone.now())
    repairer._looks_since -= REST_SECONDS
    repairer.step()
    assert holders("a.txt") == {"8001", "8002"}


def test_a_node_that_does_not_answer_fails_its_orders_alone(
    repairer: Repairer, nodes: FakeNodes
) -> None:
    for node_id in ("8001", "8002", "8003"):
        add_node(node_id)
    names = [f"{number}.txt" for number in range(20)]
    for name in names:
        add_file(name, replicas=("8001",))
    nodes.silent.add("http://127.0.0.1:8002")

    repairer.step()

    failed = set(RepairTask.objects.values_list("blob__files__name", flat=True))
    assert failed
    assert failed | {order.name for _, order in nodes.orders} == set(names)
    assert all(task.reason.endswith("no answer") for task in RepairTask.objects.all())


def test_a_source_that_says_it_has_nothing_is_struck_off(
    repairer: Repairer, nodes: FakeNodes
) -> None:
    for node_id in ("8001", "8002", "8003"):
        add_node(node_id)
    add_file("a.txt", replicas=("8001",))
    nodes.without["a.txt"] = ("8001",)

    repairer.step()

    assert holders("a.txt") == set()
    assert RepairTask.objects.get().attempts == 1


def test_without_a_copy_in_reach_the_task_says_so(repairer: Repairer, nodes: FakeNodes) -> None:
    add_node("8001", silent_seconds=3600)
    add_node("8002")
    add_file("lost.txt", replicas=("8001",))

    repairer.step()

    assert RepairTask.objects.get().reason == LOST
    assert repairer.progress.lost == 1


def test_alone_a_node_waits_for_another(repairer: Repairer, nodes: FakeNodes) -> None:
    add_node("8001")
    add_file("a.txt", replicas=("8001",))
    repairer.step()
    assert RepairTask.objects.get().reason == WAITING

    add_node("8002")
    repairer.step()
    assert holders("a.txt") == {"8001", "8002"}


def test_looking_in_vain_takes_little_time_until_the_nodes_change(
    repairer: Repairer, nodes: FakeNodes, monkeypatch: pytest.MonkeyPatch
) -> None:
    seconds, looked = [0.0], []
    endangered = selectors.endangered

    def look(keys: Sequence[int]) -> Any:
        looked.append(len(keys))
        seconds[0] += 10.0
        return endangered(keys)

    monkeypatch.setattr("master_app.repair.repairer.time.thread_time", lambda: seconds[0])
    monkeypatch.setattr(selectors, "endangered", look)
    add_node("8001")
    add_file("a.txt", replicas=("8001",))
    for _ in range(2):
        repairer.step()
    add_file("b.txt", replicas=("8001",))
    repairer._looks_since -= REST_SECONDS
    repairer.step()
    # The new one alone.
    assert looked == [1, 1]

    repairer._looks_since -= 20.0 / VAIN_SHARE
    repairer.step()
    assert looked == [1, 1, 2]
    add_node("8002")
    repairer.step()
    assert holders("b.txt") == {"8001", "8002"}


def test_a_blob_that_means_another_content_meanwhile_gets_no_replica() -> None:
    node = add_node("8002")
    file = add_file("a.txt", replicas=("8001",))

    recorded = services.copies_record(node=node.pk, sha256_by_hash={file.blob.hash: "0" * 64})

    assert recorded == 0
    assert not Replica.objects.exists()


def test_only_one_repairs(nodes: FakeNodes, repairer: Repairer) -> None:
    for node_id in ("8001", "8002"):
        add_node(node_id)
    other = Repairer(Event())
    other.step()
    add_file("a.txt", replicas=("8001",))
    repairer.step()
    assert not nodes.orders

    other.close()
    repairer.step()
    assert len(nodes.orders) == 1


def test_a_restart_goes_on_where_the_backlog_was(nodes: FakeNodes) -> None:
    for node_id in ("8001", "8002"):
        add_node(node_id)
    for number in range(5):
        add_file(f"{number}.txt", replicas=("8001",))
    stopping = Event()
    first = Repairer(stopping)
    stopping.set()
    first.step()
    first.close()
    assert RepairTask.objects.count() == 5

    second = Repairer(Event())
    second.step()
    second.close()
    assert not RepairTask.objects.exists()
    assert Lease.objects.get().state["copied_blobs"] == 0


def test_tasks_of_a_time_to_come_are_tried_nonetheless() -> None:
    add_node("8001")
    add_file("a.txt", replicas=("8001",))
    RepairTask.objects.update(try_at=timezone.now() + timedelta(days=2))

    assert len(selectors.tasks_after(None, limit=10).keys) == 1


def test_pages_of_tasks_neither_repeat_nor_leave_out_any() -> None:
    add_node("8001")
    for number in range(7):
        add_file(f"{number}.txt", replicas=("8001",))
    some = list(Blob.objects.values_list("pk", flat=True))[::2]
    services.tasks_count(copies=dict.fromkeys(some, 0))

    seen: list[int] = []
    position = None
    while (page := selectors.tasks_after(position, limit=2)).keys:
        seen += page.keys
        position = page.position

    assert seen == sorted(some) + sorted(set(Blob.objects.values_list("pk", flat=True)) - set(some))


def test_the_status_counts_what_is_to_be_done(repairer: Repairer, nodes: FakeNodes) -> None:
    add_node("8001")
    add_file("a.txt", b"12345", replicas=("8001",))
    repairer.step()
    status = selectors.status()

    assert status["is_running"]
    assert (status["backlog"], status["backlog_bytes"], status["failing"]) == (1, 5, 0)
    assert status["by_copies"] == [{"copies": 1, "blobs": 1}]


def test_the_loop_survives_a_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    stopping = Event()
    calls: list[int] = []

    def step(_: Repairer) -> None:
        calls.append(1)
        if len(calls) == 2:
            stopping.set()
        raise RuntimeError

    monkeypatch.setattr(module, "PERIOD_SECONDS", 0.01)
    monkeypatch.setattr(Repairer, "step", step)
    module.repair_loop(stopping)

    assert len(calls) == 2
