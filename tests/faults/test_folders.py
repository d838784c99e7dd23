"""Disks that are carried over, copied, wiped, or put to work twice."""

import shutil
from pathlib import Path

import pytest

from tests.conftest import StartCluster
from tests.support.blob_backends import md5
from tests.support.cluster import Cluster, Server, free_ports
from tests.support.refusals import refusal
from tests.support.waiting import eventually

pytestmark = pytest.mark.faults

SECRET = "one secret for two clusters"
CONTENT = b"what the disk had before"


def start_elsewhere(cluster: Cluster, data_dir: Path, node_id: str) -> Server:
    """Start a node of the cluster whose folder is in another place; return at once."""
    node = Server(free_ports(1)[0])
    arguments = ["--role", "node", node.address, "--data-dir", str(data_dir), "--noreload"]
    options = {"NODE_ID": node_id, "MASTER_URL": cluster.master.url, "CLUSTER_SECRET": SECRET}
    cluster.started.append(cluster.manage("runserver", *arguments, **options))
    return node


def wait_until_refused(node: Server) -> str:
    """Return the sentence with which a node's health is answered once it is refused."""

    def sentence() -> str:
        try:
            answer = node.get("/health", headers={"Accept": "application/json"}, timeout=2)
        except OSError:
            return ""
        return str(answer.json()["detail"]) if answer.status_code == 503 else ""

    return eventually(sentence, 20, what="the node is refused")


def test_p18_a_disk_of_another_cluster_is_refused_and_nothing_of_it_is_served(
    start_cluster: StartCluster,
) -> None:
    first = start_cluster(CLUSTER_SECRET=SECRET)
    carried = first.nodes[0].node_id
    assert first.nodes[0].upload(CONTENT).ok
    first.stop()
    second = start_cluster(CLUSTER_SECRET=SECRET)
    source = first.data_dir / f"node_{carried}"
    shutil.copytree(source, second.data_dir / source.name)

    stranger = start_elsewhere(second, second.data_dir, carried)
    sentence = wait_until_refused(stranger)

    assert "belongs to cluster" in sentence
    assert refusal(stranger.upload(b"new")) == (503, "foreign_cluster")
    for _ in range(3):
        assert refusal(stranger.retrieve(md5(CONTENT))) == (503, "foreign_cluster")
    assert stranger.node_id not in second.node_states()
    assert carried not in second.node_states()
    assert second.nodes[0].retrieve(md5(CONTENT)).status_code == 404
    assert second.nodes[0].upload(b"the cluster goes on").json()["registered"] is True
    assert second.log.count(sentence) == 1


def test_a_copied_folder_is_refused_at_the_start(start_cluster: StartCluster) -> None:
    cluster = start_cluster()
    node = cluster.nodes[0]
    assert node.upload(CONTENT).ok
    copy = Server(free_ports(1)[0])
    source = cluster.data_dir / f"node_{node.node_id}"
    shutil.copytree(source, cluster.data_dir / f"node_{copy.node_id}")

    arguments = ["--role", "node", copy.address, "--data-dir", str(cluster.data_dir), "--noreload"]
    process = cluster.manage("runserver", *arguments, MASTER_URL=cluster.master.url)
    cluster.started.append(process)

    assert process.wait(20) != 0
    assert f"holds the disk of node {node.node_id}, not of node {copy.node_id}" in cluster.log
    assert copy.node_id not in cluster.node_states()


@pytest.mark.parametrize("copied", [True, False], ids=["a copy of its disk", "another disk"])
def test_a_second_node_of_one_name_is_refused_and_the_first_goes_on(
    start_cluster: StartCluster, tmp_path: Path, *, copied: bool
) -> None:
    cluster = start_cluster(CLUSTER_SECRET=SECRET)
    first = cluster.nodes[0]
    assert first.upload(CONTENT).ok
    folder = f"node_{first.node_id}"
    if copied:
        shutil.copytree(cluster.data_dir / folder, tmp_path / folder)

    second = start_elsewhere(cluster, tmp_path, first.node_id)
    sentence = wait_until_refused(second)

    assert first.url in sentence
    assert refusal(second.upload(b"new")) == (503, "node_refused")
    # A node of this cluster it is, so what it has may be read; it knows no others to ask.
    read = second.retrieve(md5(CONTENT))
    assert (read.status_code == 200) if copied else (refusal(read) == (503, "unavailable"))
    assert cluster.log.count(sentence) == 1
    assert cluster.is_whole()
    assert first.upload(b"the first goes on").json()["registered"] is True
