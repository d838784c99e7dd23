"""What deletion and collection write down. Keyword-only, typed, each one transaction."""

from collections.abc import Collection, Iterable, Mapping
from typing import Final

from django.db import transaction
from django.db.models import Exists, F, OuterRef
from django.utils import timezone

from master_app.models import Blob, File, Node, Orphan, Removal, ServiceClock, Tombstone
from master_app.prepared import PreparedQuery

# How long a node that comes back finds out what was deleted meanwhile.
REMEMBERED_SECONDS: Final = 180 * 24 * 3600.0

_TOMBSTONES = PreparedQuery(
    lambda hashes: (
        Tombstone.objects.filter(hash__in=hashes).order_by().values_list("hash", "sha256")
    )
)


@transaction.atomic
def clock_advance(*, seconds: float) -> float:
    """Let the service clock go on by so much; return what it shows."""
    if not ServiceClock.objects.filter(pk=1).update(seconds=F("seconds") + seconds):
        ServiceClock.objects.create(pk=1, seconds=seconds)
    return clock_now()


def clock_now() -> float:
    """Return what the service clock shows, in seconds."""
    return ServiceClock.objects.filter(pk=1).values_list("seconds", flat=True).first() or 0.0


@transaction.atomic
def files_delete(*, keys: Collection[int]) -> int:
    """Delete files; return how many there were. The bytes stay until nobody can miss them."""
    files = File.objects.filter(pk__in=keys)
    blobs = list(files.values_list("blob", flat=True).distinct())
    count = files.count()
    files.delete()
    unreferenced = Blob.objects.filter(pk__in=blobs).exclude(_has_file())
    # Of what no node has confirmed there are no bytes.
    unreferenced.filter(verified=False).delete()
    unreferenced.filter(verified=True).update(unreferenced_at=clock_now())
    return count


def _has_file() -> Exists:
    return Exists(File.objects.filter(blob=OuterRef("pk")))


def blobs_are_named_again(*, keys: Collection[int]) -> None:
    """Keep blobs that have files again; in the transaction that makes these."""
    Blob.objects.filter(pk__in=keys).update(unreferenced_at=None)


@transaction.atomic
def blobs_bury(*, keys: Collection[int]) -> int:
    """Put a tombstone in the place of blobs that no file names; return how many there were."""
    blobs = Blob.objects.filter(pk__in=keys, unreferenced_at__isnull=False, verified=True)
    buried = list(blobs.exclude(_has_file()))
    now, moment = clock_now(), timezone.now()
    nodes = list(Node.objects.members())
    Tombstone.objects.filter(hash__in=[blob.hash for blob in buried]).delete()
    stones = Tombstone.objects.bulk_create(
        Tombstone(
            hash=blob.hash, sha256=blob.sha256, size=blob.size, buried_at=now, created_at=moment
        )
        for blob in buried
    )
    # Any node may have bytes of it, not only those with a replica on record.
    Removal.objects.bulk_create(
        Removal(tombstone=stone, node=node) for stone in stones for node in nodes
    )
    Blob.objects.filter(pk__in=[blob.pk for blob in buried]).delete()
    return len(buried)


def tombstones_lift(*, contents: Mapping[str, str]) -> set[str]:
    """Lift the tombstones of contents (SHA-256 by hash) that come again; return their hashes.

    In the transaction that registers them. No node is told to remove them from then on; one may
    be removing them at this moment, so they have to be stored again.
    """
    lifted = {
        blob_hash
        for blob_hash, sha256 in _TOMBSTONES.rows_in(contents)
        if contents[blob_hash] == sha256
    }
    if lifted:
        Tombstone.objects.filter(hash__in=lifted).delete()
    return lifted


@transaction.atomic
def removals_done(*, node: int, hashes: Iterable[str]) -> None:
    """Note that a node has removed contents, or has none of them."""
    Removal.objects.filter(node=node, tombstone__hash__in=list(hashes)).delete()


@transaction.atomic
def removals_put_off(*, node: int, reasons: Mapping[str, str], seconds: float) -> None:
    """Note why a node has kept contents; it is asked again after so many seconds."""
    try_at = clock_now() + seconds
    for reason in set(reasons.values()):
        hashes = [blob_hash for blob_hash, given in reasons.items() if given == reason]
        Removal.objects.filter(node=node, tombstone__hash__in=hashes).update(
            reason=reason[:500], try_at=try_at
        )


@transaction.atomic
def orphans_bury(*, grace_seconds: float) -> int:
    """Have removed what nobody has known for so long; return how many copies that are.

    Each is looked for once more: a registration may have come since it was found.
    """
    now, moment = clock_now(), timezone.now()
    old = Orphan.objects.filter(found_at__lte=now - grace_seconds)
    known = Blob.objects.filter(hash=OuterRef("hash"))
    orphans = list(old.exclude(Exists(known)))
    for orphan in orphans:
        stone, _ = Tombstone.objects.get_or_create(
            hash=orphan.hash,
            defaults={
                "sha256": orphan.sha256,
                "size": orphan.size,
                "buried_at": now,
                "created_at": moment,
            },
        )
        if stone.sha256 == orphan.sha256:
            Removal.objects.get_or_create(tombstone=stone, node=orphan.node)
    Orphan.objects.filter(pk__in=[orphan.pk for orphan in orphans]).delete()
    return len(orphans)


@transaction.atomic
def tombstones_forget(*, limit: int) -> int:
    """Forget what was deleted so long ago that nobody brings it back."""
    open_removals = Removal.objects.filter(tombstone=OuterRef("pk"))
    old = Tombstone.objects.filter(buried_at__lt=clock_now() - REMEMBERED_SECONDS)
    keys = list(old.exclude(Exists(open_removals)).values_list("pk", flat=True)[:limit])
    Tombstone.objects.filter(pk__in=keys).delete()
    return len(keys)
