"""What is written down of a node's inventory. Keyword-only, typed, each one transaction."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, fields
from datetime import UTC, datetime
from typing import Final, NamedTuple, Self

from django.db import transaction
from django.utils import timezone

from master_app import derived
from master_app.models import Blob, Cluster, File, Node, Replica
from master_app.prepared import PreparedInsert, PreparedQuery
from mini_dropbox.signing import MAX_CLOCK_SKEW_SECONDS
from mini_dropbox.wire import Holding

_BLOBS = PreparedQuery(
    lambda hashes: (
        Blob.objects.filter(hash__in=hashes)
        .order_by()
        .values_list("hash", "pk", "sha256", "verified")
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
    *, node: int, holdings: Sequence[Holding], adopts_blobs: bool, gap: Gap | None
) -> tuple[Adopted, frozenset[str]]:
    """Record that a node, by its key, has these blobs; idempotent. Return the new ones' hashes.

    Unknown blobs are adopted if that is wanted. Known ones get a name only of a time of which the
    books lack uploads: of any other, a name that is not there was deleted.
    """
    known = _blobs(holdings)
    confirmed = {name: blob for name, blob in known.items() if blob.verified}
    fresh = [each for each in holdings if adopts_blobs and each.hash not in confirmed]
    _blobs_adopt(fresh, known)
    blobs = _blobs(holdings) if fresh else confirmed
    ours = [(blobs[each.hash].pk, each) for each in holdings if _is_same(blobs, each)]
    fresh_hashes = frozenset(each.hash for each in fresh)
    files = _files_add(ours, fresh_hashes, gap)
    now = timezone.now()
    copies = _ADD_REPLICAS.run((key, node, now) for key, _ in ours)
    adopted = Adopted(
        blobs=len(fresh),
        bytes=sum(each.size for each in fresh),
        files=files,
        copies=copies,
        conflicts=sum(
            each.hash in confirmed and not _is_same(confirmed, each) for each in holdings
        ),
    )
    return adopted, fresh_hashes


@transaction.atomic
def names_adopt(*, holdings: Sequence[Holding], fresh: Collection[str], gap: Gap | None) -> Adopted:
    """Record blobs' further names: those of fresh blobs, and those of the gap; idempotent."""
    blobs = {name: blob for name, blob in _blobs(holdings).items() if blob.verified}
    ours = [(blobs[each.hash].pk, each) for each in holdings if _is_same(blobs, each)]
    return Adopted(files=_files_add(ours, fresh, gap))


def inventory_taken(*, node: int, store_id: str) -> None:
    """Note that all that a node has is on record, unless its disk is another one by now."""
    Node.objects.filter(pk=node, store_id=store_id).update(inventory_due=False)


class _Blob(NamedTuple):
    pk: int
    sha256: str
    verified: bool


def _blobs(holdings: Sequence[Holding]) -> dict[str, _Blob]:
    rows = _BLOBS.rows_in(dict.fromkeys(each.hash for each in holdings))
    return {blob_hash: _Blob(*row) for blob_hash, *row in rows}


def _is_same(blobs: Mapping[str, _Blob], holding: Holding) -> bool:
    """Tell whether a blob is on record with this content: one address may mean another one."""
    return holding.hash in blobs and blobs[holding.hash].sha256 == holding.sha256


def _blobs_adopt(fresh: Sequence[Holding], known: Mapping[str, _Blob]) -> None:
    """Make the blobs, or confirm those that only a client had announced."""
    for each in fresh:
        if each.hash in known:
            Blob.objects.filter(hash=each.hash).update(
                sha256=each.sha256, size=each.size, verified=True, claimed_replicas=[]
            )
    _ADD_BLOBS.run((each.hash, each.sha256, each.size, True, [], _moment(each)) for each in fresh)


def _files_add(
    entries: Sequence[tuple[int, Holding]], fresh: Collection[str], gap: Gap | None
) -> int:
    added = _ADD_FILES.run(
        (key, each.name, each.content_type, _moment(each))
        for key, each in entries
        if each.hash in fresh or (gap is not None and gap.has(each.stored_at))
    )
    derived.index_new_names()
    return added


def _moment(holding: Holding) -> datetime:
    return datetime.fromtimestamp(holding.stored_at, UTC)
