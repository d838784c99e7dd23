"""A node whose disk has gone from under it."""

import shutil

import pytest

from tests.conftest import StartCluster
from tests.support.waiting import eventually

pytestmark = pytest.mark.cluster


def test_a_node_whose_folder_has_gone_says_so_and_the_other_goes_on(
    start_cluster: StartCluster,
) -> None:
    cluster = start_cluster()
    lost, other = cluster.nodes
    shutil.rmtree(cluster.data_dir / f"node_{lost.node_id}")

    eventually(lambda: lost.get("/health").status_code == 503)
    eventually(lambda: other.upload(b"content").json()["replicas"] == [other.node_id])
    assert cluster.node_states()[lost.node_id] == "healthy"
