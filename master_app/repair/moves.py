"""Brings blobs to where placement wants them: a copy there first, then one less elsewhere."""

from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Final

from django.db import transaction
from django.db.models import Count, F, Q
from django.utils import timezone

from master_app.models import Blob, MoveTask, Replica
from master_app.repair.census import Census
from master_app.repair.planning import Batch, Endangered, batches_for, order_for
from master_app.repair.services import FIRST_WAIT_SECONDS, LONGEST_WAIT, MAX_REASON
from mini_dropbox import placement

PAGE_BLOBS: Final = 2000


@dataclass(frozen=True)
class Moves:
    """What can be done now; `surplus` are blobs by the node whose copy is too many."""

    batches: Sequence[Batch]
    surplus: Mapping[int, Sequence[Endangered]]
    done: Collection[int]


def plan_moves(blobs: Iterable[Endangered], census: Census, wanted: int) -> Moves:
    """Choose for each blob the copies to make, or, where all of these are made, one to remove."""
    keys = census.keys()
    orders = defaultdict(list)
    surplus: defaultdict[int, list[Endangered]] = defaultdict(list)
    done = []
    for blob in blobs:
        homes = _homes(blob.hash, census, wanted)
        missing = [key for key in homes if key not in blob.holders]
        sources = sorted(blob.holders & census.reach)
        extra = [
            key for key in blob.holders & census.reach if key not in homes and key in keys.values()
        ]
        if len(homes) < wanted or (missing and not sources):
            done.append(blob.key)
        elif missing:
            for key in missing:
                orders[key].append((blob, order_for(blob, census, sources)))
        elif extra:
            surplus[extra[0]].append(blob)
        else:
            done.append(blob.key)
    batches = [batch for taker, wishes in orders.items() for batch in batches_for(taker, wishes)]
    return Moves(batches, surplus, done)


def _homes(blob_hash: str, census: Census, wanted: int) -> list[int]:
    keys = census.keys()
    takers = [census.entries[key] for key in census.takers]
    return [keys[node.node_id] for node in placement.rank(takers, blob_hash)[:wanted]]


@dataclass(frozen=True)
class Misplaced:
    """A page of blobs that are not where placement wants them; sizes in bytes."""

    keys: Sequence[int]
    copies: int
    copied_bytes: int
    removals: int


def misplaced(census: Census, wanted: int) -> Iterator[Misplaced]:
    """Walk over all blobs, a page at a time, and yield what would have to be moved."""
    last = 0
    while rows := _page(last):
        last = rows[-1][0]
        holders = _holders([key for key, _, _ in rows])
        keys, copies, copied_bytes, removals = [], 0, 0, 0
        for key, blob_hash, size in rows:
            homes = set(_homes(blob_hash, census, wanted))
            held = holders[key] & census.reach
            if len(homes) < wanted or not held or held == homes:
                continue
            keys.append(key)
            copies += len(homes - held)
            copied_bytes += size * len(homes - held)
            removals += len(held - homes)
        yield Misplaced(keys, copies, copied_bytes, removals)


def _page(after: int) -> list[tuple[int, str, int]]:
    blobs = Blob.objects.filter(pk__gt=after, verified=True, unreferenced_at=None).order_by("pk")
    return list(blobs.values_list("pk", "hash", "size")[:PAGE_BLOBS])


def _holders(keys: Sequence[int]) -> defaultdict[int, set[int]]:
    holders: defaultdict[int, set[int]] = defaultdict(set)
    for blob, node in Replica.objects.filter(blob__in=keys).values_list("blob_id", "node_id"):
        holders[blob].add(node)
    return holders


@transaction.atomic
def tasks_add(*, keys: Collection[int]) -> None:
    """Note blobs that are to be moved; those noted before stay as they are."""
    now = timezone.now()
    MoveTask.objects.bulk_create(
        [MoveTask(blob_id=key, try_at=now) for key in keys], ignore_conflicts=True
    )


@transaction.atomic
def tasks_done(*, keys: Collection[int]) -> None:
    """Forget what is where it should be, or cannot be brought there."""
    MoveTask.objects.filter(pk__in=keys).delete()


@transaction.atomic
def tasks_failed(*, reasons: Mapping[int, str]) -> None:
    """Keep the reasons, and try again later the more often it has failed."""
    now = timezone.now()
    for key, reason in reasons.items():
        task = MoveTask.objects.filter(pk=key).first()
        if task is None:
            continue
        seconds = FIRST_WAIT_SECONDS * 2 ** min(task.attempts, 10)
        wait = min(timedelta(seconds=seconds), LONGEST_WAIT)
        MoveTask.objects.filter(pk=key).update(
            attempts=F("attempts") + 1, reason=reason[:MAX_REASON], try_at=now + wait
        )


@transaction.atomic
def replicas_release(
    *, node: int, blobs: Collection[int], counted: Collection[int], wanted: int
) -> set[int]:
    """Take a node's copies off the record where enough others stay; return whose these were."""
    staying = Count("replicas", filter=Q(replicas__node__in=set(counted) - {node}))
    enough = Blob.objects.filter(pk__in=blobs).annotate(staying=staying).filter(staying__gte=wanted)
    keys = set(enough.values_list("pk", flat=True))
    Replica.objects.filter(node=node, blob__in=keys).delete()
    return keys


def due_tasks(*, limit: int) -> list[int]:
    """Return the keys of blobs that may be moved now."""
    now = timezone.now()
    # What is to wait longer than anything may was written before the clock was set back.
    due = Q(try_at__lte=now) | Q(try_at__gt=now + LONGEST_WAIT + timedelta(minutes=1))
    return list(MoveTask.objects.filter(due).order_by("pk").values_list("pk", flat=True)[:limit])
