"""Nodes that are started by hand beside a running cluster."""

import signal
import time

import psutil
import pytest

from tests.conftest import StartCluster
from tests.support.load import Uploads
from tests.support.waiting import eventually

pytestmark = pytest.mark.cluster


@pytest.mark.parametrize("reload", [False, True], ids=["noreload", "reload"])
def test_a_third_node_joins_within_five_seconds_while_files_go_up(
    start_cluster: StartCluster, *, reload: bool
) -> None:
    cluster = start_cluster(HEARTBEAT_SECONDS="2")
    with Uploads(cluster.nodes[0]) as uploads:
        began = time.monotonic()
        third = cluster.add_node(reload=reload)
        eventually(lambda: cluster.node_states().get(third.node_id) == "healthy", 5)
        joined = time.monotonic() - began
        folder = cluster.data_dir / f"node_{third.node_id}" / "blobs"
        eventually(lambda: any(folder.glob("*/*/*")), 10, what="it holds blobs")
        uploads.wait_for(10)

    assert joined < 5
    assert {outcome.answer.status_code for outcome in uploads.outcomes} == {200}
    assert all(len(outcome.answer.json()["replicas"]) == 2 for outcome in uploads.outcomes)
    for node in cluster.nodes:
        for blob_hash, content in uploads.stored():
            assert node.retrieve(blob_hash).content == content


def test_a_node_with_another_secret_is_not_let_in_and_says_so(start_cluster: StartCluster) -> None:
    cluster = start_cluster()
    cluster.add_node(CLUSTER_SECRET="the secret of another cluster", NODE_ID="stranger")

    eventually(lambda: "check the cluster secret" in cluster.log, what="a log line that says why")

    assert "stranger" not in cluster.node_states()
    line = next(line for line in cluster.log.splitlines() if "check the cluster secret" in line)
    assert "[node stranger " in line
    assert cluster.log.count("check the cluster secret") == 1
    assert cluster.nodes[0].upload(b"the cluster goes on").json()["registered"] is True


def test_a_node_of_runserver_ends_with_ctrl_c(start_cluster: StartCluster) -> None:
    cluster = start_cluster()
    node = cluster.add_node(reload=True)
    eventually(lambda: cluster.node_states().get(node.node_id) == "healthy")
    process = cluster.started[-1]
    children = psutil.Process(process.pid).children(recursive=True)

    process.send_signal(signal.SIGINT)

    process.wait(6)
    assert psutil.wait_procs(children, 2)[1] == []
