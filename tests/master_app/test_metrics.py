"""What the master's `/metrics` shows of its books."""

import json
from datetime import timedelta

import pytest
from django.db import OperationalError
from django.test import Client
from django.urls import URLPattern, URLResolver, get_resolver
from django.utils import timezone

from master_app import metrics, services
from master_app.api.internal import apply_registrations
from master_app.collection import services as collection_services
from master_app.leases import HeldLease
from master_app.metrics import COUNTED_ROUTES, REQUESTS
from master_app.models import Node, RepairTask
from mini_dropbox.request_stats import OTHER
from tests.support.records import GIB, add_file, add_node, registration
from tests.support.scraping import Scrape, shown

pytestmark = pytest.mark.django_db


def seen() -> Scrape:
    return shown(metrics.REGISTRY)


def test_nodes_are_shown_by_state_and_one_by_one() -> None:
    add_node("8001", used_bytes=7)
    add_node("8002", silent_seconds=8, writable=False)
    add_node("8003", silent_seconds=500, capacity_bytes=None, free_bytes=None)

    now = seen()

    states = {state: now.get("cluster_nodes", state=state) for state in ("healthy", "suspect")}
    assert states == {"healthy": 1, "suspect": 1}
    assert now.get("cluster_nodes", state="down") == 1
    assert 0 <= now.get("cluster_node_heartbeat_age_seconds", node="8001") < 5
    assert 500 <= now.get("cluster_node_heartbeat_age_seconds", node="8003") < 505
    assert now.get("cluster_node_capacity_bytes", node="8001") == 100 * GIB
    assert now.get("cluster_node_free_bytes", node="8001") == 75 * GIB
    assert now.get("cluster_node_used_bytes", node="8001") == 7
    assert not now.has("cluster_node_capacity_bytes", node="8003")
    assert now.get("cluster_node_writable", node="8001") == 1
    assert now.has("cluster_node_writable", node="8002")
    assert now.get("cluster_node_writable", node="8002") == 0


def test_a_clock_that_was_set_back_makes_no_age_negative() -> None:
    add_node("8001")
    Node.objects.update(last_heartbeat_at=timezone.now() + timedelta(days=2))

    assert seen().get("cluster_node_heartbeat_age_seconds", node="8001") == 0


def test_files_and_blobs_are_counted_by_the_health_of_their_copies() -> None:
    add_node("8001")
    add_node("8002")
    add_node("8003", silent_seconds=500)
    add_file("whole.txt", replicas=("8001", "8002"))
    add_file("whole-too.txt", replicas=("8001", "8002", "8003"))
    add_file("thin.txt", replicas=("8002", "8003"))
    add_file("gone.txt", replicas=("8003",))
    services.file_register(blob_hash="claimed", name="claimed.txt", size=1, replicas=["8001"])

    now = seen()

    assert now.get("cluster_files") == 5
    health = ("full", "degraded", "lost", "unverified")
    assert [now.get("cluster_blobs", health=each) for each in health] == [2, 1, 1, 1]


def test_repair_is_shown_while_a_master_repairs() -> None:
    add_node("8001")
    add_file("thin.txt", replicas=("8001",))
    before = seen()
    assert before.get("repair_backlog") == 1
    assert before.get("repair_failing") == 0
    assert before.has("repair_running")
    assert before.get("repair_running") == 0
    assert not before.has("repair_copied_blobs_total")

    RepairTask.objects.update(attempts=2)
    lease = HeldLease("repair")
    assert lease.hold({"copied_blobs": 3, "copied_bytes": 700, "failures": 2})

    now = seen()
    assert (now.get("repair_running"), now.get("repair_failing")) == (1, 1)
    assert now.get("repair_copied_blobs_total") == 3
    assert now.get("repair_copied_bytes_total") == 700
    assert now.get("repair_failures_total") == 2


def test_what_is_deleted_is_shown_until_it_is_removed() -> None:
    add_node("8001", outbox_count=0)
    file = add_file("old.txt", replicas=("8001",))
    assert seen().get("collection_unreferenced_blobs") == 0

    collection_services.files_delete(keys=[file.pk])

    now = seen()
    assert now.get("cluster_files") == 0
    assert now.get("collection_unreferenced_blobs") == 1
    assert (now.get("collection_removals"), now.get("collection_obstructed")) == (0, 0)
    Node.objects.update(outbox_count=4)
    assert seen().get("collection_obstructed") == 1


def test_registrations_are_counted_by_outcome() -> None:
    add_node("8001")
    first, again = registration("a.txt", b"a"), registration("b.txt", b"a")
    other = registration("c.txt", b"a", sha256="0" * 64)
    before = seen()

    entries = [entry.to_json() for entry in (first, again, other)]
    apply_registrations(json.loads(json.dumps({"registrations": entries})))

    after = seen()
    for outcome, count in (("registered", 2), ("hash_collision", 1)):
        name, labels = "registrations_total", {"outcome": outcome}
        assert after.get(name, **labels) - before.get(name, **labels) == count


@pytest.mark.parametrize("kind", ["locked", "read_only", "full", "failed"])
def test_what_the_database_does_not_take_is_counted_by_kind(
    kind: str,
    client: Client,
    failing_database: dict[str, OperationalError],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fail(**_: object) -> None:
        raise failing_database[kind]

    monkeypatch.setattr(services, "file_register", fail)
    before = seen().get("database_errors_total", kind=kind)

    record = {"hash": "a", "name": "a", "size": 1, "replicas": []}
    answer = client.post("/register", record, content_type="application/json")

    assert (answer.status_code, answer.json()["code"]) == (503, "database_unavailable")
    assert seen().get("database_errors_total", kind=kind) == before + 1


def test_the_books_that_cannot_be_read_leave_the_rest_to_be_shown(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fail() -> None:
        raise OperationalError("disk I/O error")

    monkeypatch.setattr("master_app.derived.totals", fail)

    now = seen()

    assert not now.has("cluster_files")
    assert now.get("cluster_nodes", state="down") == 0
    assert now.has("cluster_nodes", state="down")
    # The files, and the blobs, of which the totals are a part.
    assert now.get("unreadable_metrics") == 2


def test_the_page_takes_only_reads(client: Client) -> None:
    assert client.get("/metrics")["Content-Type"].startswith("text/plain; version=0.0.4")
    assert client.head("/metrics").status_code == 200
    for method in ("post", "put", "patch", "delete"):
        answer = getattr(client, method)("/metrics")
        assert (answer.status_code, answer.json()["code"]) == (405, "method_not_allowed")
        assert {"GET", "HEAD"} <= set(answer["Allow"].split(", "))


def test_every_path_of_the_master_is_counted_under_a_route_of_its_own() -> None:
    def beginnings(patterns: list[URLPattern | URLResolver]) -> list[str]:
        return ["/" + str(pattern.pattern).partition("<")[0] for pattern in patterns]

    paths = beginnings(get_resolver().url_patterns)
    assert "/internal/heartbeat" in paths
    assert {REQUESTS.route(path) for path in paths} | {"/static/"} == set(COUNTED_ROUTES)
    assert REQUESTS.route("/nonesuch") == OTHER
