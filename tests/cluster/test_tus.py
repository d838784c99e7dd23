"""Resumable uploads through a client that others wrote, tuspy, and by hand; with nodes that die."""

import hashlib
import io
import secrets
from collections.abc import Collection, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import requests
from tusclient.client import TusClient
from tusclient.uploader import Uploader

from tests.support.cluster import Cluster, Server
from tests.support.raw_http import Connection, connect
from tests.support.refusals import names_listed, refusal
from tests.support.waiting import eventually

pytestmark = pytest.mark.cluster

MIB = 1024 * 1024
BODY_TYPE = "application/offset+octet-stream"


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """Start a cluster whose nodes are killed; uploads need both of its nodes."""
    folder = tmp_path_factory.mktemp("tus")
    cluster = Cluster(folder, HEARTBEAT_SECONDS="0.3", WRITE_QUORUM="2")
    try:
        cluster.start()
        cluster.wait_until_ready()
        yield cluster
    finally:
        cluster.stop()


@pytest.fixture
def faulty(shared: Cluster) -> Cluster:
    """Return the cluster once all of it has recovered from the test before."""
    shared.wait_until_ready()
    return shared


def uploader(
    node: Server, content: bytes, name: str, *, url: str | None = None, retries: int = 0
) -> Uploader:
    return TusClient(f"{node.url}/uploads/").uploader(
        file_stream=io.BytesIO(content),
        chunk_size=4 * MIB,
        metadata={"filename": name, "filetype": "image/x-own"},
        url=url,
        retries=retries,
        retry_delay=1,
    )


def tus(method: str, url: str, body: bytes = b"", **headers: str) -> requests.Response:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return requests.request(
        method, url, data=body, headers={"Tus-Resumable": "1.0.0", **named}, timeout=30
    )


def create(node: Server, length: int) -> str:
    answer = tus("POST", f"{node.url}/uploads/", Upload_Length=str(length))
    assert answer.status_code == 201
    return node.url + answer.headers["Location"]


def patch(url: str, offset: int, body: bytes) -> requests.Response:
    return tus("PATCH", url, body, Upload_Offset=str(offset), Content_Type=BODY_TYPE)


def begin_patch(connection: Connection, url: str, length: int) -> None:
    """Send the head of a PATCH from the start, by hand."""
    headers = {
        "Tus-Resumable": "1.0.0",
        "Upload-Offset": "0",
        "Content-Type": BODY_TYPE,
        "Content-Length": str(length),
    }
    connection.head("PATCH", urlsplit(url).path, headers)


def offset_of(url: str) -> int:
    answer = tus("HEAD", url)
    assert answer.status_code == 200
    return int(answer.headers["Upload-Offset"])


def upload_files(cluster: Cluster) -> list[Path]:
    return list(cluster.data_dir.glob("node_*/uploads/*"))


def kill_worker(cluster: Cluster, node: Server) -> None:
    """Kill the process that serves with SIGKILL, and wait for the next one."""
    worker = cluster.worker(node)
    worker.kill()
    eventually(lambda: cluster.has_new_worker(node, worker), 20, what="the node is back")


def assert_stored_twice(
    cluster: Cluster, content: bytes, name: str, *, others: Collection[Path] = ()
) -> None:
    """Check that it is a blob, and no upload any more; `others` were begun by other tests."""
    blob_hash = hashlib.md5(content, usedforsecurity=False).hexdigest()
    copies = cluster.blob_paths(blob_hash)
    assert len(copies) == 2
    assert all(copy.read_bytes() == content for copy in copies)
    for node in cluster.nodes:
        assert node.retrieve(blob_hash).content == content
    assert name in names_listed(cluster)
    assert set(upload_files(cluster)) <= set(others)


def test_tuspy_sends_a_file_in_chunks(cluster: Cluster) -> None:
    others = upload_files(cluster)
    content = secrets.token_bytes(40 * MIB + 17)
    client = uploader(cluster.nodes[0], content, "in chunks.bin")

    client.upload()

    assert_stored_twice(cluster, content, "in chunks.bin", others=others)
    head = tus("HEAD", client.url)
    assert head.headers["X-Blob-Hash"] == hashlib.md5(content, usedforsecurity=False).hexdigest()
    assert set(head.headers["X-Blob-Replicas"].split(",")) == {n.node_id for n in cluster.nodes}


def test_tuspy_goes_on_after_a_node_was_killed_between_two_chunks(faulty: Cluster) -> None:
    content = secrets.token_bytes(30 * MIB)
    node = faulty.nodes[0]
    first = uploader(node, content, "killed between.bin")
    first.upload(stop_at=12 * MIB)
    kill_worker(faulty, node)

    second = uploader(node, content, "killed between.bin", url=first.url)

    assert second.offset == 12 * MIB
    second.upload()
    assert_stored_twice(faulty, content, "killed between.bin")


def test_tuspy_goes_on_while_a_node_is_killed_again_and_again(faulty: Cluster) -> None:
    content = secrets.token_bytes(60 * MIB)
    node = faulty.nodes[1]
    client = uploader(node, content, "killed within.bin", retries=30)
    with ThreadPoolExecutor(1) as thread:
        upload = thread.submit(client.upload)
        for reached in (5 * MIB, 20 * MIB, 40 * MIB):
            eventually(lambda reached=reached: largest_file(faulty) > reached or upload.done(), 30)
            kill_worker(faulty, node)
        upload.result(60)

    assert_stored_twice(faulty, content, "killed within.bin")


def test_a_request_of_many_checkpoints_loses_little_when_the_node_is_killed(
    faulty: Cluster,
) -> None:
    content = secrets.token_bytes(70 * MIB)
    node = faulty.nodes[0]
    url = create(node, len(content))
    with connect(node) as connection:
        begin_patch(connection, url, len(content))
        connection.send(content[: 60 * MIB])
        eventually(lambda: largest_file(faulty) > 58 * MIB, what="most of it has come in")
        kill_worker(faulty, node)

    offset = offset_of(url)

    assert 16 * MIB <= offset <= 60 * MIB
    assert patch(url, offset, content[offset:]).status_code == 204
    assert_stored_twice(faulty, content, hashlib.md5(content, usedforsecurity=False).hexdigest())


def test_what_came_before_the_line_broke_is_kept(faulty: Cluster) -> None:
    content = secrets.token_bytes(5 * MIB)
    node = faulty.nodes[0]
    url = create(node, len(content))
    with connect(node) as connection:
        begin_patch(connection, url, len(content))
        connection.send(content[: 3 * MIB])
        eventually(lambda: largest_file(faulty) > 2 * MIB)
        # The line is still up as far as the node knows: whoever asks takes over.
        offset = offset_of(url)
        refused = connection.read("PATCH")
    assert refusal(refused) == (423, "upload_locked")
    assert 2 * MIB < offset <= 3 * MIB
    assert patch(url, offset, content[offset:]).status_code == 204
    assert_stored_twice(faulty, content, hashlib.md5(content, usedforsecurity=False).hexdigest())


def test_a_node_that_is_told_to_stop_keeps_what_came(faulty: Cluster) -> None:
    content = secrets.token_bytes(5 * MIB)
    node = faulty.nodes[0]
    url = create(node, len(content))
    worker = faulty.worker(node)
    with connect(node) as connection:
        begin_patch(connection, url, len(content))
        connection.send(content[: 3 * MIB])
        eventually(lambda: largest_file(faulty) > 2 * MIB)
        faulty.arbiter(node).terminate()
        eventually(lambda: faulty.has_new_worker(node, worker), 20, what="the node is back")

    offset = offset_of(url)
    assert 2 * MIB < offset <= 3 * MIB
    assert patch(url, offset, content[offset:]).status_code == 204


def test_below_the_quorum_the_bytes_wait_for_the_second_node(faulty: Cluster) -> None:
    content = secrets.token_bytes(3 * MIB)
    node, other = faulty.nodes
    url = create(node, len(content))

    with faulty.frozen(other):
        assert refusal(patch(url, 0, content)) == (503, "below_write_quorum")
        assert tus("HEAD", url).status_code == 423
        kill_worker(faulty, node)

    eventually(lambda: tus("HEAD", url).status_code == 200, 30, what="it could be stored")
    assert_stored_twice(faulty, content, hashlib.md5(content, usedforsecurity=False).hexdigest())


def test_nothing_went_wrong_unseen(shared: Cluster) -> None:
    assert "Traceback" not in shared.log


def largest_file(cluster: Cluster) -> int:
    return max((path.stat().st_size for path in upload_files(cluster)), default=0)
