"""What is written down of a node's inventory. Keyword-only, typed, each one transaction."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, fields
from datetime import UTC, datetime
from typing import Final, NamedTuple, Self

from django.db import transaction
from django.utils import timezone

from master_app import derived
from master_app.collection.services import blobs_are_named_again, tombstones_lift
from master_app.models import Blob, Cluster, File, Node, Replica, Tombstone
from master_app.prepared import PreparedInsert, PreparedQuery
from mini_dropbox.signing import MAX_CLOCK_SKEW_SECONDS
from mini_dropbox.wire import Holding

_BLOBS = PreparedQuery(
    lambda hashes: (
        Blob.objects.filter(hash__in=hashes)
        .order_by()
        .values_list("hash", "pk", "sha256", "verified", "unreferenced_at")
    )
)
_TOMBSTONES = PreparedQuery(
    lambda hashes: (
        Tombstone.objects.filter(hash__in=hashes)
        .order_by()
        .values_list("hash", "sha256", "created_at")
    )
)
_ADD_BLOBS = PreparedInsert(
    Blob, "hash", "sha256", "size", "verified", "claimed_replicas", "created_at"
)
_ADD_FILES = PreparedInsert(File, "blob", "name", "content_type", "created_at")
_ADD_REPLICAS = PreparedInsert(Replica, "blob", "node", "created_at")


@dataclass(frozen=True)
class Gap:
    """A time of which these books lack uploads, in unix seconds: from `begin` to `end`."""

    begin: float
    end: float

    def has(self, moment: float) -> bool:
        """Tell whether an upload of this moment may be lacking, by whichever clock."""
        return self.begin - MAX_CLOCK_SKEW_SECONDS <= moment <= self.end + MAX_CLOCK_SKEW_SECONDS


# Of books that know nothing by themselves.
ALL_TIME: Final = Gap(0, float("inf"))


@dataclass(frozen=True)
class Adopted:
    """What was new to the books; `bytes` are of the new blobs.

    `conflicts` are blobs whose bytes are not those that the books have under their hash.
    """

    blobs: int = 0
    bytes: int = 0
    files: int = 0
    copies: int = 0
    conflicts: int = 0

    def __add__(self, other: Self) -> Self:
        names = [field.name for field in fields(self)]
        return type(self)(*(getattr(self, name) + getattr(other, name) for name in names))


def gap() -> Gap | None:
    """Return the time of which these books lack uploads; None for books that were never lost."""
    for restored_at, known_until in Cluster.objects.values_list("restored_at", "known_until"):
        if restored_at is not None:
            return Gap(known_until.timestamp() if known_until else 0, restored_at.timestamp())
    return None


@transaction.atomic
def holdings_adopt(
    *,
    node: int,
    holdings: Sequence[Holding],
    adopts_blobs: bool,
    gap: Gap | None,
    fresh: Collection[str] = (),
) -> tuple[Adopted, frozenset[str]]:
    """Record that a node, by its key, has these blobs, under these names; idempotent.

    Unknown blobs are adopted if that is wanted, unless they were deleted for good since they were
    stored; their hashes are returned, to be `fresh` when more of their names follow. Blobs that
    are known get a name only of a time of which the books lack uploads: of any other, a name that
    is not there was deleted.
    """
    known = _blobs(holdings)
    confirmed = {name: blob for name, blob in known.items() if blob.verified}
    unknown = {each.hash: each for each in reversed(holdings) if each.hash not in confirmed}
    adopted = _blobs_adopt(_not_deleted(holdings, unknown), known) if adopts_blobs else []
    fresh_now = frozenset(each.hash for each in adopted)
    blobs = _blobs(holdings) if adopted else confirmed
    ours = [each for each in holdings if _is_same(blobs, each)]
    named = [each for each in ours if _gets_name(each, {*fresh, *fresh_now}, gap)]
    files = _files_add(named, blobs)
    now = timezone.now()
    copies = _ADD_REPLICAS.run((blobs[each.hash].pk, node, now) for each in ours)
    return Adopted(
        blobs=len(adopted),
        bytes=sum(each.size for each in adopted),
        files=files,
        copies=copies,
        conflicts=len(confirmed) - len({each.hash for each in ours} & confirmed.keys()),
    ), fresh_now


def inventory_taken(*, node: int, store_id: str) -> None:
    """Note that all that a node has is on record, unless its disk is another one by now."""
    Node.objects.filter(pk=node, store_id=store_id).update(inventory_due=False)


class _Blob(NamedTuple):
    pk: int
    sha256: str
    verified: bool
    unreferenced_at: float | None


def _blobs(holdings: Sequence[Holding]) -> dict[str, _Blob]:
    rows = _BLOBS.rows_in(dict.fromkeys(each.hash for each in holdings))
    return {blob_hash: _Blob(*row) for blob_hash, *row in rows}


def _is_same(blobs: Mapping[str, _Blob], holding: Holding) -> bool:
    """Tell whether a blob is on record with this content: one address may mean another one."""
    return holding.hash in blobs and blobs[holding.hash].sha256 == holding.sha256


def _gets_name(holding: Holding, fresh: Collection[str], gap: Gap | None) -> bool:
    return holding.hash in fresh or (gap is not None and gap.has(holding.stored_at))


def _not_deleted(holdings: Sequence[Holding], unknown: Mapping[str, Holding]) -> Sequence[Holding]:
    """Return those that were not deleted for good, or were uploaded again after that."""
    tombs = {name: (sha256, at) for name, sha256, at in _TOMBSTONES.rows_in(unknown)}
    if not tombs:
        return list(unknown.values())
    since = {
        each.hash: each.sha256
        for each in holdings
        if each.hash in tombs and _moment(each) > tombs[each.hash][1]
    }
    tombstones_lift(contents=since)
    return [
        each
        for name, each in unknown.items()
        if name in since or name not in tombs or tombs[name][0] != each.sha256
    ]


def _blobs_adopt(holdings: Sequence[Holding], known: Mapping[str, _Blob]) -> Sequence[Holding]:
    """Make the blobs, or confirm those that only a client had announced; return them."""
    for each in holdings:
        if each.hash in known:
            Blob.objects.filter(hash=each.hash).update(
                sha256=each.sha256, size=each.size, verified=True, claimed_replicas=[]
            )
    _ADD_BLOBS.run(
        (each.hash, each.sha256, each.size, True, [], _moment(each)) for each in holdings
    )
    return holdings


def _files_add(named: Sequence[Holding], blobs: Mapping[str, _Blob]) -> int:
    """Make the files, and keep the blobs that had none any more; return how many are new."""
    added = _ADD_FILES.run(
        (blobs[each.hash].pk, each.name, each.content_type, _moment(each)) for each in named
    )
    unreferenced = {
        blobs[each.hash].pk for each in named if blobs[each.hash].unreferenced_at is not None
    }
    if unreferenced:
        blobs_are_named_again(keys=unreferenced)
    derived.index_new_names()
    return added


def _moment(holding: Holding) -> datetime:
    return datetime.fromtimestamp(holding.stored_at, UTC)
