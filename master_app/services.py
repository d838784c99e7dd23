"""Every write to the master's database. Keyword-only, typed, each one transaction."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from django.conf import settings
from django.db import transaction
from django.utils import timezone

from master_app.errors import SizeConflict
from master_app.models import Blob, File, Node, Replica
from mini_dropbox.wire import ClusterMap, Heartbeat, NodeEntry, Registration

# The weight of a node whose back end has no size of its own; weights are capacities in GiB.
WEIGHT_WITHOUT_CAPACITY = 100.0
GIB = 2**30


def heartbeat_record(*, heartbeat: Heartbeat) -> ClusterMap:
    """Keep what a node says of itself, make its row on first contact, and answer with the map."""
    now = timezone.now()
    said = {**heartbeat.to_json(), "last_heartbeat_at": now}
    Node.objects.update_or_create(
        node_id=said.pop("node_id"),
        defaults=said,
        create_defaults={**said, "first_seen_at": now},
    )
    return cluster_map()


def cluster_map() -> ClusterMap:
    """Return the nodes as their last heartbeats left them, and how many copies are wanted."""
    entries = tuple(
        NodeEntry(
            node_id=node.node_id,
            url=node.url,
            state=node.state.value,
            weight=(node.capacity_bytes or 0) / GIB or WEIGHT_WITHOUT_CAPACITY,
            writable=node.writable,
        )
        for node in Node.objects.all()
    )
    return ClusterMap(settings.ENV.replication_factor, settings.ENV.write_quorum, entries)


@transaction.atomic
def file_register(
    *, blob_hash: str, name: str, size: int, replicas: Sequence[str], content_type: str = ""
) -> File:
    """Record a file that a client announces; SizeConflict when verified bytes contradict it.

    Without a node's word the record stays unverified: `replicas` is kept as a claim. The same
    hash and name again change nothing, another name for the hash adds a file.
    """
    now = timezone.now()
    blob, created = Blob.objects.get_or_create(
        hash=blob_hash,
        defaults={"size": size, "claimed_replicas": list(replicas), "created_at": now},
    )
    if blob.verified and blob.size != size:
        message = f"{blob_hash} has {blob.size} bytes, not {size}: register it with that size."
        raise SizeConflict(message)
    if not created and not blob.verified:
        blob.size, blob.claimed_replicas = size, list(replicas)
        blob.save(update_fields=("size", "claimed_replicas"))
    file, _ = File.objects.get_or_create(
        blob=blob, name=name, defaults={"content_type": content_type, "created_at": now}
    )
    return file


@dataclass(frozen=True)
class RegistrationResult:
    """What became of one registration: `registered` or `hash_collision`."""

    hash: str
    status: str


@transaction.atomic
def registrations_apply(*, registrations: Sequence[Registration]) -> list[RegistrationResult]:
    """Record what nodes have stored and verified, all in one transaction; idempotent.

    A blob whose SHA-256 differs from the one on record is two contents under one MD5: its
    registration is refused and changes nothing.
    """
    now = timezone.now()
    blobs = _blobs_for(registrations, now)
    accepted = [entry for entry in registrations if blobs[entry.hash].sha256 == entry.sha256]
    File.objects.bulk_create(
        [
            File(
                blob=blobs[entry.hash],
                name=entry.name,
                content_type=entry.content_type,
                created_at=datetime.fromtimestamp(entry.uploaded_at, UTC),
            )
            for entry in accepted
        ],
        ignore_conflicts=True,
    )
    _replicas_add(accepted, blobs, now)
    return [
        RegistrationResult(
            entry.hash,
            "registered" if blobs[entry.hash].sha256 == entry.sha256 else "hash_collision",
        )
        for entry in registrations
    ]


def _blobs_for(registrations: Iterable[Registration], now: datetime) -> dict[str, Blob]:
    """Return the verified blob of each hash, made or confirmed from the registrations."""
    wanted = {entry.hash: entry for entry in reversed(list(registrations))}
    blobs = Blob.objects.in_bulk(wanted, field_name="hash")
    missing = [
        Blob(hash=entry.hash, sha256=entry.sha256, size=entry.size, verified=True, created_at=now)
        for entry in wanted.values()
        if entry.hash not in blobs
    ]
    confirmed = [blob for blob in blobs.values() if not blob.verified]
    for blob in confirmed:
        entry = wanted[blob.hash]
        blob.sha256, blob.size, blob.verified, blob.claimed_replicas = (
            entry.sha256,
            entry.size,
            True,
            [],
        )
    Blob.objects.bulk_update(confirmed, ("sha256", "size", "verified", "claimed_replicas"))
    blobs.update({blob.hash: blob for blob in Blob.objects.bulk_create(missing)})
    return blobs


def _replicas_add(accepted: Sequence[Registration], blobs: dict[str, Blob], now: datetime) -> None:
    named = {node_id for entry in accepted for node_id in entry.replicas}
    nodes = Node.objects.in_bulk(named, field_name="node_id")
    Replica.objects.bulk_create(
        [
            Replica(blob=blobs[entry.hash], node=nodes[node_id], created_at=now)
            for entry in accepted
            for node_id in entry.replicas
            # A node is known from its first heartbeat on, and sends one before it takes blobs.
            if node_id in nodes
        ],
        ignore_conflicts=True,
    )
