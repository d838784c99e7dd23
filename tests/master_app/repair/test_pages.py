"""How repair is shown to programs and to people."""

from typing import Any

import pytest
from django.test import Client
from django.urls import reverse

from master_app.models import RepairTask
from master_app.repair import services
from tests.support.records import add_file, add_node

pytestmark = pytest.mark.django_db


@pytest.fixture
def tasks() -> list[RepairTask]:
    """Three blobs that are to be copied, of which one has failed before."""
    add_node("8001")
    files = [add_file(f"{n}.txt", bytes(n), replicas=("8001",)) for n in (10, 20, 30)]
    services.task_failed(key=files[1].blob.pk, reason="node 8002: its <disk> is full")
    return list(RepairTask.objects.order_by("pk"))


def test_the_status_without_anything_to_do(client: Client) -> None:
    status = client.get("/api/v1/repair/").json()

    assert status == {
        "is_running": False,
        "backlog": 0,
        "backlog_bytes": 0,
        "failing": 0,
        "by_copies": [],
        "progress": None,
    }


def test_the_status_counts_the_backlog(client: Client, tasks: list[RepairTask]) -> None:
    status = client.get("/api/v1/repair/").json()

    assert (status["backlog"], status["backlog_bytes"], status["failing"]) == (3, 60, 1)
    assert status["by_copies"] == [{"copies": 1, "blobs": 3}]


def listed(client: Client, **query: Any) -> list[dict[str, Any]]:
    answer = client.get("/api/v1/repair/tasks/", query)
    assert answer.status_code == 200, answer.content
    return list(answer.json()["results"])


def test_tasks_are_listed_and_filtered(client: Client, tasks: list[RepairTask]) -> None:
    assert {task["hash"] for task in listed(client)} == {task.blob.hash for task in tasks}
    (failed,) = listed(client, failing="true")
    assert (failed["size"], failed["attempts"]) == (20, 1)
    assert failed["reason"] == "node 8002: its <disk> is full"
    assert len(listed(client, failing="false")) == 2
    assert len(listed(client, copies="1")) == 3
    assert not listed(client, copies="0")


def test_a_page_leads_to_the_next(client: Client, tasks: list[RepairTask]) -> None:
    first = client.get("/api/v1/repair/tasks/", {"page_size": 2}).json()
    second = client.get(first["next"]).json()

    hashes = [task["hash"] for task in first["results"] + second["results"]]
    assert sorted(hashes) == sorted(task.blob.hash for task in tasks)
    assert second["next"] is None


def test_the_admin_lists_what_is_to_be_copied(
    admin_client: Client, tasks: list[RepairTask]
) -> None:
    url = reverse("admin:master_app_repairtask_changelist")
    page = admin_client.get(url).content.decode()

    assert page.count("1 of 2") == 3
    assert "its &lt;disk&gt; is full" in page
    failed = admin_client.get(url, {"attempts": "failed"}).content.decode()
    assert failed.count("1 of 2") == 1
    assert admin_client.get(url, {"q": tasks[0].blob.hash}).status_code == 200


def test_the_dashboard_says_what_is_to_be_copied(
    admin_client: Client, tasks: list[RepairTask]
) -> None:
    page = admin_client.get(reverse("admin:index")).content.decode()

    assert "3 blobs to copy" in page
    assert "1 failed before" in page


def test_the_dashboard_is_silent_when_there_is_nothing_to_copy(admin_client: Client) -> None:
    assert "to copy" not in admin_client.get(reverse("admin:index")).content.decode()


def test_a_tasks_page_opens(admin_client: Client, tasks: list[RepairTask]) -> None:
    url = reverse("admin:master_app_repairtask_change", args=[tasks[0].pk])
    assert admin_client.get(url).status_code == 200
