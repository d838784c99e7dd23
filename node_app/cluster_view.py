"""What this node believes of its cluster: the master's map, and who failed it just now."""

import contextlib
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

from mini_dropbox import placement
from mini_dropbox.wire import ClusterMap, NodeEntry, WireError

# A peer that failed is not asked again for this long; by then the master knows of it, too.
SUSPICION_SECONDS: Final = 5.0


class ClusterView:
    """The last cluster map, kept in `path` for a start while the master is away."""

    def __init__(
        self, path: Path, own: NodeEntry, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._path = path
        self._own = own
        self._clock = clock
        self._suspected_until: dict[str, float] = {}
        self._map = self._load()

    @property
    def replication_factor(self) -> int:
        return self._map.replication_factor

    @property
    def write_quorum(self) -> int:
        return self._map.write_quorum

    @property
    def node_id(self) -> str:
        return self._own.node_id

    def update(self, cluster_map: ClusterMap) -> None:
        """Believe a new map; it is written down only when it says something new."""
        if cluster_map == self._map:
            return
        self._map = cluster_map
        # A few kilobytes that wait for no disk, seldom: a thread would take longer. The rename
        # keeps the map before whole for a start that comes in between.
        written = self._path.with_suffix(".new")
        written.write_text(json.dumps(cluster_map.to_json()), encoding="utf-8")
        written.replace(self._path)

    def healthy_count(self) -> int:
        """Return how many nodes the master hears of, this one among them."""
        return sum(node.state == "healthy" for node in self._map.nodes)

    def suspect(self, node_id: str) -> None:
        """Pass over a peer that has just failed."""
        self._suspected_until[node_id] = self._clock() + SUSPICION_SECONDS

    def homes(self, blob_hash: str, *, own_is_writable: bool) -> list[NodeEntry]:
        """Return who can take a replica now, in the order in which they should."""
        nodes = self._writable_peers()
        if self._takes_own(own_is_writable=own_is_writable):
            nodes.append(self._own_entry())
        return placement.rank(nodes, blob_hash)

    def home_count(self, *, own_is_writable: bool) -> int:
        """Return how many nodes can take a replica now."""
        return len(self._writable_peers()) + self._takes_own(own_is_writable=own_is_writable)

    def _takes_own(self, *, own_is_writable: bool) -> bool:
        """Tell whether this node keeps replicas: not when an operator wants it to take none."""
        return own_is_writable and self._own_entry().is_active

    def holders(self, blob_hash: str) -> list[NodeEntry]:
        """Return the peers that may hold a blob, likeliest first, whatever their state."""
        ranked = placement.rank(self._map.nodes, blob_hash)
        peers = [node for node in ranked if node.node_id != self._own.node_id]
        return sorted(peers, key=lambda node: node.state != "healthy" or self.is_suspected(node))

    def _writable_peers(self) -> list[NodeEntry]:
        return [
            node
            for node in self._map.healthy()
            if node.node_id != self._own.node_id and not self.is_suspected(node)
        ]

    def _own_entry(self) -> NodeEntry:
        """Return this node with the weight that everybody else computes with."""
        known = (node for node in self._map.nodes if node.node_id == self._own.node_id)
        return next(known, self._own)

    def is_suspected(self, node: NodeEntry) -> bool:
        """Tell whether a peer has failed just now."""
        return self._suspected_until.get(node.node_id, 0.0) > self._clock()

    def _load(self) -> ClusterMap:
        with contextlib.suppress(FileNotFoundError, WireError, ValueError):
            return ClusterMap.from_json(json.loads(self._path.read_text(encoding="utf-8")))
        return ClusterMap(replication_factor=1, write_quorum=1, nodes=(self._own,))
