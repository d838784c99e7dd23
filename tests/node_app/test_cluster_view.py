"""What a node believes of its cluster."""

from pathlib import Path

import pytest

from mini_dropbox.wire import NodeEntry
from node_app.cluster_view import SUSPICION_SECONDS, ClusterView
from tests.support.nodes import cluster_map, node_entry

OWN = node_entry(8001)
BLOB = "0123456789abcdef0123456789abcdef"


class Clock:
    """A clock that is set by hand."""

    now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "cluster_map.json"


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def view(path: Path, clock: Clock) -> ClusterView:
    return ClusterView(path, OWN, clock=clock)


def ids(nodes: list[NodeEntry]) -> set[str]:
    return {node.node_id for node in nodes}


def homes(view: ClusterView) -> set[str]:
    return ids(view.homes(BLOB, own_is_writable=True))


def test_before_the_first_map_a_node_stands_alone(view: ClusterView) -> None:
    assert view.homes(BLOB, own_is_writable=True) == [OWN]
    assert view.homes(BLOB, own_is_writable=False) == []
    assert view.holders(BLOB) == []
    assert (view.replication_factor, view.write_quorum) == (1, 1)
    assert view.home_count(own_is_writable=True) == 1
    assert view.home_count(own_is_writable=False) == 0


def test_copies_go_to_healthy_writable_nodes(view: ClusterView) -> None:
    view.update(
        cluster_map(
            OWN,
            node_entry(8002),
            node_entry(8003, state="down"),
            node_entry(8004, writable=False),
            replication_factor=3,
            write_quorum=2,
        )
    )

    assert homes(view) == {"8001", "8002"}
    assert view.home_count(own_is_writable=True) == 2
    assert (view.replication_factor, view.write_quorum) == (3, 2)


def test_a_node_knows_better_than_the_master_whether_it_can_store(view: ClusterView) -> None:
    view.update(cluster_map(node_entry(8001, state="down", writable=False), node_entry(8002)))
    assert homes(view) == {"8001", "8002"}

    view.update(cluster_map(OWN, node_entry(8002)))
    assert ids(view.homes(BLOB, own_is_writable=False)) == {"8002"}


def test_a_node_ranks_itself_with_the_weight_that_the_others_know(
    path: Path, view: ClusterView
) -> None:
    entries = [node_entry(8001, weight=5000.0), node_entry(8002, weight=1.0)]
    view.update(cluster_map(*entries))
    other = ClusterView(path.with_name("other.json"), node_entry(8002))
    other.update(cluster_map(*entries))

    for number in range(50):
        blob = f"{number:032x}"
        assert view.homes(blob, own_is_writable=True) == other.homes(blob, own_is_writable=True)


def test_a_peer_that_failed_is_passed_over_for_a_while(view: ClusterView, clock: Clock) -> None:
    view.update(cluster_map(OWN, node_entry(8002), node_entry(8003)))

    view.suspect("8002")
    assert homes(view) == {"8001", "8003"}
    assert view.home_count(own_is_writable=True) == 2
    assert view.holders(BLOB)[-1].node_id == "8002"

    clock.now += SUSPICION_SECONDS - 0.1
    assert homes(view) == {"8001", "8003"}
    clock.now += 0.2
    assert homes(view) == {"8001", "8002", "8003"}


def test_holders_are_all_peers_with_those_that_answer_first(view: ClusterView) -> None:
    view.update(
        cluster_map(
            OWN, node_entry(8002, state="down"), node_entry(8003), node_entry(8004, writable=False)
        )
    )

    holders = [node.node_id for node in view.holders(BLOB)]

    assert set(holders[:2]) == {"8003", "8004"}
    assert holders[2:] == ["8002"]


def test_the_map_is_there_again_after_a_restart_without_the_master(
    path: Path, view: ClusterView
) -> None:
    view.update(cluster_map(OWN, node_entry(8002), replication_factor=2, write_quorum=2))

    restarted = ClusterView(path, OWN)

    assert homes(restarted) == {"8001", "8002"}
    assert (restarted.replication_factor, restarted.write_quorum) == (2, 2)


def test_the_map_is_written_only_when_it_says_something_new(path: Path, view: ClusterView) -> None:
    known = cluster_map(OWN, node_entry(8002))
    view.update(known)
    path.unlink()

    view.update(cluster_map(OWN, node_entry(8002)))
    assert not path.exists()

    view.update(cluster_map(OWN, node_entry(8002, state="down")))
    assert path.exists()


def test_the_map_is_replaced_rather_than_written_over(path: Path, view: ClusterView) -> None:
    view.update(cluster_map(OWN, node_entry(8002)))
    before = path.read_bytes()

    with path.open("rb") as old:
        view.update(cluster_map(OWN, node_entry(8003)))
        assert old.read() == before

    assert homes(ClusterView(path, OWN)) == {"8001", "8003"}
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize(
    "content", [b"", b'{"nodes": [', b"[]", b"{}", b"\xff\xfe", b'{"nodes": 5}']
)
def test_a_torn_map_is_as_good_as_none(path: Path, content: bytes) -> None:
    path.write_bytes(content)

    assert ClusterView(path, OWN).homes(BLOB, own_is_writable=True) == [OWN]
