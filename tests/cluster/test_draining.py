"""A node is drained and let go while the cluster is in use."""

import secrets
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.cluster import PROJECT_DIR, Cluster, Server
from tests.support.waiting import eventually

pytestmark = pytest.mark.cluster

SECONDS = 60.0


@pytest.fixture
def own_cluster(tmp_path: Path) -> Iterator[Cluster]:
    """Return a cluster of three nodes that a test may take apart."""
    cluster = Cluster(tmp_path, node_count=2, HEARTBEAT_SECONDS="0.2")
    cluster.start()
    try:
        cluster.wait_until_ready()
        third = cluster.add_node()
        eventually(lambda: third.health().get("healthy_nodes") == 3, 40)
        eventually(cluster.is_whole, 20)
        yield cluster
    finally:
        cluster.stop()


def manage(cluster: Cluster, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "manage.py", *arguments, "--data-dir", str(cluster.data_dir)],
        cwd=PROJECT_DIR,
        env=cluster.environment(),
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
    )


def replicas(cluster: Cluster, blob_hash: str) -> set[str]:
    return set(cluster.master.get("/get", params={"hash": blob_hash}).json()["replicas"])


def test_a_node_is_made_read_only_drained_and_removed_while_files_come(
    own_cluster: Cluster,
) -> None:
    first, second, third = own_cluster.nodes
    contents: dict[str, bytes] = {}

    def upload(node: Server) -> set[str]:
        """Store something new, and return who has it."""
        content = secrets.token_bytes(3000)
        answer = node.upload(content).json()
        contents[answer["hash"]] = content
        return set(answer["replicas"])

    stored_on = [upload(third) for _ in range(25)]
    assert any(third.node_id in nodes for nodes in stored_on)
    staying = {first.node_id, second.node_id}
    assert manage(own_cluster, "read_only", third.node_id).returncode == 0
    eventually(lambda: upload(third) == staying, 20)
    assert all(third.retrieve(each).content == content for each, content in contents.items())
    on_third = [each for each in contents if third.node_id in replicas(own_cluster, each)]
    assert on_third

    dry = manage(own_cluster, "drain", third.node_id, "--dry-run")
    assert f"{len(on_third)} of them" in dry.stdout, dry.stdout + dry.stderr
    drained = manage(own_cluster, "drain", third.node_id)
    assert f"Node {third.node_id} is drained" in drained.stdout, drained.stdout + drained.stderr
    assert all(upload(third) == staying for _ in range(5))
    removed = manage(own_cluster, "remove_node", third.node_id)
    assert removed.returncode == 0, removed.stderr

    own_cluster.started[-1].kill()
    own_cluster.started[-1].wait()
    for blob_hash, content in contents.items():
        assert replicas(own_cluster, blob_hash) == staying
        assert first.retrieve(blob_hash).content == content
        assert second.retrieve(blob_hash).content == content


def test_a_new_node_gets_its_share_of_what_was_there(tmp_path: Path) -> None:
    cluster = Cluster(tmp_path, HEARTBEAT_SECONDS="0.2", COLLECT_GRACE_SECONDS="1")
    cluster.start()
    try:
        cluster.wait_until_ready()
        files = [secrets.token_bytes(2000) for _ in range(30)]
        contents = {cluster.nodes[0].upload(each).json()["hash"]: each for each in files}
        third = cluster.add_node()
        eventually(lambda: third.health().get("healthy_nodes") == 3, 40)
        eventually(cluster.is_whole, 20)

        moved = manage(cluster, "rebalance")
        assert "Every blob is where placement wants it." in moved.stdout, moved.stderr
        assert "0 blobs are not where" in manage(cluster, "rebalance", "--dry-run").stdout

        assert any(third.node_id in replicas(cluster, each) for each in contents)
        for blob_hash, content in contents.items():
            assert len(cluster.blob_paths(blob_hash)) == len(replicas(cluster, blob_hash)) == 2
            assert {node.retrieve(blob_hash).content for node in cluster.nodes} == {content}
    finally:
        cluster.stop()
