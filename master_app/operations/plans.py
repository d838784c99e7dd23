"""What an operation would do, before anybody does it. Sizes are bytes."""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final

from django.conf import settings
from django.db.models import Count, Q, QuerySet, Sum

from master_app.models import Blob, Node, NodeMode, Replica
from master_app.repair import moves
from master_app.repair.census import CensusTaker
from master_app.repair.moves import Misplaced
from master_app.services import cluster_map
from mini_dropbox import placement
from mini_dropbox.wire import NodeEntry

# So many blobs are placed to say where the others will go.
SAMPLE: Final = 2000


@dataclass(frozen=True)
class DrainPlan:
    """What is on a node, and what of it has to be copied before it can go.

    `shares` are the parts of the copies that other nodes would take, from a sample. `last_copies`
    have no other copy in reach.
    """

    node: Node
    blobs: int
    size: int
    to_copy_blobs: int
    to_copy_bytes: int
    last_copies: int
    takers: int
    free_bytes: int | None
    shares: Sequence[tuple[str, float]] = field(default_factory=tuple)

    @property
    def obstacle(self) -> str:
        """Why draining would not come to an end, or an empty text."""
        wanted = settings.ENV.replication_factor
        if self.to_copy_blobs and self.takers < wanted:
            return (
                f"{wanted} copies of each blob are wanted and only {self.takers} other nodes take "
                "any: start another node first"
            )
        if self.free_bytes is not None and self.free_bytes < self.to_copy_bytes:
            return "the other nodes do not have room for all of it"
        return ""


def drain_plan(*, node: Node) -> DrainPlan:
    """Return what draining a node would take, as things are now."""
    on_node = _blobs_on(node)
    totals = on_node.aggregate(n=Count("pk"), size=Sum("size"))
    wanted = settings.ENV.replication_factor
    to_copy = _with_fewer_elsewhere(on_node, node, wanted)
    missing = to_copy.aggregate(n=Count("pk"), size=Sum("size"))
    takers = [entry for entry in cluster_map().healthy() if entry.node_id != node.node_id]
    free = Node.objects.filter(node_id__in=[entry.node_id for entry in takers])
    free_bytes = [size for size in free.values_list("free_bytes", flat=True) if size is not None]
    return DrainPlan(
        node=node,
        blobs=totals["n"],
        size=totals["size"] or 0,
        to_copy_blobs=missing["n"],
        to_copy_bytes=missing["size"] or 0,
        last_copies=_with_fewer_elsewhere(on_node, node, 1).count(),
        takers=len(takers),
        free_bytes=sum(free_bytes) if len(free_bytes) == len(takers) else None,
        shares=tuple(_shares(to_copy, takers)),
    )


@dataclass(frozen=True)
class RebalancePlan:
    """What brings all blobs to where placement wants them; `obstacle` is why that cannot be."""

    blobs: int = 0
    copies: int = 0
    copied_bytes: int = 0
    removals: int = 0
    obstacle: str = ""


def rebalance_plan(*, on_page: Callable[[Misplaced], None] = lambda _: None) -> RebalancePlan:
    """Walk over all blobs, about half a minute for a million, and add up what is to be moved."""
    census = CensusTaker(settings.ENV.repair_grace_seconds).take()
    wanted = settings.ENV.replication_factor
    if len(census.takers) < wanted:
        return RebalancePlan(
            obstacle=f"{wanted} copies of each blob are wanted, and {len(census.takers)} nodes "
            "take any: start another node first"
        )
    plan = RebalancePlan()
    for page in moves.misplaced(census, wanted):
        on_page(page)
        plan = RebalancePlan(
            blobs=plan.blobs + len(page.keys),
            copies=plan.copies + page.copies,
            copied_bytes=plan.copied_bytes + page.copied_bytes,
            removals=plan.removals + page.removals,
        )
    return plan


def _blobs_on(node: Node) -> QuerySet[Blob]:
    return Blob.objects.filter(pk__in=Replica.objects.filter(node=node).values("blob"))


def _with_fewer_elsewhere(blobs: QuerySet[Blob], node: Node, count: int) -> QuerySet[Blob]:
    """Return the blobs with fewer copies than `count` on other nodes that stay."""
    staying = Node.objects.in_reach().exclude(mode=NodeMode.DRAINING).exclude(pk=node.pk)
    keys = list(staying.values_list("pk", flat=True))
    others = Count("replicas", filter=Q(replicas__node__in=keys))
    return blobs.annotate(others=others).filter(others__lt=count)


def _shares(blobs: QuerySet[Blob], takers: Sequence[NodeEntry]) -> Iterator[tuple[str, float]]:
    """Yield which part of the copies which node would take, the largest first."""
    taken: Counter[str] = Counter()
    sample = blobs.order_by("pk").prefetch_related("replicas__node")[:SAMPLE]
    for blob in sample:
        held = {replica.node.node_id for replica in blob.replicas.all()}
        free = [entry for entry in takers if entry.node_id not in held]
        taken.update(entry.node_id for entry in placement.rank(free, blob.hash)[:1])
    for node_id, count in taken.most_common():
        yield node_id, count / taken.total()


@dataclass(frozen=True)
class Place:
    """One node's part in a blob's placement; `rank` counts from 1 among those that take blobs."""

    node: Node
    rank: int | None
    weight: float
    has_copy: bool
    is_wanted: bool
    effect: str


def placement_of(*, blob: Blob) -> list[Place]:
    """Return for every node where it stands for this blob, and what draining it would do."""
    entries = {entry.node_id: entry for entry in cluster_map().nodes}
    takers = [entry for entry in entries.values() if entry.is_taker]
    ranked = [entry.node_id for entry in placement.rank(takers, blob.hash)]
    held = {replica.node.node_id for replica in blob.replicas.all()}
    wanted = settings.ENV.replication_factor
    places = []
    for node in Node.objects.members():
        rank = ranked.index(node.node_id) + 1 if node.node_id in ranked else None
        has_copy = node.node_id in held
        effect = _effect(node.node_id, ranked, held) if has_copy else "nothing"
        is_wanted = rank is not None and rank <= wanted
        weight = entries[node.node_id].weight if node.node_id in entries else 0.0
        places.append(Place(node, rank, weight, has_copy, is_wanted, effect))
    return sorted(places, key=lambda place: (place.rank is None, place.rank or 0))


def _effect(node_id: str, ranked: Sequence[str], held: set[str]) -> str:
    """Say what draining a node with a copy would do for one blob."""
    staying = held - {node_id}
    if len(staying) >= settings.ENV.replication_factor:
        return "nothing: enough other nodes have it"
    free = [other for other in ranked if other not in held]
    if free:
        return f"node {free[0]} gets a copy"
    return "it has to wait for another node"


def endangered_without(*, node: Node) -> int:
    """Return how many blobs on a node have too few copies elsewhere."""
    wanted = settings.ENV.replication_factor
    return _with_fewer_elsewhere(_blobs_on(node), node, wanted).count()
