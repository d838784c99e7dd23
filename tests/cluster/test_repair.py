"""A cluster mends itself: what has too few copies gets more, without anybody's doing."""

import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.cluster import Cluster, Server
from tests.support.waiting import eventually

pytestmark = pytest.mark.cluster

REPAIR_SECONDS = 40.0


@pytest.fixture
def own_cluster(tmp_path: Path) -> Iterator[Cluster]:
    """Return a cluster that a test may take apart."""
    cluster = Cluster(tmp_path, node_count=2, HEARTBEAT_SECONDS="0.2", REPAIR_GRACE_SECONDS="1")
    cluster.start()
    try:
        cluster.wait_until_ready()
        yield cluster
    finally:
        cluster.stop()


def upload_all(node: Server, count: int, size: int = 2000) -> dict[str, bytes]:
    """Upload different files; return their contents by hash."""
    contents = [secrets.token_bytes(size) for _ in range(count)]
    return {node.upload(content).json()["hash"]: content for content in contents}


def replicas(cluster: Cluster, blob_hash: str) -> list[str]:
    found = cluster.master.get("/get", params={"hash": blob_hash}).json()["replicas"]
    return [str(node_id) for node_id in found]


def repair(cluster: Cluster) -> dict[str, Any]:
    return dict(cluster.master.get("/api/v1/repair/").json())


def are_on(cluster: Cluster, files: dict[str, bytes], nodes: set[str], copies: int) -> bool:
    """Tell whether each file has so many copies on record on these nodes."""
    return all(len(nodes & set(replicas(cluster, each))) >= copies for each in files)


def test_a_file_that_came_while_a_node_was_away_gets_its_copy_when_it_is_back(
    own_cluster: Cluster,
) -> None:
    first, second = own_cluster.nodes
    with own_cluster.frozen(second):
        eventually(lambda: own_cluster.node_states()[second.node_id] != "healthy", 20)
        files = upload_all(first, 5)
        assert all(replicas(own_cluster, each) == [first.node_id] for each in files)
        eventually(lambda: repair(own_cluster)["backlog"] == 5, 20)

    eventually(
        lambda: are_on(own_cluster, files, {first.node_id, second.node_id}, 2), REPAIR_SECONDS
    )
    eventually(lambda: repair(own_cluster)["backlog"] == 0, 10)
    for blob_hash, content in files.items():
        paths = own_cluster.blob_paths(blob_hash)
        assert [path.read_bytes() for path in paths] == [content] * 2


def test_a_dead_nodes_files_are_copied_to_others(own_cluster: Cluster) -> None:
    third = own_cluster.add_node()
    eventually(lambda: own_cluster.node_states().get(third.node_id) == "healthy", 40)
    eventually(lambda: third.health().get("healthy_nodes") == 3, 10)
    files = {**upload_all(third, 30), **upload_all(third, 2, 3_000_000)}
    assert any(third.node_id in replicas(own_cluster, each) for each in files)

    own_cluster.started[-1].kill()
    own_cluster.started[-1].wait()

    alive = {node.node_id for node in own_cluster.nodes[:2]}
    eventually(lambda: are_on(own_cluster, files, alive, 2), REPAIR_SECONDS)
    for blob_hash, content in files.items():
        for node in own_cluster.nodes[:2]:
            assert node.retrieve(blob_hash).content == content


def test_repair_goes_on_after_the_master_was_killed(own_cluster: Cluster) -> None:
    first, second = own_cluster.nodes
    with own_cluster.frozen(second):
        eventually(lambda: own_cluster.node_states()[second.node_id] != "healthy", 20)
        files = upload_all(first, 20)
        old = own_cluster.worker(own_cluster.master)
        old.kill()
        eventually(lambda: own_cluster.has_new_worker(own_cluster.master, old), 20)

    both = {first.node_id, second.node_id}
    eventually(lambda: are_on(own_cluster, files, both, 2), 2 * REPAIR_SECONDS)
