"""What repair reads."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from django.db.models import Count, Max, Q, Sum
from django.utils import timezone

from master_app.models import Blob, File, Lease, RepairTask, Replica
from master_app.repair.planning import Endangered
from master_app.repair.services import LONGEST_WAIT

# The key of a lease's row, and of the last task on a page: copies, blob.
Position = tuple[int, int]


@dataclass(frozen=True)
class TaskPage:
    """Tasks that may be tried now, by the keys of their blobs, and where the page ends."""

    keys: Sequence[int]
    position: Position


def tasks_after(position: Position | None, *, limit: int) -> TaskPage:
    """Return the next tasks, the most endangered first."""
    now = timezone.now()
    # What is to wait longer than anything may was written before the clock was set back.
    due = Q(try_at__lte=now) | Q(try_at__gt=now + LONGEST_WAIT + timedelta(minutes=1))
    tasks = RepairTask.objects.filter(due).order_by("copies", "pk")
    if position is not None:
        copies, key = position
        tasks = tasks.filter(Q(copies=copies, pk__gt=key) | Q(copies__gt=copies))
    rows = list(tasks.values_list("copies", "pk")[:limit])
    return TaskPage([key for _, key in rows], rows[-1] if rows else (0, 0))


def newest_task() -> int:
    """Return a number that changes when tasks come."""
    newest = RepairTask.objects.aggregate(newest=Max("created_at"))["newest"]
    return 0 if newest is None else int(newest.timestamp() * 1e6)


def endangered(keys: Sequence[int]) -> list[Endangered]:
    """Return blobs with all that a copy of them needs, in the order of their keys given."""
    names = _newest_names(keys)
    holders: defaultdict[int, set[int]] = defaultdict(set)
    for blob, node in Replica.objects.filter(blob__in=keys).values_list("blob_id", "node_id"):
        holders[blob].add(node)
    rows = Blob.objects.filter(pk__in=keys).values_list("pk", "hash", "sha256", "size")
    found = {
        key: Endangered(
            key, blob_hash, sha256, size, *names.get(key, (blob_hash, "")), frozenset(holders[key])
        )
        for key, blob_hash, sha256, size in rows
    }
    return [found[key] for key in keys if key in found]


def _newest_names(keys: Sequence[int]) -> dict[int, tuple[str, str]]:
    files = File.objects.filter(blob__in=keys).order_by("pk")
    return {
        blob: (name, content_type)
        for blob, name, content_type in files.values_list("blob_id", "name", "content_type")
    }


def status() -> dict[str, Any]:
    """Return how repair is going, for people and programs; sizes in bytes."""
    totals = RepairTask.objects.aggregate(
        backlog=Count("pk"),
        backlog_bytes=Sum("blob__size"),
        failing=Count("pk", filter=Q(attempts__gt=0)),
    )
    by_copies = dict(
        RepairTask.objects.order_by("copies").values_list("copies").annotate(n=Count("pk"))
    )
    done = progress()
    return {
        "is_running": done is not None,
        "backlog": totals["backlog"],
        "backlog_bytes": totals["backlog_bytes"] or 0,
        "failing": totals["failing"],
        "by_copies": [{"copies": copies, "blobs": n} for copies, n in by_copies.items()],
        "progress": done,
    }


def progress() -> Mapping[str, Any] | None:
    """Return what the master that repairs has done, or None while nobody does."""
    lease = Lease.objects.filter(name="repair").first()
    if lease is None or lease.expires_at <= timezone.now():
        return None
    state: Mapping[str, Any] = lease.state
    return state
