"""What a node does when it is told to make a copy of a peer's blob."""

import hashlib
import json
import secrets
from collections.abc import Mapping
from typing import Any

import pytest

from mini_dropbox import secret_files
from mini_dropbox.signing import Signer
from mini_dropbox.wire import COPIES_PATH, MAX_COPIES, CopyOrder, CopyResult, CopyStatus
from tests.support.blob_backends import md5, sha256
from tests.support.cluster import Cluster, Server
from tests.support.refusals import refusal

pytestmark = pytest.mark.cluster


@pytest.fixture(scope="module")
def signer(cluster: Cluster) -> Signer:
    secret = secret_files.cluster_secret_path(cluster.data_dir).read_text().strip()
    return Signer(secret, "master")


def order(content: bytes, *sources: Server | str, **changes: Any) -> CopyOrder:
    return CopyOrder(
        **{
            "hash": md5(content),
            "sha256": sha256(content),
            "size": len(content),
            "name": "copy.bin",
            "content_type": "",
            "sources": tuple(s if isinstance(s, str) else s.node_id for s in sources),
            **changes,
        }
    )


def send(node: Server, signer: Signer, message: bytes) -> Any:
    signature = signer.sign("POST", COPIES_PATH, hashlib.sha256(message).hexdigest())
    return node.post(COPIES_PATH, data=message, headers={"Authorization": signature})


def ask(node: Server, signer: Signer, *orders: CopyOrder) -> list[CopyResult]:
    message = json.dumps({"copies": [entry.to_json() for entry in orders]}).encode()
    answer = send(node, signer, message)
    assert answer.status_code == 200, answer.text
    return [CopyResult.from_json(result) for result in answer.json()["results"]]


def remove_from(cluster: Cluster, node: Server, content: bytes, signer: Signer) -> None:
    """Let a node have no copy of a blob any more."""
    path = f"/internal/blobs/{md5(content)}?sha256={sha256(content)}"
    headers = {"Authorization": signer.sign("DELETE", path)}
    assert node.request("DELETE", path, headers=headers).json()["removed"]


def paths(cluster: Cluster, node: Server, content: bytes) -> list[bytes]:
    found = cluster.blob_paths(md5(content))
    return [path.read_bytes() for path in found if f"node_{node.node_id}" in str(path)]


@pytest.mark.parametrize("size", [0, 1000, 100_000, 3_000_000])
def test_a_copy_is_made_from_a_peers(cluster: Cluster, signer: Signer, size: int) -> None:
    content = secrets.token_bytes(size)
    first, second = cluster.nodes[:2]
    assert len(first.upload(content).json()["replicas"]) == 2
    remove_from(cluster, second, content, signer)

    (made,) = ask(second, signer, order(content, first))
    assert (made.hash, made.status) == (md5(content), CopyStatus.MADE)
    assert second.retrieve(md5(content)).content == content
    (had,) = ask(second, signer, order(content, first))
    assert had.status is CopyStatus.HAD


def test_many_at_once_have_each_their_own_result(cluster: Cluster, signer: Signer) -> None:
    first, second = cluster.nodes[:2]
    contents = [secrets.token_bytes(500) for _ in range(20)]
    for content in contents:
        first.upload(content)
    for content in contents[:15]:
        remove_from(cluster, second, content, signer)
    for content in contents[:5]:
        remove_from(cluster, first, content, signer)

    results = ask(second, signer, *(order(content, first) for content in contents))

    assert [result.hash for result in results] == [md5(content) for content in contents]
    statuses = [result.status for result in results]
    assert statuses == [CopyStatus.FAILED] * 5 + [CopyStatus.MADE] * 10 + [CopyStatus.HAD] * 5
    assert {result.without for result in results[:5]} == {(first.node_id,)}
    assert results[0].reason == f"node {first.node_id} has no such blob"
    for content in contents[5:]:
        assert paths(cluster, second, content)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"sha256": "0" * 64}, "its copy is not the content that was ordered"),
        ({"size": 5000}, "its copy is not the content that was ordered"),
        ({"size": 10}, "The file is over the limit of 10 bytes."),
    ],
)
def test_another_content_than_the_one_ordered_is_not_kept(
    cluster: Cluster, signer: Signer, changes: Mapping[str, Any], reason: str
) -> None:
    content = secrets.token_bytes(1000)
    first, second = cluster.nodes[:2]
    first.upload(content)
    remove_from(cluster, second, content, signer)

    (result,) = ask(second, signer, order(content, first, **changes))

    assert result.status is CopyStatus.FAILED
    assert result.reason == f"node {first.node_id}: {reason}"
    assert not result.without
    assert not paths(cluster, second, content)


def test_a_damaged_copy_of_its_own_is_replaced(cluster: Cluster, signer: Signer) -> None:
    content = secrets.token_bytes(200_000)
    first, second = cluster.nodes[:2]
    first.upload(content)
    (damaged,) = [p for p in cluster.blob_paths(md5(content)) if second.node_id in str(p)]
    damaged.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))

    (result,) = ask(second, signer, order(content, first))

    assert result.status is CopyStatus.MADE
    assert damaged.read_bytes() == content


def test_a_source_that_nobody_knows_is_named(cluster: Cluster, signer: Signer) -> None:
    content = secrets.token_bytes(1000)

    (unknown, nobody) = ask(cluster.nodes[0], signer, order(content, "nowhere"), order(content))

    assert unknown.reason == "node nowhere is not in this node's cluster map"
    assert nobody.reason == "no node was named that has it"


@pytest.mark.parametrize(
    "message",
    [
        b"",
        b"[]",
        b'{"copies": 1}',
        b'{"copies": [{"hash": "x"}]}',
        json.dumps({"copies": [order(b"a", "8001", hash="../../etc").to_json()]}).encode(),
        json.dumps({"copies": [order(b"a", "8001", name="").to_json()]}).encode(),
        json.dumps({"copies": [order(b"a", "8001", size="1").to_json()]}).encode(),
        json.dumps({"copies": [order(b"a").to_json()] * (MAX_COPIES + 1)}).encode(),
    ],
)
def test_orders_that_make_no_sense_are_refused(
    cluster: Cluster, signer: Signer, message: bytes
) -> None:
    assert refusal(send(cluster.nodes[0], signer, message)) == (400, "bad_form")


def test_only_a_member_of_the_cluster_gives_orders(cluster: Cluster, signer: Signer) -> None:
    node = cluster.nodes[0]
    stranger = Signer("the secret of somebody else", "master")

    assert refusal(node.post(COPIES_PATH, data=b"{}")) == (401, "not_signed")
    assert refusal(send(node, stranger, b'{"copies": []}')) == (401, "not_signed")
    assert refusal(node.get(COPIES_PATH)) == (405, "method_not_allowed")
    signature = signer.sign("POST", COPIES_PATH, sha256(b'{"copies": []}'))
    tampered = node.post(COPIES_PATH, data=b'{"copies": [1]}', headers={"Authorization": signature})
    assert refusal(tampered) == (401, "not_signed")
