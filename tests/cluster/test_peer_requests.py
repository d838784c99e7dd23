"""What one node takes from another: only what was signed, as it was signed, and once."""

import hashlib
import json
import secrets
import sqlite3
from contextlib import closing
from urllib.parse import urlencode

import pytest
import requests

from mini_dropbox import secret_files
from mini_dropbox.signing import EMPTY_BODY_SHA256, Signer
from mini_dropbox.wire import PEER_BLOBS_PATH, RECEIPTS_PATH, NodeEntry
from node_app.blobwriter import Digests
from node_app.http_client import new_session
from node_app.peer_client import PeerClient
from node_app.replica_batch import MAX_MESSAGE_BYTES, ReplicaHead, encode
from tests.support.blob_backends import md5, sha256
from tests.support.cluster import Cluster, Server
from tests.support.refusals import error_of, refusal
from tests.support.registrations import registration

pytestmark = pytest.mark.cluster

NAMES = ["plain.txt", "a+b & c=d;e#f?.txt", "100%25 ~'!*().bin", "naïve ☃ 文.png", "-_. .x"]


@pytest.fixture(scope="module")
def signer(cluster: Cluster) -> Signer:
    secret = secret_files.cluster_secret_path(cluster.data_dir).read_text().strip()
    return Signer(secret, cluster.nodes[1].node_id)


def target(content_md5: str, **query: str) -> str:
    return f"{PEER_BLOBS_PATH}{content_md5}" + (f"?{urlencode(query)}" if query else "")


def stored(cluster: Cluster, node: Server, content_md5: str) -> list[tuple[str, str]]:
    """Return name and type of a blob in a node's index."""
    path = cluster.data_dir / f"node_{node.node_id}" / "node.sqlite3"
    with closing(sqlite3.connect(path)) as database:
        sql = "SELECT name, content_type FROM blob WHERE hash = ?"
        return database.execute(sql, (content_md5,)).fetchall()


@pytest.mark.parametrize("name", NAMES)
async def test_a_replica_keeps_its_name_and_type(
    cluster: Cluster, node: Server, signer: Signer, name: str
) -> None:
    content = name.encode()
    digests = Digests(md5=md5(content), sha256=sha256(content), size=len(content))
    peer = NodeEntry(node.node_id, node.url, "healthy", 1.0, writable=True)

    async with new_session() as session:
        client = PeerClient(session, signer)
        assert not await client.put(
            peer, digests, content, name=name, content_type="image/x-weird+xml"
        )
        assert stored(cluster, node, digests.md5) == [(name, "image/x-weird+xml")]
        await client.delete(peer, digests)

    assert stored(cluster, node, digests.md5) == []


def test_a_replica_under_another_name_is_refused(
    cluster: Cluster, node: Server, signer: Signer
) -> None:
    content = b"signed with one name, sent with another"
    signed = target(md5(content), name="one.txt", content_type="text/plain")
    sent = target(md5(content), name="another.txt", content_type="text/plain")
    headers = {"Authorization": signer.sign("PUT", signed, sha256(content))}

    assert refusal(node.request("PUT", sent, data=content, headers=headers)) == (401, "not_signed")
    assert stored(cluster, node, md5(content)) == []


def test_another_body_than_the_signed_one_is_refused(
    cluster: Cluster, node: Server, signer: Signer
) -> None:
    content = b"never signed"
    path = target(md5(content), name="a.txt", content_type="text/plain")
    headers = {"Authorization": signer.sign("PUT", path, sha256(b"signed"))}

    assert refusal(node.request("PUT", path, data=content, headers=headers)) == (401, "not_signed")
    assert stored(cluster, node, md5(content)) == []


def test_a_body_under_another_address_is_refused(
    cluster: Cluster, node: Server, signer: Signer
) -> None:
    content = b"signed for another address"
    path = target(md5(b"another"), name="a.txt", content_type="text/plain")
    headers = {"Authorization": signer.sign("PUT", path, sha256(content))}

    answer = node.request("PUT", path, data=content, headers=headers)

    assert refusal(answer) == (400, "digest_mismatch")
    assert stored(cluster, node, md5(b"another")) == []


@pytest.mark.parametrize("name", ["", "..", "a\nb"])
def test_a_replica_without_a_usable_name_is_refused(
    node: Server, signer: Signer, name: str
) -> None:
    path = target(md5(b""), name=name, content_type="text/plain")
    headers = {"Authorization": signer.sign("PUT", path)}

    assert refusal(node.request("PUT", path, data=b"", headers=headers)) == (400, "bad_name")


def test_another_content_than_the_signed_one_is_not_removed(node: Server, signer: Signer) -> None:
    content = b"stays where it is"
    assert node.upload(content).ok
    signed = target(md5(content), sha256=hashlib.sha256(b"another").hexdigest())
    headers = {"Authorization": signer.sign("DELETE", signed)}
    sent = target(md5(content), sha256=sha256(content))

    assert refusal(node.request("DELETE", sent, headers=headers)) == (401, "not_signed")
    assert node.request("DELETE", signed, headers=headers).json()["removed"] is False
    assert node.retrieve(md5(content)).content == content


@pytest.mark.parametrize("query", [{}, {"sha256": "0" * 63}, {"sha256": "../../etc/hostname"}])
def test_a_removal_that_names_no_content_is_refused(
    node: Server, signer: Signer, query: dict[str, str]
) -> None:
    path = target(md5(b""), **query)
    headers = {"Authorization": signer.sign("DELETE", path)}

    assert refusal(node.request("DELETE", path, headers=headers)) == (400, "bad_hash")


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE"])
def test_a_request_is_good_once(node: Server, signer: Signer, method: str) -> None:
    path = target(md5(b"unknown"), sha256=EMPTY_BODY_SHA256, name="x")
    headers = {"Authorization": signer.sign(method, path)}

    def send() -> requests.Response:
        return node.request(method, path, headers=headers, data=b"" if method == "PUT" else None)

    assert send().status_code != 401
    assert refusal(send()) == (401, "not_signed")


def test_a_heartbeat_is_good_once(cluster: Cluster, signer: Signer) -> None:
    body = b'{"node_id": 5}'
    signed = signer.sign("POST", "/internal/heartbeat", sha256(body))
    headers = {"Authorization": signed, "Content-Type": "application/json"}

    statuses = [
        cluster.master.post("/internal/heartbeat", data=body, headers=headers).status_code
        for _ in range(2)
    ]

    assert statuses == [400, 401]


def test_the_master_calls_a_registration_invalid_that_it_will_never_take(
    cluster: Cluster, signer: Signer
) -> None:
    entries = [registration(1).to_json(), {**registration(2).to_json(), "name": ""}]
    body = json.dumps({"registrations": entries}).encode()
    signed = signer.sign("POST", "/internal/registrations", sha256(body))
    headers = {"Authorization": signed, "Content-Type": "application/json"}

    answer = cluster.master.post("/internal/registrations", data=body, headers=headers)

    assert (answer.status_code, error_of(answer)["code"]) == (400, "invalid")


def head_of(content: bytes, name: str = "name") -> ReplicaHead:
    return ReplicaHead(md5(content), len(content), name, "text/plain")


def post_batch(node: Server, signer: Signer, message: bytes) -> requests.Response:
    headers = {"Authorization": signer.sign("POST", PEER_BLOBS_PATH, sha256(message))}
    return node.post(PEER_BLOBS_PATH, data=message, headers=headers)


async def test_many_replicas_come_in_one_message(
    cluster: Cluster, node: Server, signer: Signer
) -> None:
    contents = [f"one of many {number}".encode() for number in range(3)]
    peer = NodeEntry(node.node_id, node.url, "healthy", 1.0, writable=True)

    async with new_session() as session:
        client = PeerClient(session, signer)
        replicas = [(head_of(content), content) for content in contents]
        assert await client.put_all(peer, replicas) == [False] * 3
        assert await client.put_all(peer, replicas[:1]) == [True]

    assert [stored(cluster, node, md5(content)) for content in contents] == [
        [("name", "text/plain")]
    ] * 3


def test_a_message_that_is_not_the_signed_one_keeps_nothing(
    cluster: Cluster, node: Server, signer: Signer
) -> None:
    content = b"in a message that was changed"
    message = encode([(head_of(content), content)])
    headers = {"Authorization": signer.sign("POST", PEER_BLOBS_PATH, sha256(b"another"))}

    answer = node.post(PEER_BLOBS_PATH, data=message, headers=headers)

    assert refusal(answer) == (401, "not_signed")
    assert refusal(node.post(PEER_BLOBS_PATH, data=message)) == (401, "not_signed")
    assert stored(cluster, node, md5(content)) == []


def test_a_message_with_bytes_of_another_address_keeps_nothing(
    cluster: Cluster, node: Server, signer: Signer
) -> None:
    good, bad = b"a good one before it", b"under another address"
    message = encode([(head_of(good), good), (head_of(bad), bad[::-1])])

    assert refusal(post_batch(node, signer, message)) == (400, "digest_mismatch")
    assert stored(cluster, node, md5(good)) == []


def test_a_message_that_says_nothing_usable_is_refused(node: Server, signer: Signer) -> None:
    assert refusal(post_batch(node, signer, b"")) == (400, "bad_form")


def test_a_message_that_is_too_large_is_refused(node: Server, signer: Signer) -> None:
    headers = {"Authorization": signer.sign("POST", PEER_BLOBS_PATH)}
    answer = node.post(PEER_BLOBS_PATH, data=bytes(MAX_MESSAGE_BYTES + 1), headers=headers)

    assert refusal(answer) == (413, "too_large")


def test_an_unknown_receipt_is_gone(node: Server, signer: Signer) -> None:
    query = {"name": "a", "receipt": "0" * 32, "sha256": sha256(b"")}
    path = target(md5(b""), **query)
    headers = {"Authorization": signer.sign("PUT", path)}

    assert refusal(node.request("PUT", path, data=b"", headers=headers)) == (410, "receipt_gone")


def receipt_for(node: Server, signer: Signer, content: bytes) -> str:
    """Send a content ahead of its name."""
    headers = {"Authorization": signer.sign("POST", RECEIPTS_PATH)}
    answer = node.post(RECEIPTS_PATH, data=content, headers=headers).json()
    assert answer["sha256"] == sha256(content)
    assert answer["size"] == len(content)
    return str(answer["receipt"])


def test_what_was_sent_ahead_gets_the_address_that_the_peer_has_computed(
    cluster: Cluster, node: Server, signer: Signer
) -> None:
    content = secrets.token_bytes(300_000)
    receipt = receipt_for(node, signer, content)
    path = target(md5(content), name="ahead.bin", receipt=receipt, sha256=sha256(content))
    headers = {"Authorization": signer.sign("PUT", path)}

    assert node.request("PUT", path, data=b"", headers=headers).json()["success"]
    assert stored(cluster, node, md5(content)) == [("ahead.bin", "application/octet-stream")]
    assert node.retrieve(md5(content)).content == content


def test_what_was_sent_ahead_is_not_taken_for_another_content(
    cluster: Cluster, node: Server, signer: Signer
) -> None:
    content, another = secrets.token_bytes(300_000), secrets.token_bytes(300_000)
    receipt = receipt_for(node, signer, content)
    path = target(md5(another), name="ahead.bin", receipt=receipt, sha256=sha256(another))
    headers = {"Authorization": signer.sign("PUT", path)}

    answer = node.request("PUT", path, data=b"", headers=headers)

    assert refusal(answer) == (401, "not_signed")
    assert stored(cluster, node, md5(another)) == []
