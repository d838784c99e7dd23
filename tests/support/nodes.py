"""Cluster maps to test with."""

from mini_dropbox.wire import ClusterMap, NodeEntry


def node_entry(
    number: int, *, state: str = "healthy", weight: float = 100.0, writable: bool = True
) -> NodeEntry:
    """Return the entry of a node that is named by its port."""
    return NodeEntry(str(number), f"http://127.0.0.1:{number}", state, weight, writable)


def cluster_map(
    *nodes: NodeEntry, replication_factor: int = 2, write_quorum: int = 1
) -> ClusterMap:
    return ClusterMap(replication_factor, write_quorum, nodes)
