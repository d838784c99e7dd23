"""Decides which node copies which blob from whom. Pure."""

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from master_app.repair.census import Census
from mini_dropbox import placement
from mini_dropbox.wire import MAX_COPIES, CopyOrder

# What is ordered at once; a larger blob goes alone.
BATCH_BYTES: Final = 64 * 1024 * 1024


@dataclass(frozen=True)
class Endangered:
    """A blob with too few copies; `holders` are the keys of all nodes with a copy on record."""

    key: int
    hash: str
    sha256: str
    size: int
    name: str
    content_type: str
    holders: frozenset[int]

    def copies(self, census: Census) -> int:
        return len(self.holders & census.counted)


@dataclass(frozen=True)
class Batch:
    """Orders for one node, by the keys of their blobs."""

    taker: int
    orders: Mapping[int, CopyOrder]

    @property
    def size(self) -> int:
        return sum(order.size for order in self.orders.values())


@dataclass(frozen=True)
class Plan:
    """What can be done now; `lost` has no copy in reach, `waiting` nobody who could take one."""

    batches: Sequence[Batch]
    done: Collection[int]
    lost: Collection[int]
    waiting: Collection[int]


def plan(blobs: Iterable[Endangered], census: Census, wanted: int) -> Plan:
    """Choose for each missing copy the best placed node that has none, and its sources."""
    batches: list[Batch] = []
    for_taker: defaultdict[int, list[tuple[Endangered, CopyOrder]]] = defaultdict(list)
    done, lost, waiting = [], [], []
    keys = census.keys()
    for blob in blobs:
        missing = wanted - blob.copies(census)
        sources = sorted(blob.holders & census.reach)
        takers = [census.entries[key] for key in census.takers - blob.holders]
        if missing <= 0:
            done.append(blob.key)
        elif not sources:
            lost.append(blob.key)
        elif not takers:
            waiting.append(blob.key)
        else:
            order = order_for(blob, census, sources)
            for taker in placement.rank(takers, blob.hash)[:missing]:
                for_taker[keys[taker.node_id]].append((blob, order))
    for taker_key, orders in for_taker.items():
        batches += batches_for(taker_key, orders)
    return Plan(batches, done, lost, waiting)


def order_for(blob: Endangered, census: Census, sources: Sequence[int]) -> CopyOrder:
    """Return the order for a copy of a blob from nodes by their keys."""
    # Those that are up are asked first, and not always the same one of them.
    ranked = placement.rank([census.entries[key] for key in sources], blob.hash[::-1])
    ranked.sort(key=lambda node: node.state != "healthy")
    return CopyOrder(
        hash=blob.hash,
        sha256=blob.sha256,
        size=blob.size,
        name=blob.name,
        content_type=blob.content_type,
        sources=tuple(node.node_id for node in ranked),
    )


def batches_for(taker: int, orders: Iterable[tuple[Endangered, CopyOrder]]) -> list[Batch]:
    """Return orders for one node in batches of a bounded size."""
    batches: list[Batch] = []
    gathered: dict[int, CopyOrder] = {}
    size = 0
    for blob, order in orders:
        if gathered and (size + blob.size > BATCH_BYTES or len(gathered) == MAX_COPIES):
            batches.append(Batch(taker, gathered))
            gathered, size = {}, 0
        gathered[blob.key] = order
        size += blob.size
    if gathered:
        batches.append(Batch(taker, gathered))
    return batches
