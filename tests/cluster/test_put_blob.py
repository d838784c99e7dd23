"""`PUT /blobs/<md5>`: a file of any size in one request, checked against its address."""

import hashlib
import secrets
from urllib.parse import quote

import pytest
import requests

from tests.conftest import StartCluster
from tests.support.cluster import Cluster, Server
from tests.support.raw_http import connect, send
from tests.support.refusals import names_listed, refusal
from tests.support.waiting import eventually

pytestmark = [pytest.mark.cluster, pytest.mark.usefixtures("nothing_is_left_behind")]


def md5(content: bytes) -> str:
    return hashlib.md5(content, usedforsecurity=False).hexdigest()


def put(
    node: Server, content: bytes, address: str | None = None, **headers: str
) -> requests.Response:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    path = f"/blobs/{md5(content) if address is None else address}"
    return node.request("PUT", path, data=content, headers=named, timeout=60)


def test_a_file_over_the_forms_limit_is_stored_twice_and_named(
    cluster: Cluster, node: Server
) -> None:
    content = secrets.token_bytes(24 * 1024 * 1024)
    name = "Größe ☃ 50%.bin"

    answer = put(node, content, X_File_Name=quote(name), Content_Type="image/x-own")

    assert answer.status_code == 200
    assert answer.json() == {
        "success": True,
        "message": "File Upload Successful",
        "hash": md5(content),
        "sha256": hashlib.sha256(content).hexdigest(),
        "size": len(content),
        "replicas": sorted(each.node_id for each in cluster.nodes),
        "registered": True,
        "deduplicated": False,
    }
    assert len(cluster.blob_paths(md5(content))) == 2
    assert name in names_listed(cluster)
    for each in cluster.nodes:
        assert each.retrieve(md5(content)).content == content
    assert put(node, content, X_File_Name=quote(name)).json()["deduplicated"] is True


def test_without_a_name_a_file_has_its_hash(cluster: Cluster, node: Server) -> None:
    content = secrets.token_bytes(100)
    assert put(node, content).status_code == 200
    assert md5(content) in names_listed(cluster)


def test_an_empty_file_is_a_file(node: Server) -> None:
    answer = send(node, "PUT", f"/blobs/{md5(b'')}", {"Content-Length": "0"})
    assert (answer.status, answer.json()["size"]) == (200, 0)


def test_other_bytes_than_announced_are_not_kept(cluster: Cluster, node: Server) -> None:
    for size in (10, 3_000_000):
        content = secrets.token_bytes(size)
        other = md5(b"other" + content)

        assert refusal(put(node, content, other)) == (400, "digest_mismatch")

        for address in (other, md5(content)):
            assert cluster.blob_paths(address) == []
            assert address not in names_listed(cluster)


@pytest.mark.parametrize(
    "address",
    ["", "x", "0" * 31, "0" * 33, "A" * 32, "..%2F..%2Fetc", "0" * 32 + "/", "%00", "é"],
)
def test_what_is_no_md5_is_refused(node: Server, address: str) -> None:
    assert refusal(put(node, b"abc", address)) == (400, "bad_hash")


@pytest.mark.parametrize("name", ["", "..", "%FF", "a%00b", "x" * 256, "a%0D%0Ab", "%ED%A0%80"])
def test_a_name_that_cannot_be_used_is_refused(node: Server, name: str) -> None:
    content = secrets.token_bytes(10)
    answer = put(node, content, X_File_Name=name)
    assert refusal(answer) == (400, "bad_name")


def test_a_path_is_cut_to_its_last_part(cluster: Cluster, node: Server) -> None:
    content = secrets.token_bytes(10)
    assert put(node, content, X_File_Name=quote("../../a path/put.bin")).ok
    assert "put.bin" in names_listed(cluster)


def test_the_length_has_to_be_known(node: Server) -> None:
    chunked = send(
        node, "PUT", f"/blobs/{md5(b'')}", {"Transfer-Encoding": "chunked"}, b"0\r\n\r\n"
    )
    assert refusal(chunked) == (411, "length_required")


def test_a_body_that_ends_early_is_no_file(cluster: Cluster, node: Server) -> None:
    content = secrets.token_bytes(1_000_000)
    with connect(node) as connection:
        connection.head("PUT", f"/blobs/{md5(content)}", {"Content-Length": str(len(content))})
        connection.send(content[:-1])
        connection.half_close()
        assert refusal(connection.read("PUT")) == (400, "truncated_body")
    eventually(lambda: not cluster.temporary_files())
    assert cluster.blob_paths(md5(content)) == []


@pytest.mark.parametrize("method", ["GET", "POST", "DELETE", "PATCH"])
def test_only_put_is_taken(node: Server, method: str) -> None:
    answer = node.request(method, f"/blobs/{md5(b'')}")
    assert refusal(answer) == (405, "method_not_allowed")
    assert answer.headers["Allow"] == "PUT"


def test_other_sites_may_not_put(cluster: Cluster, node: Server) -> None:
    content = secrets.token_bytes(10)
    foreign = put(node, content, Origin="https://evil.example")
    assert refusal(foreign) == (403, "foreign_origin")
    assert put(node, content, Origin=cluster.master.url).ok


def test_the_limit_is_that_for_files(start_cluster: StartCluster) -> None:
    cluster = start_cluster(MAX_FILE_BYTES="1000", MAX_UPLOAD_BYTES="500")
    node = cluster.nodes[0]
    assert put(node, secrets.token_bytes(1000)).status_code == 200
    assert refusal(put(node, secrets.token_bytes(1001))) == (413, "too_large")
    options = node.request("OPTIONS", "/uploads/")
    assert options.headers["Tus-Max-Size"] == "1000"


def test_below_the_quorum_nothing_is_taken(start_cluster: StartCluster) -> None:
    cluster = start_cluster(ready=False, node_count=1, WRITE_QUORUM="2")
    (node,) = cluster.nodes
    eventually(lambda: cluster.node_states().get(node.node_id) == "healthy", 40)
    eventually(lambda: node.health().get("last_heartbeat_at"), 40)

    content = secrets.token_bytes(10)
    eventually(lambda: put(node, content).status_code == 503, 20, what="the map has come")

    assert refusal(put(node, content)) == (503, "below_write_quorum")
