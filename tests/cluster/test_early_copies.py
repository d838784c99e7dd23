"""A large upload reaches the peer while the client still sends, and leaves nothing when it ends."""

import hashlib
import secrets

import pytest

from tests.support.cluster import Cluster, Server
from tests.support.raw_http import BOUNDARY, Connection, Form, connect, form, part
from tests.support.refusals import refusal
from tests.support.waiting import eventually

pytestmark = [pytest.mark.cluster, pytest.mark.usefixtures("nothing_is_left_behind")]

MIB = 1024 * 1024


def sizes_under_way(cluster: Cluster) -> list[int]:
    """Return the sizes of the uploads that the nodes have received so far, the smallest first."""
    return sorted(path.stat().st_size for path in cluster.temporary_files())


def begin_upload(connection: Connection, sent: Form) -> None:
    connection.head("POST", "/upload", sent.headers(**{"Content-Length": str(len(sent.body))}))


def test_a_peer_receives_while_the_client_still_sends(cluster: Cluster, node: Server) -> None:
    content = secrets.token_bytes(8 * MIB)
    sent = form(content)
    with connect(node) as connection:
        begin_upload(connection, sent)
        connection.send(sent.body[: 6 * MIB])

        eventually(lambda: sizes_under_way(cluster) >= [4 * MIB, 4 * MIB])
        connection.send(sent.body[6 * MIB :])
        answer = connection.read("POST").json()

    assert answer["replicas"] == sorted(each.node_id for each in cluster.nodes)
    for each in cluster.nodes:
        assert each.retrieve(hashlib.md5(content).hexdigest()).content == content
    assert sizes_under_way(cluster) == []


def test_a_client_that_hangs_up_leaves_nothing_on_either_node(
    cluster: Cluster, node: Server
) -> None:
    sent = form(secrets.token_bytes(8 * MIB))
    with connect(node) as connection:
        begin_upload(connection, sent)
        connection.send(sent.body[: 6 * MIB])
        eventually(lambda: sizes_under_way(cluster) >= [4 * MIB, 4 * MIB])

    eventually(lambda: sizes_under_way(cluster) == [])


@pytest.mark.parametrize(
    ("before", "behind"),
    [
        (b"", part(secrets.token_bytes(60_000), disposition='name="note"')),
        (part(b"first", disposition='name="note"'), b""),
        (b"a preamble\r\n\r\n", b""),
        (b"", b"--" + BOUNDARY.encode() + b"--\r\nan epilogue"),
    ],
    ids=["a field behind", "a field before", "a preamble", "an epilogue"],
)
def test_a_form_may_be_longer_than_its_file_suggests(
    cluster: Cluster, node: Server, before: bytes, behind: bytes
) -> None:
    content = secrets.token_bytes(3 * MIB)
    body = before + part(content, disposition='name="file"; filename="a.bin"') + behind
    if not behind.endswith(b"epilogue"):
        body += f"--{BOUNDARY}--\r\n".encode()
    headers = {"Content-Type": f"multipart/form-data; boundary={BOUNDARY}"}

    answer = node.request("POST", "/upload", data=body, headers=headers).json()

    assert answer["size"] == len(content)
    assert answer["replicas"] == sorted(each.node_id for each in cluster.nodes)
    for path in cluster.blob_paths(answer["hash"]):
        assert path.read_bytes() == content


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE"])
def test_only_a_signed_post_brings_a_receipt(node: Server, method: str) -> None:
    assert refusal(node.request(method, "/internal/receipts")) == (405, "method_not_allowed")
    unsigned = node.request("POST", "/internal/receipts", data=b"content")
    assert refusal(unsigned) == (401, "not_signed")
