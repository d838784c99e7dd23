"""What a person sees who starts a cluster."""

import pytest

from tests.conftest import StartCluster
from tests.support.cluster import BANNER
from tests.support.waiting import eventually

pytestmark = pytest.mark.cluster


@pytest.mark.parametrize("node_count", [1, 2, 3])
def test_once_the_banner_is_there_an_upload_is_registered_and_has_its_replicas(
    start_cluster: StartCluster, node_count: int
) -> None:
    cluster = start_cluster(ready=False, node_count=node_count, HEARTBEAT_SECONDS="2")
    eventually(lambda: BANNER in cluster.log, 30)

    answers = [
        node.upload(f"first at {node.node_id}".encode()).json() for node in reversed(cluster.nodes)
    ]

    assert [answer["registered"] for answer in answers] == [True] * node_count
    assert [len(answer["replicas"]) for answer in answers] == [min(2, node_count)] * node_count
