import hashlib
import json
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import pytest
from django.db import connection
from django.test import Client

from master_app import derived
from master_app.models import Blob, File, Node, Replica
from master_app.services import file_register, registrations_apply
from mini_dropbox.signing import Signer
from mini_dropbox.wire import (
    HEARTBEAT_PATH,
    LOSSES_PATH,
    REGISTRATIONS_PATH,
    ClusterMap,
    Registration,
)
from tests.support.records import add_node, registration

pytestmark = pytest.mark.django_db

SECRET = "the secret of the tests"
HEARTBEAT = {
    "node_id": "8001",
    "url": "http://127.0.0.1:8001",
    "version": "0.1.0",
    "capacity_bytes": 100 * 2**30,
    "free_bytes": 50 * 2**30,
    "used_bytes": 10,
    "blob_count": 1,
    "writable": True,
}


def post(
    client: Client, path: str, message: Any, *, secret: str = SECRET, tamper: bytes = b""
) -> Any:
    body = json.dumps(message).encode()
    header = Signer(secret, "8001").sign("POST", path, hashlib.sha256(body).hexdigest())
    return client.post(
        path, body + tamper, content_type="application/json", headers={"Authorization": header}
    )


def register(client: Client, *entries: Registration) -> list[str]:
    message = {"registrations": [entry.to_json() for entry in entries]}
    response = post(client, REGISTRATIONS_PATH, message)
    assert response.status_code == 200, response.content
    return [result["status"] for result in response.json()["results"]]


def test_a_first_heartbeat_makes_the_node_and_answers_with_the_map(client: Client) -> None:
    response = post(client, HEARTBEAT_PATH, HEARTBEAT)
    assert response.status_code == 200
    cluster_map = ClusterMap.from_json(response.json())
    assert (cluster_map.replication_factor, cluster_map.write_quorum) == (2, 1)
    (node,) = cluster_map.healthy()
    assert (node.node_id, node.url, node.weight) == ("8001", "http://127.0.0.1:8001", 100.0)


def test_a_second_heartbeat_updates_the_node(client: Client) -> None:
    post(client, HEARTBEAT_PATH, HEARTBEAT)
    first = Node.objects.get()
    post(client, HEARTBEAT_PATH, {**HEARTBEAT, "blob_count": 2, "writable": False})
    second = Node.objects.get()
    assert (second.blob_count, second.writable) == (2, False)
    assert second.first_seen_at == first.first_seen_at
    assert second.last_heartbeat_at > first.last_heartbeat_at


def test_a_node_says_what_its_blobs_take_unless_its_version_does_not(client: Client) -> None:
    post(client, HEARTBEAT_PATH, HEARTBEAT)
    node = Node.objects.get()
    assert (node.stored_bytes, node.saved_bytes) == (None, 0)

    post(client, HEARTBEAT_PATH, {**HEARTBEAT, "stored_bytes": 4})

    node.refresh_from_db()
    assert (node.stored_bytes, node.saved_bytes) == (4, 6)


@pytest.mark.parametrize(("silent", "state"), [(0, "healthy"), (8, "suspect"), (30, "down")])
def test_the_map_says_how_long_a_node_has_been_silent(
    client: Client, silent: float, state: str
) -> None:
    add_node("8002", silent_seconds=silent)
    cluster_map = ClusterMap.from_json(post(client, HEARTBEAT_PATH, HEARTBEAT).json())
    assert {node.node_id: node.state for node in cluster_map.nodes}["8002"] == state
    assert Node.objects.with_state().get(node_id="8002").state_now == state  # type: ignore[attr-defined]


@pytest.mark.parametrize("path", [HEARTBEAT_PATH, REGISTRATIONS_PATH, LOSSES_PATH])
def test_strangers_are_not_let_in(client: Client, path: str) -> None:
    unsigned = client.post(path, "{}", content_type="application/json")
    forged = post(client, path, HEARTBEAT, secret="a guess")
    changed = post(client, path, HEARTBEAT, tamper=b" ")
    for response in (unsigned, forged, changed):
        assert response.status_code == 401
        assert response.json()["code"] == "not_signed"
    assert not Node.objects.exists()


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("url", "ftp://host"),
        ("url", "javascript:alert(1)"),
        ("node_id", "../x"),
        ("used_bytes", -1),
        ("stored_bytes", -1),
    ],
)
def test_a_heartbeat_that_makes_no_sense_is_refused(client: Client, field: str, value: Any) -> None:
    response = post(client, HEARTBEAT_PATH, {**HEARTBEAT, field: value})
    assert response.status_code == 400
    assert list(response.json()["errors"]) == [field]


def test_a_registration_makes_blob_file_and_replicas(client: Client) -> None:
    add_node("8001")
    add_node("8002")
    assert register(client, registration("a.txt", content_type="text/plain")) == ["registered"]
    file = File.objects.select_related("blob").get()
    assert (file.name, file.content_type, file.blob.verified) == ("a.txt", "text/plain", True)
    assert file.replica_node_ids() == ["8001", "8002"]


@pytest.mark.parametrize(
    ("field", "value"),
    [
        *((field, value) for field in ("hash", "sha256") for value in (7, "", "F" * 64, "0" * 33)),
        *(("size", value) for value in (-1, 2**63, 1.0, True, "1", None)),
        *(("name", value) for value in ("", "a/..", "a\0b", "a\nb", "\ud800", "a" * 256, 7, None)),
        *(("content_type", value) for value in (7, None, "a" * 128, "a\0b", "\ud800")),
        *(("replicas", value) for value in ("8001", None, [7], ["../x"], ["8001"] * 1001)),
        *(("uploaded_at", value) for value in (-1, 1e18, "1", None, True, float("nan"))),
    ],
)
def test_a_registration_that_makes_no_sense_is_refused_with_its_group(
    client: Client, field: str, value: Any
) -> None:
    entries = [registration("a.txt").to_json(), {**registration("b.txt").to_json(), field: value}]
    response = post(client, REGISTRATIONS_PATH, {"registrations": entries})
    assert response.status_code == 400
    body = response.json()
    assert body["code"] in {"invalid", "parse_error"}
    if body["code"] == "invalid":
        assert [message.partition(":")[0] for message in body["errors"]["registrations"]] == [field]
    assert not Blob.objects.exists()


@pytest.mark.parametrize("field", sorted(registration("a.txt").to_json()))
def test_a_registration_without_a_field_is_refused(client: Client, field: str) -> None:
    entry = registration("a.txt").to_json()
    del entry[field]
    response = post(client, REGISTRATIONS_PATH, {"registrations": [entry]})
    assert response.json()["errors"] == {"registrations": [f"{field}: This field is required."]}


@pytest.mark.parametrize(
    "message", [{}, [], None, {"registrations": 1}, {"registrations": {}}, {"registrations": [1]}]
)
def test_a_message_of_another_form_is_refused(client: Client, message: Any) -> None:
    response = post(client, REGISTRATIONS_PATH, message)
    assert (response.status_code, response.json()["code"]) == (400, "invalid")


def test_a_lost_answer_and_a_retry_change_nothing(client: Client) -> None:
    add_node("8001")
    entry = registration("a.txt")
    for _ in range(3):
        assert register(client, entry, entry) == ["registered", "registered"]
    assert (Blob.objects.count(), File.objects.count(), Replica.objects.count()) == (1, 1, 1)


def test_replicas_of_two_uploads_add_up(client: Client) -> None:
    add_node("8001")
    add_node("8002")
    register(client, registration("a.txt", replicas=("8001",)))
    register(client, registration("a.txt", replicas=("8002",)))
    assert File.objects.get().replica_node_ids() == ["8001", "8002"]


def test_a_node_confirms_what_a_client_announced(client: Client) -> None:
    entry = registration("a.txt")
    file_register(blob_hash=entry.hash, name="a.txt", size=1, replicas=["9999"])
    assert register(client, entry) == ["registered"]
    blob = Blob.objects.get()
    assert (blob.verified, blob.size, blob.claimed_replicas) == (True, entry.size, [])
    assert File.objects.count() == 1


def test_another_content_under_one_md5_is_refused_and_the_rest_of_the_group_is_kept(
    client: Client,
) -> None:
    first = registration("a.txt")
    register(client, first)
    other = replace(first, sha256="f" * 64, name="other.txt")
    assert register(client, other, registration("b.txt")) == ["hash_collision", "registered"]
    assert set(File.objects.values_list("name", flat=True)) == {"a.txt", "b.txt"}
    assert Blob.objects.get(hash=first.hash).sha256 == first.sha256


def test_two_contents_under_one_md5_in_one_group_keep_the_first(client: Client) -> None:
    first = registration("a.txt")
    other = replace(first, sha256="f" * 64, name="other.txt")
    assert register(client, first, other) == ["registered", "hash_collision"]
    assert Blob.objects.get().sha256 == first.sha256


def lost(*entries: Registration) -> dict[str, Any]:
    return {
        "losses": [
            {"hash": entry.hash, "reason": "damaged", "found_by": "scrub", "at": 1.5}
            for entry in entries
        ]
    }


def test_a_node_loses_its_own_copies_and_no_others_once_and_again(client: Client) -> None:
    add_node("8001")
    add_node("8002")
    one, other, unknown = registration("a.txt"), registration("b.txt"), registration("c.txt")
    register(client, one, other)

    # `post` signs as node 8001.
    answers = [post(client, LOSSES_PATH, lost(one, unknown)) for _ in range(2)]

    assert [(answer.status_code, answer.json()) for answer in answers] == [
        (200, {"removed": 1}),
        (200, {"removed": 0}),
    ]
    assert File.objects.get(name="a.txt").replica_node_ids() == ["8002"]
    assert File.objects.get(name="b.txt").replica_node_ids() == ["8001", "8002"]
    assert derived.totals().replicas == 3


def test_a_copy_that_was_lost_can_be_registered_again(client: Client) -> None:
    add_node("8001")
    entry = registration("a.txt", replicas=("8001",))
    register(client, entry)
    post(client, LOSSES_PATH, lost(entry))
    record = client.get("/get", {"hash": entry.hash}).json()
    assert (record["replicas"], record["verified"]) == ([], True)

    register(client, entry)

    assert client.get("/get", {"hash": entry.hash}).json()["replicas"] == ["8001"]


def test_the_last_copy_is_not_lost_in_silence(
    client: Client, caplog: pytest.LogCaptureFixture
) -> None:
    add_node("8001")
    entry = registration("a.txt", replicas=("8001",))
    register(client, entry)

    post(client, LOSSES_PATH, lost(entry))

    errors = [record.message for record in caplog.records if record.levelname == "ERROR"]
    assert errors == [f"No node has a good copy of {entry.hash} any more"]


@pytest.mark.parametrize(
    "message",
    [
        {},
        [],
        {"losses": 1},
        {"losses": [1]},
        {"losses": [{}]},
        {"losses": [{"hash": "../x", "reason": "damaged", "found_by": "scrub", "at": 1}]},
        {"losses": [{"hash": "0" * 32, "reason": "damaged", "found_by": "scrub", "at": "now"}]},
    ],
)
def test_losses_that_make_no_sense_are_refused(client: Client, message: Any) -> None:
    response = post(client, LOSSES_PATH, message)
    assert (response.status_code, response.json()["code"]) == (400, "invalid")


def test_a_large_group_takes_few_queries(
    client: Client, django_assert_max_num_queries: Any
) -> None:
    add_node("8001")
    entries = [registration(f"{number}.txt", replicas=("8001",)) for number in range(200)]
    with django_assert_max_num_queries(14):
        register(client, *entries)
    assert File.objects.count() == 200


@pytest.mark.django_db(transaction=True)
def test_writers_in_many_threads_wait_for_one_another() -> None:
    add_node("8001")
    add_node("8002")

    def write(number: int) -> None:
        try:
            entries = [registration(f"{number // 2}-{part}.txt") for part in range(5)]
            registrations_apply(registrations=entries)
            file_register(blob_hash="shared", name=f"{number}", size=1, replicas=[])
        finally:
            connection.close()

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(write, range(48)))
    assert Blob.objects.filter(verified=True).count() == 24 * 5
    assert File.objects.filter(blob__hash="shared").count() == 48
