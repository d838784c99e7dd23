"""Which nodes the master lets in, and what it forgets of a disk that has gone."""

import hashlib
import json
from datetime import timedelta
from typing import Any

import pytest
from django.test import Client
from django.utils import timezone

from master_app import membership, services
from master_app.errors import NodeRefused
from master_app.membership import cluster_id
from master_app.models import Blob, Cluster, File, Node, RepairTask, Replica
from master_app.services import heartbeat_record
from mini_dropbox.signing import Signer
from mini_dropbox.wire import HEARTBEAT_PATH, REGISTRATIONS_PATH, ClusterMap, Heartbeat
from tests.support.records import add_file, add_node, registration

pytestmark = pytest.mark.django_db

STORE, OTHER_STORE = "a" * 32, "b" * 32
OURS, FOREIGN = "c" * 32, "d" * 32
SILENT = 8.0


def heartbeat(node_id: str = "8001", **values: Any) -> Heartbeat:
    defaults: dict[str, Any] = {
        "url": f"http://127.0.0.1:{node_id}",
        "version": "0.1.0",
        "capacity_bytes": 100,
        "free_bytes": 50,
        "used_bytes": 10,
        "blob_count": 1,
        "writable": True,
        "store_id": STORE,
    }
    return Heartbeat(node_id=node_id, **{**defaults, **values})


def fall_silent(node_id: str, seconds: float = SILENT) -> None:
    silent_since = timezone.now() - timedelta(seconds=seconds)
    Node.objects.filter(node_id=node_id).update(last_heartbeat_at=silent_since)


def refused(code: str, beat: Heartbeat) -> str:
    """Check that a heartbeat is refused, and changes nothing; return the sentence."""
    before = list(Node.objects.values())
    with pytest.raises(NodeRefused) as caught:
        heartbeat_record(heartbeat=beat)
    assert (caught.value.code, caught.value.status) == (code, 409)
    assert list(Node.objects.values()) == before
    return str(caught.value)


def test_the_cluster_has_one_name_from_the_first_heartbeat_on() -> None:
    first = heartbeat_record(heartbeat=heartbeat()).cluster_id
    second = heartbeat_record(heartbeat=heartbeat("8002", store_id=OTHER_STORE)).cluster_id

    assert first == second == Cluster.objects.get().cluster_id
    assert len(first) == 32


def test_a_new_database_takes_the_name_that_its_nodes_know() -> None:
    assert heartbeat_record(heartbeat=heartbeat(cluster_id=OURS)).cluster_id == OURS
    assert cluster_id() == OURS


def test_a_disk_of_another_cluster_is_refused() -> None:
    heartbeat_record(heartbeat=heartbeat(cluster_id=OURS))

    foreign = heartbeat("8002", store_id=OTHER_STORE, cluster_id=FOREIGN)
    sentence = refused("foreign_cluster", foreign)

    assert sentence == (
        f"The data folder of node 8002 belongs to cluster {FOREIGN}, and this is cluster {OURS}: "
        "start the node with that cluster's master, or with an empty folder."
    )


def test_a_copied_disk_is_refused_while_the_first_is_alive() -> None:
    heartbeat_record(heartbeat=heartbeat())
    elsewhere = heartbeat(url="http://127.0.0.1:8009")

    assert "http://127.0.0.1:8001" in refused("duplicate_disk", elsewhere)
    assert "stop one of the two" in refused("duplicate_disk", heartbeat("8009"))

    fall_silent("8001")
    heartbeat_record(heartbeat=elsewhere)
    assert Node.objects.get().url == "http://127.0.0.1:8009"


def test_a_name_that_another_disk_has_is_refused_while_that_is_alive() -> None:
    heartbeat_record(heartbeat=heartbeat())

    sentence = refused("node_id_taken", heartbeat(store_id=OTHER_STORE))

    assert "MINI_DROPBOX_NODE_ID" in sentence


def test_a_node_of_an_earlier_version_gets_its_disk_noted() -> None:
    heartbeat_record(heartbeat=heartbeat(store_id=""))
    add_file("a.txt", replicas=("8001",))

    heartbeat_record(heartbeat=heartbeat())
    assert (Node.objects.get().store_id, Replica.objects.count()) == (STORE, 1)
    heartbeat_record(heartbeat=heartbeat(store_id=""))
    assert Node.objects.get().store_id == STORE


def test_a_wiped_disk_is_welcome_and_its_copies_are_forgotten_and_nothing_else() -> None:
    heartbeat_record(heartbeat=heartbeat())
    heartbeat_record(heartbeat=heartbeat("8002", store_id="e" * 32))
    for name in ("a.txt", "b.txt"):
        add_file(name)
    add_file("only.txt", replicas=("8001",))
    fall_silent("8001")

    heartbeat_record(heartbeat=heartbeat(store_id=OTHER_STORE))

    assert Node.objects.get(node_id="8001").store_id == OTHER_STORE
    assert set(Replica.objects.values_list("node__node_id", flat=True)) == {"8002"}
    assert RepairTask.objects.count() == 3
    assert (Blob.objects.count(), File.objects.count()) == (3, 3)


def test_a_new_disk_is_let_in_only_once_all_old_copies_are_forgotten(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    heartbeat_record(heartbeat=heartbeat())
    for number in range(5):
        add_file(f"{number}.txt", replicas=("8001",))
    fall_silent("8001")
    monkeypatch.setattr(membership, "FORGET_ROWS", 2)
    monkeypatch.setattr(membership, "FORGET_SECONDS", 0.0)
    wiped = heartbeat(store_id=OTHER_STORE)

    left = []
    for _ in range(2):
        refused("copies_being_forgotten", wiped)
        left.append(Replica.objects.count())
    heartbeat_record(heartbeat=wiped)

    assert left == [3, 1]
    assert Replica.objects.count() == 0
    assert Node.objects.get().store_id == OTHER_STORE


def test_the_old_disk_is_welcome_again() -> None:
    heartbeat_record(heartbeat=heartbeat())
    for store_id in (OTHER_STORE, STORE):
        add_file(f"on another disk than {store_id}", replicas=("8001",))
        fall_silent("8001")
        heartbeat_record(heartbeat=heartbeat(store_id=store_id))
        assert (Node.objects.get().store_id, Replica.objects.count()) == (store_id, 0)


def post(client: Client, path: str, message: Any) -> Any:
    body = json.dumps(message).encode()
    digest = hashlib.sha256(body).hexdigest()
    header = Signer("the secret of the tests", "8001").sign("POST", path, digest)
    return client.post(
        path, body, content_type="application/json", headers={"Authorization": header}
    )


def test_a_heartbeat_over_http_is_answered_with_the_cluster_or_a_refusal(client: Client) -> None:
    welcome = post(client, HEARTBEAT_PATH, heartbeat(cluster_id=OURS).to_json())
    stranger = post(client, HEARTBEAT_PATH, heartbeat("8002", cluster_id=FOREIGN).to_json())
    nonsense = post(client, HEARTBEAT_PATH, heartbeat(store_id="../x").to_json())

    assert ClusterMap.from_json(welcome.json()).cluster_id == OURS
    assert (stranger.status_code, stranger.json()["code"]) == (409, "foreign_cluster")
    assert (nonsense.status_code, list(nonsense.json()["errors"])) == (400, ["store_id"])


@pytest.mark.parametrize(
    ("sender", "status"),
    [
        ({"node_id": "8001", "store_id": STORE}, 200),
        ({"node_id": "8001", "store_id": OTHER_STORE}, 409),
        ({"node_id": "8007", "store_id": STORE}, 409),
        (None, 200),
        ({"node_id": "8001"}, 400),
        ({"node_id": "../x", "store_id": STORE}, 400),
        ("8001", 400),
    ],
)
def test_registrations_count_only_from_the_disk_that_was_let_in(
    client: Client, sender: Any, status: int
) -> None:
    heartbeat_record(heartbeat=heartbeat())
    add_node("8002")
    # It need not hold a copy of what it registers.
    entry = registration("a.txt", replicas=("8002",)).to_json()

    answer = post(client, REGISTRATIONS_PATH, {"sender": sender, "registrations": [entry]})

    assert answer.status_code == status
    assert File.objects.count() == (1 if status == 200 else 0)
    assert services.cluster_map().nodes
