"""What an operator does with nodes, and what is said beforehand."""

import hashlib
import json
from io import StringIO
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.test import Client
from django.urls import reverse

from master_app import services
from master_app.models import Node, NodeMode, Replica
from master_app.operations import plans
from master_app.repair.census import CensusTaker
from mini_dropbox.signing import Signer
from mini_dropbox.wire import HEARTBEAT_PATH
from tests.support.records import add_file, add_node

pytestmark = pytest.mark.django_db

SECRET = "the secret of the tests"


@pytest.fixture
def nodes() -> list[Node]:
    return [add_node(node_id, outbox_count=0) for node_id in ("8001", "8002", "8003")]


def command(name: str, *arguments: str, **options: Any) -> str:
    output = StringIO()
    call_command(name, *arguments, stdout=output, **options)
    return output.getvalue()


def modes() -> dict[str, str]:
    return dict(Node.objects.values_list("node_id", "mode"))


def test_a_plan_tells_what_has_to_be_copied(nodes: list[Node]) -> None:
    add_file("a.txt", bytes(100), replicas=("8001", "8002"))
    add_file("b.txt", bytes(200), replicas=("8001",))
    add_file("c.txt", bytes(400), replicas=("8001", "8002", "8003"))
    add_file("d.txt", bytes(800), replicas=("8002", "8003"))
    plan = plans.drain_plan(node=nodes[0])

    assert (plan.blobs, plan.size) == (3, 700)
    assert (plan.to_copy_blobs, plan.to_copy_bytes, plan.last_copies) == (2, 300, 1)
    assert plan.obstacle == ""
    assert sum(share for _, share in plan.shares) == pytest.approx(1)
    assert {node_id for node_id, _ in plan.shares} <= {"8002", "8003"}


def test_a_plan_says_what_is_in_the_way(nodes: list[Node]) -> None:
    add_file("a.txt", bytes(100), replicas=("8001", "8002"))
    Node.objects.exclude(node_id="8001").update(free_bytes=40)
    assert plans.drain_plan(node=nodes[0]).obstacle.startswith("the other nodes do not have room")

    Node.objects.filter(node_id="8003").update(mode=NodeMode.READ_ONLY)
    obstacle = plans.drain_plan(node=nodes[0]).obstacle
    assert obstacle.startswith("2 copies of each blob are wanted and only 1 other nodes take any")


def test_nobody_is_given_to_a_node_that_is_not_active(nodes: list[Node]) -> None:
    for mode in (NodeMode.READ_ONLY, NodeMode.DRAINING):
        Node.objects.filter(node_id="8002").update(mode=mode)
        assert [n.node_id for n in services.cluster_map().healthy()] == ["8001", "8003"]
    Node.objects.filter(node_id="8002").update(mode=NodeMode.REMOVED)
    assert [n.node_id for n in services.cluster_map().nodes] == ["8001", "8003"]


def test_what_a_draining_node_has_is_a_source_and_does_not_count(nodes: list[Node]) -> None:
    Node.objects.filter(node_id="8002").update(mode=NodeMode.DRAINING)
    census = CensusTaker(600).take()

    assert census.counted == census.takers == {nodes[0].pk, nodes[2].pk}
    assert census.reach == {node.pk for node in nodes}


def test_a_read_only_nodes_copies_count(nodes: list[Node]) -> None:
    Node.objects.filter(node_id="8002").update(mode=NodeMode.READ_ONLY)
    census = CensusTaker(600).take()

    assert census.counted == {node.pk for node in nodes}
    assert census.takers == {nodes[0].pk, nodes[2].pk}


def test_a_dry_run_changes_nothing(nodes: list[Node]) -> None:
    add_file("a.txt", bytes(100), replicas=("8001", "8002"))
    text = command("drain", "8001", dry_run=True)

    assert "1 of them, 100" in text
    assert "node 8003 takes about 100%" in text
    assert set(modes().values()) == {"active"}


def test_draining_begins_and_is_cancelled(nodes: list[Node]) -> None:
    add_file("a.txt", replicas=("8001", "8002"))
    command("drain", "8001", no_wait=True)
    assert modes()["8001"] == "draining"
    assert "takes blobs again" in command("drain", "8001", cancel=True)
    assert modes()["8001"] == "active"


def test_a_drain_that_cannot_end_is_not_begun(nodes: list[Node]) -> None:
    add_file("a.txt", replicas=("8001", "8002"))
    Node.objects.filter(node_id="8003").delete()
    with pytest.raises(CommandError, match="start another node first"):
        command("drain", "8001")
    assert modes()["8001"] == "active"


def test_a_drained_node_is_removed_with_its_records(nodes: list[Node]) -> None:
    add_file("a.txt", replicas=("8001", "8002", "8003"))
    text = command("remove_node", "8001")

    assert "is removed, with the records of 1 copies" in text
    assert modes()["8001"] == "removed"
    assert not Replica.objects.filter(node__node_id="8001").exists()


def test_one_that_is_needed_is_removed_by_force_alone(nodes: list[Node]) -> None:
    add_file("a.txt", replicas=("8001",))
    assert "1 of its blobs have too few copies" in command("remove_node", "8001", dry_run=True)
    with pytest.raises(CommandError, match=r"drain it first with `manage\.py drain 8001`"):
        command("remove_node", "8001")
    assert modes()["8001"] == "active"
    command("remove_node", "8001", force=True)
    assert modes()["8001"] == "removed"


@pytest.mark.parametrize("name", ["drain", "remove_node", "activate", "read_only"])
def test_an_unknown_node_is_said_to_be(nodes: list[Node], name: str) -> None:
    with pytest.raises(CommandError, match="no node 9999; the nodes are: 8001, 8002, 8003"):
        command(name, "9999")


def heartbeat(client: Client, node_id: str) -> Any:
    message = {
        "node_id": node_id,
        "url": f"http://127.0.0.1:{node_id}",
        "version": "0.1.0",
        "capacity_bytes": None,
        "free_bytes": None,
        "used_bytes": 0,
        "blob_count": 0,
        "writable": True,
    }
    body = json.dumps(message).encode()
    signature = Signer(SECRET, node_id).sign(
        "POST", HEARTBEAT_PATH, hashlib.sha256(body).hexdigest()
    )
    return client.post(
        HEARTBEAT_PATH, body, content_type="application/json", headers={"Authorization": signature}
    )


def test_a_removed_node_that_speaks_up_is_refused_until_it_is_let_in(
    client: Client, nodes: list[Node]
) -> None:
    command("remove_node", "8001")
    answer = heartbeat(client, "8001")
    assert (answer.status_code, answer.json()["code"]) == (409, "node_removed")
    assert "manage.py activate 8001" in answer.json()["detail"]

    command("activate", "8001")
    assert heartbeat(client, "8001").status_code == 200


def test_a_removed_node_is_in_no_list_of_people(admin_client: Client, nodes: list[Node]) -> None:
    command("remove_node", "8001")

    assert "Node 8001" not in admin_client.get("/fragments/cluster").content.decode()
    assert "2 of 2" in admin_client.get(reverse("admin:index")).content.decode()


def act(admin_client: Client, action: str, *nodes: Node) -> str:
    chosen = {"action": action, "_selected_action": [node.pk for node in nodes]}
    url = reverse("admin:master_app_node_changelist")
    return str(admin_client.post(url, chosen, follow=True).content.decode())


def test_the_admin_drains_makes_read_only_activates_and_removes(
    admin_client: Client, nodes: list[Node]
) -> None:
    add_file("a.txt", bytes(100), replicas=("8001", "8002"))
    assert "Node 8001 is draining: 1 of 1 blobs" in act(admin_client, "drain", nodes[0])
    assert modes()["8001"] == "draining"
    assert "Node 8001 is not removed" in act(admin_client, "remove", nodes[0])
    assert "Node 8001 takes blobs again" in act(admin_client, "activate", nodes[0])
    assert "Node 8003 is read-only" in act(admin_client, "make_read_only", nodes[2])
    assert "is not drained" in act(admin_client, "drain", nodes[0])
    assert "Node 8003 is removed" in act(admin_client, "remove", nodes[2])
    assert modes() == {"8001": "active", "8002": "active", "8003": "removed"}


def test_the_admin_explains_where_a_blob_is_and_what_draining_would_do(
    admin_client: Client, nodes: list[Node]
) -> None:
    file = add_file("a.txt", replicas=("8001", "8002"))
    page = admin_client.get(reverse("admin:master_app_blob_change", args=[file.blob.pk]))
    text = page.content.decode()
    assert text.count("node 8003 gets a copy") == 2

    claimed = add_file("b.txt", replicas=())
    claimed.blob.hash = "test123"
    claimed.blob.verified = False
    claimed.blob.save()
    url = reverse("admin:master_app_blob_change", args=[claimed.blob.pk])
    assert "Why it is there" not in admin_client.get(url).content.decode()


def test_the_admins_page_of_a_node_tells_what_draining_would_do(
    admin_client: Client, nodes: list[Node]
) -> None:
    add_file("a.txt", bytes(100), replicas=("8001", "8002"))
    url = reverse("admin:master_app_node_change", args=[nodes[0].pk])
    text = admin_client.get(url).content.decode()

    assert "If it were drained" in text
    assert "takes about 100 %" in text


def test_the_api_tells_what_nodes_are_used_for(client: Client, nodes: list[Node]) -> None:
    command("read_only", "8002")
    listed = client.get("/api/v1/nodes/", {"mode": "read_only"}).json()["results"]

    assert [(node["node_id"], node["mode"]) for node in listed] == [("8002", "read_only")]
