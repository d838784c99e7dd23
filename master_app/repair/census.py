"""Which nodes' copies count, and which nodes can take new ones."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime

from master_app import membership, services
from master_app.models import Node, NodeMode, NodeState
from mini_dropbox.wire import NodeEntry


@dataclass(frozen=True)
class Census:
    """The nodes at one moment, by their keys in the database.

    Copies on `counted` nodes are copies; a copy can be made from one in `reach`, and on `takers`.
    What a draining node has does not count, and is a source all the same.
    """

    counted: frozenset[int]
    reach: frozenset[int]
    takers: frozenset[int]
    entries: Mapping[int, NodeEntry] = field(repr=False)

    def keys(self) -> dict[str, int]:
        """Return the nodes' keys by their ids."""
        return {entry.node_id: key for key, entry in self.entries.items()}


class CensusTaker:
    """Watches how long nodes are silent, by a clock that nobody sets.

    A node that is down may come back with all it has: its copies count until it has been silent
    for the grace period, as seen by this process.
    """

    def __init__(
        self, grace_seconds: float, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._grace_seconds = grace_seconds
        self._clock = clock
        self._last_news: dict[int, tuple[datetime, float]] = {}

    def take(self) -> Census:
        """Look at the nodes now."""
        now = self._clock()
        by_id = {entry.node_id: entry for entry in services.cluster_map().nodes}
        entries = {}
        staying = set()
        membership.heartbeats_to_come_date_back()
        for key, node_id, heartbeat, mode in Node.objects.members().values_list(
            "pk", "node_id", "last_heartbeat_at", "mode"
        ):
            if node_id in by_id:
                entries[key] = by_id[node_id]
            if mode != NodeMode.DRAINING:
                staying.add(key)
            known, _ = self._last_news.get(key, (None, 0.0))
            if known != heartbeat:
                self._last_news[key] = (heartbeat, now)
        reach = {key for key, entry in entries.items() if entry.state != NodeState.DOWN}
        silent = {key for key in entries if now - self._last_news[key][1] >= self._grace_seconds}
        return Census(
            counted=frozenset(entries.keys() & staying - (silent - reach)),
            reach=frozenset(reach),
            takers=frozenset(key for key, entry in entries.items() if entry.is_taker),
            entries=entries,
        )
