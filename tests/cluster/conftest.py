"""What the tests of running clusters share."""

from collections.abc import Iterator

import pytest

from tests.support.cluster import Cluster, Server
from tests.support.refusals import REFUSED, names_listed, servers
from tests.support.waiting import eventually

# A worker may keep this many more connections to its peers than before.
SPARE_DESCRIPTORS = 6


@pytest.fixture(scope="module")
def node(cluster: Cluster) -> Server:
    return cluster.nodes[0]


@pytest.fixture(scope="module")
def nothing_is_left_behind(cluster: Cluster) -> Iterator[None]:
    """Compare descriptors, temporary files, rows and logs before and after a module's tests."""
    for each in cluster.nodes:
        assert each.upload(b"open the connections between the nodes").ok
    before = [descriptors(cluster, server) for server in servers(cluster)]
    yield
    limits = [count + SPARE_DESCRIPTORS for count in before]
    eventually(
        lambda: all(
            descriptors(cluster, server) <= limit
            for server, limit in zip(servers(cluster), limits, strict=True)
        ),
        20,
        what="the open descriptors are as few as before",
    )
    eventually(lambda: not cluster.temporary_files(), what="no temporary files are left")
    assert REFUSED not in names_listed(cluster)
    assert "Traceback" not in cluster.log


def descriptors(cluster: Cluster, server: Server) -> int:
    return int(cluster.worker(server).num_fds())
