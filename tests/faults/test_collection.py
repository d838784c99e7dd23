"""Deleted files go from disk, late, and nothing that somebody has stored again goes with them."""

import contextlib
import secrets
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.cluster import Cluster
from tests.support.waiting import eventually

pytestmark = pytest.mark.faults

SECONDS = 40.0


@pytest.fixture
def own_cluster(tmp_path: Path) -> Iterator[Cluster]:
    """Return a cluster in which what is deleted may go after a second."""
    cluster = Cluster(tmp_path, HEARTBEAT_SECONDS="0.2", COLLECT_GRACE_SECONDS="1")
    cluster.start()
    try:
        cluster.wait_until_ready()
        yield cluster
    finally:
        cluster.stop()


def delete(cluster: Cluster, blob_hash: str) -> int:
    """Delete all files of a blob; return how many there were."""
    files = cluster.master.get("/api/v1/files/", params={"hash": blob_hash}).json()["results"]
    return sum(
        cluster.master.request("DELETE", f"/api/v1/files/{file['id']}/").status_code == 204
        for file in files
    )


def stores(cluster: Cluster, blob_hash: str) -> list[Path]:
    """Return a blob's replicas on disk, compressed or not."""
    return sorted(cluster.data_dir.glob(f"node_*/blobs/*/*/{blob_hash}*"))


def test_deleted_files_go_from_every_disk(own_cluster: Cluster) -> None:
    node = own_cluster.nodes[0]
    other = secrets.token_bytes(2000)
    kept = node.upload(other).json()["hash"]
    contents = [secrets.token_bytes(size) for size in (0, 2000, 200_000)]
    hashes = [node.upload(content).json()["hash"] for content in contents]
    assert [len(stores(own_cluster, each)) for each in hashes] == [2, 2, 2]

    assert [delete(own_cluster, each) for each in hashes] == [1, 1, 1]

    names = own_cluster.master.get("/list").text
    assert not any(each in names for each in hashes)
    eventually(lambda: not any(stores(own_cluster, each) for each in hashes), SECONDS)
    assert {node.retrieve(each).status_code for each in hashes} == {404}
    assert node.retrieve(kept).content == other
    eventually(lambda: is_collected(own_cluster), SECONDS)


def test_a_file_that_still_has_another_name_stays(own_cluster: Cluster) -> None:
    node = own_cluster.nodes[0]
    content = secrets.token_bytes(3000)
    blob_hash = node.upload(content, "one.bin").json()["hash"]
    node.upload(content, "another.bin")
    gone = node.upload(secrets.token_bytes(3000)).json()["hash"]
    (one,) = own_cluster.master.get("/api/v1/files/", params={"name": "one.bin"}).json()["results"]
    own_cluster.master.request("DELETE", f"/api/v1/files/{one['id']}/")
    delete(own_cluster, gone)

    eventually(lambda: not stores(own_cluster, gone), SECONDS)
    assert node.retrieve(blob_hash).content == content
    assert (
        own_cluster.master.get("/get", params={"hash": blob_hash}).json()["name"] == "another.bin"
    )


def test_p18_a_node_that_was_away_removes_it_when_it_is_back(own_cluster: Cluster) -> None:
    first, second = own_cluster.nodes
    blob_hash = first.upload(secrets.token_bytes(2000)).json()["hash"]
    with own_cluster.frozen(second):
        eventually(lambda: own_cluster.node_states()[second.node_id] == "down", SECONDS)
        delete(own_cluster, blob_hash)
        status = own_cluster.master.get("/api/v1/collection/").json()
        assert status["obstacle"].startswith(f"node {second.node_id} is down")
        assert len(stores(own_cluster, blob_hash)) == 2

    eventually(lambda: not stores(own_cluster, blob_hash), SECONDS)
    assert second.retrieve(blob_hash).status_code == 404


@contextlib.contextmanager
def deleting(cluster: Cluster) -> Iterator[None]:
    """Delete every file whose name does not begin with `keep-`, again and again."""
    done = threading.Event()

    def delete_all() -> None:
        while not done.is_set():
            for file in cluster.master.get("/api/v1/files/").json()["results"]:
                if not file["name"].startswith("keep-"):
                    cluster.master.request("DELETE", f"/api/v1/files/{file['id']}/")

    thread = threading.Thread(target=delete_all)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()


def is_collected(cluster: Cluster) -> bool:
    status = cluster.master.get("/api/v1/collection/").json()
    return not (status["unreferenced_blobs"] or status["removing_blobs"])


@pytest.mark.timeout(3600)
def test_p19_what_is_stored_again_while_it_is_collected_is_never_lost(
    own_cluster: Cluster, *, is_long: bool
) -> None:
    generations, rounds = (100, 100) if is_long else (6, 25)
    kept: dict[str, bytes] = {}
    with deleting(own_cluster):
        for generation in range(generations):
            contents = [secrets.token_bytes(1500) for _ in range(5)]
            for number in range(rounds):
                # Each is uploaded, and its last file deleted, again and again.
                content, node = contents[number % 5], own_cluster.nodes[number % 2]
                assert node.upload(content, f"{generation}-{number}.bin").status_code in {200, 503}
            if generation % 2:
                # One comes again after it has gone, the others while they go.
                eventually(lambda: is_collected(own_cluster), SECONDS)
            answer = own_cluster.nodes[generation % 2].upload(contents[0], f"keep-{generation}.bin")
            assert answer.ok, answer.text
            kept[answer.json()["hash"]] = contents[0]
            assert own_cluster.nodes[0].retrieve(answer.json()["hash"]).content == contents[0]

    eventually(lambda: is_collected(own_cluster), SECONDS)
    for blob_hash, content in kept.items():
        assert {node.retrieve(blob_hash).content for node in own_cluster.nodes} == {content}
        assert len(stores(own_cluster, blob_hash)) == 2
