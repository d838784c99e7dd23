"""Reading from a node whose own copy cannot be read."""

import pytest

from tests.conftest import StartCluster
from tests.support.blob_backends import md5

pytestmark = pytest.mark.cluster

CONTENT = b"some content"


def test_a_copy_that_the_disk_cannot_read_is_served_from_a_peer(
    start_cluster: StartCluster,
) -> None:
    cluster = start_cluster()
    assert cluster.nodes[0].upload(CONTENT).status_code == 200
    own, other = cluster.blob_paths(md5(CONTENT))
    # A folder under a blob's name is an error to every read.
    own.unlink()
    own.mkdir()

    answers = [node.retrieve(md5(CONTENT)) for node in cluster.nodes]
    assert [(answer.status_code, answer.content) for answer in answers] == [(200, CONTENT)] * 2

    # With no other copy it is not "unknown": it may be readable again.
    other.unlink()
    assert [node.retrieve(md5(CONTENT)).status_code for node in cluster.nodes] == [503, 503]
