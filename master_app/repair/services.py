"""What repair writes down. Keyword-only, typed, each one transaction."""

from collections.abc import Collection, Mapping, Sequence
from datetime import timedelta
from typing import Final

from django.db import transaction
from django.db.models import F
from django.utils import timezone

from master_app.models import Blob, RepairTask, Replica
from master_app.prepared import PreparedInsert

FIRST_WAIT_SECONDS: Final = 5
LONGEST_WAIT: Final = timedelta(minutes=10)
MAX_REASON: Final = 500

_ADD_TASKS = PreparedInsert(
    RepairTask, "blob", "copies", "attempts", "reason", "try_at", "created_at"
)
_ADD_REPLICAS = PreparedInsert(Replica, "blob", "node", "created_at")


@transaction.atomic
def tasks_add(*, copies: Mapping[int, int]) -> None:
    """Note blobs, by their keys, that have so few copies; those noted before stay as they are."""
    now = timezone.now()
    _ADD_TASKS.run((key, count, 0, "", now, now) for key, count in copies.items())


@transaction.atomic
def tasks_done(*, keys: Collection[int]) -> None:
    """Forget what has enough copies."""
    RepairTask.objects.filter(pk__in=keys).delete()


@transaction.atomic
def tasks_count(*, copies: Mapping[int, int]) -> None:
    """Correct how many copies there are: it says which blob is helped first."""
    for count in set(copies.values()):
        keys = [key for key, found in copies.items() if found == count]
        RepairTask.objects.filter(pk__in=keys).exclude(copies=count).update(copies=count)


@transaction.atomic
def tasks_explain(*, keys: Collection[int], reason: str) -> None:
    """Say why nothing can be done for these at the moment."""
    if keys:
        RepairTask.objects.filter(pk__in=keys).exclude(reason=reason).update(reason=reason)


@transaction.atomic
def task_failed(*, key: int, reason: str) -> None:
    """Keep the reason, and try again later the more often it has failed."""
    task = RepairTask.objects.filter(pk=key).first()
    if task is None:
        return
    wait = min(timedelta(seconds=FIRST_WAIT_SECONDS * 2 ** min(task.attempts, 10)), LONGEST_WAIT)
    RepairTask.objects.filter(pk=key).update(
        attempts=F("attempts") + 1, reason=reason[:MAX_REASON], try_at=timezone.now() + wait
    )


@transaction.atomic
def copies_record(*, node: int, sha256_by_hash: Mapping[str, str]) -> int:
    """Record what a node has copied and verified; return how many of these are still wanted.

    A blob that is gone, or means another content, meanwhile gets no replica.
    """
    now = timezone.now()
    blobs = Blob.objects.filter(hash__in=sha256_by_hash, verified=True)
    found = [
        key
        for key, blob_hash, sha256 in blobs.values_list("pk", "hash", "sha256")
        if sha256_by_hash[blob_hash] == sha256
    ]
    _ADD_REPLICAS.run((key, node, now) for key in found)
    return len(found)


@transaction.atomic
def replicas_forget(*, node: int, blobs: Sequence[int]) -> None:
    """Remove the records of copies that their own node says it has not."""
    Replica.objects.filter(node=node, blob__in=blobs).delete()
