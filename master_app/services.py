"""Every write to the master's database. Keyword-only, typed, each one transaction."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from django.conf import settings
from django.db import transaction
from django.db.models import Count
from django.utils import timezone

from master_app import derived, membership
from master_app.collection.services import blobs_are_named_again, tombstones_lift
from master_app.errors import CopiesBeingForgotten, NodeRemoved, SizeConflict
from master_app.models import Blob, File, Node, NodeMode, Replica, node_state
from master_app.prepared import PreparedInsert, PreparedQuery
from master_app.repair.services import tasks_add
from mini_dropbox.wire import ClusterMap, Heartbeat, Loss, NodeEntry, Registration, Sender

logger = logging.getLogger(__name__)

# The weight of a node whose back end has no size of its own; weights are capacities in GiB.
WEIGHT_WITHOUT_CAPACITY = 100.0
GIB = 2**30

# Every upload comes by these, and every heartbeat.
_NODES = PreparedQuery(
    lambda _: Node.objects.members().values_list(
        "node_id", "url", "last_heartbeat_at", "capacity_bytes", "writable", "mode"
    )
)
_NODE_KEYS = PreparedQuery(
    lambda ids: (
        Node.objects.members()
        .filter(node_id__in=ids)
        .order_by()
        .values_list("node_id", "pk", "store_id")
    )
)
_BLOBS = PreparedQuery(
    lambda hashes: Blob.objects.filter(hash__in=hashes).values_list(
        "hash", "pk", "sha256", "size", "verified", "unreferenced_at"
    )
)
_ADD_BLOBS = PreparedInsert(
    Blob, "hash", "sha256", "size", "verified", "claimed_replicas", "created_at"
)
_ADD_FILES = PreparedInsert(File, "blob", "name", "content_type", "created_at")
_ADD_REPLICAS = PreparedInsert(Replica, "blob", "node", "created_at")


def heartbeat_record(*, heartbeat: Heartbeat) -> ClusterMap:
    """Keep what a node says of itself, make its row on first contact, and answer with the map.

    NodeRefused for a node that does not belong here, of which nothing is kept then.
    """
    try:
        _heartbeat_believe(heartbeat)
    except CopiesBeingForgotten:
        membership.copies_forget(node_id=heartbeat.node_id)
        _heartbeat_believe(heartbeat)
    return cluster_map()


@transaction.atomic
def _heartbeat_believe(heartbeat: Heartbeat) -> None:
    now = timezone.now()
    is_unread = membership.check_heartbeat(heartbeat=heartbeat, now=now)
    said = {**heartbeat.to_json(), "last_heartbeat_at": now}
    node_id = said.pop("node_id")
    del said["cluster_id"]
    if not heartbeat.store_id:
        del said["store_id"]
    if is_unread:
        said["inventory_due"] = True
    if not Node.objects.members().filter(node_id=node_id).update(**said):
        node, _ = Node.objects.get_or_create(
            node_id=node_id, defaults={**said, "first_seen_at": now}
        )
        if node.mode == NodeMode.REMOVED:
            raise NodeRemoved(
                f"Node {node_id} was removed from this cluster: start it under another id, or let "
                f"it in again with `manage.py activate {node_id}`."
            )


def cluster_map() -> ClusterMap:
    """Return the nodes as their last heartbeats left them, and how many copies are wanted."""
    now = timezone.now()
    entries = tuple(
        NodeEntry(
            node_id=node_id,
            url=url,
            state=node_state(now - last_heartbeat_at).value,
            weight=(capacity_bytes or 0) / GIB or WEIGHT_WITHOUT_CAPACITY,
            writable=writable,
            is_active=mode == NodeMode.ACTIVE,
        )
        for node_id, url, last_heartbeat_at, capacity_bytes, writable, mode in _NODES.rows()
    )
    return ClusterMap(
        settings.ENV.replication_factor,
        settings.ENV.write_quorum,
        entries,
        membership.cluster_id(),
    )


@transaction.atomic
def file_register(
    *, blob_hash: str, name: str, size: int, replicas: Sequence[str], content_type: str = ""
) -> None:
    """Record a file that a client announces; SizeConflict when verified bytes contradict it.

    Without a node's word the record stays unverified: `replicas` is kept as a claim. The same
    hash and name again change nothing, another name for the hash adds a file.
    """
    now, claimed = timezone.now(), list(replicas)
    found = _BLOBS.rows(blob_hash)
    is_new = not found
    if is_new:
        _ADD_BLOBS.run([(blob_hash, "", size, False, claimed, now)])
        found = _BLOBS.rows(blob_hash)
    _, key, _, known_size, verified, unreferenced_at = found[0]
    if not (verified or is_new):
        Blob.objects.filter(pk=key).update(size=size, claimed_replicas=claimed)
    if unreferenced_at is not None:
        blobs_are_named_again(keys=[key])
    if verified and known_size != size:
        message = f"{blob_hash} has {known_size} bytes, not {size}: register it with that size."
        raise SizeConflict(message)
    _ADD_FILES.run([(key, name, content_type, now)])
    derived.index_new_names()


@dataclass(frozen=True)
class RegistrationResult:
    """What became of one registration: `registered`, `hash_collision` or `store_again`."""

    hash: str
    status: str


@transaction.atomic
def registrations_apply(
    *, registrations: Sequence[Registration], sender: Sender | None = None
) -> list[RegistrationResult]:
    """Record what nodes have stored and verified, all in one transaction; idempotent.

    NodeRefused for a sender that is not let in; nodes of earlier versions do not say who they are.

    A blob whose SHA-256 differs from the one on record is two contents under one MD5: its
    registration is refused and changes nothing. One that was deleted for good, and may just be
    being removed, has to be stored again, and registered again after that.
    """
    now = timezone.now()
    nodes = _nodes_named(registrations, sender)
    lifted = tombstones_lift(contents={entry.hash: entry.sha256 for entry in registrations})
    blobs = _blobs_for([entry for entry in registrations if entry.hash not in lifted], now)
    accepted = [
        (entry, blobs[entry.hash].pk)
        for entry in registrations
        if entry.hash in blobs and blobs[entry.hash].sha256 == entry.sha256
    ]
    _ADD_FILES.run(
        (key, entry.name, entry.content_type, datetime.fromtimestamp(entry.uploaded_at, UTC))
        for entry, key in accepted
    )
    _replicas_add(accepted, nodes, now)
    unreferenced = {key for entry, key in accepted if blobs[entry.hash].is_unreferenced}
    if unreferenced:
        blobs_are_named_again(keys=unreferenced)
    derived.index_new_names()
    return [RegistrationResult(entry.hash, _status(entry, blobs)) for entry in registrations]


def _status(entry: Registration, blobs: Mapping[str, "_KnownBlob"]) -> str:
    if entry.hash not in blobs:
        return "store_again"
    return "registered" if blobs[entry.hash].sha256 == entry.sha256 else "hash_collision"


@dataclass(frozen=True)
class _KnownBlob:
    """A blob as the database has it; `sha256` is empty while no node has confirmed it."""

    pk: int
    sha256: str
    is_unreferenced: bool


def _blobs_for(registrations: Sequence[Registration], now: datetime) -> dict[str, _KnownBlob]:
    """Return the verified blob of each hash, made or confirmed from the registrations."""
    first = {entry.hash: entry for entry in reversed(registrations)}
    _ADD_BLOBS.run(
        (entry.hash, entry.sha256, entry.size, True, [], now) for entry in first.values()
    )
    blobs = {}
    for blob_hash, key, sha256, _, verified, unreferenced_at in _BLOBS.rows_in(first):
        entry = first[blob_hash]
        if not verified:
            Blob.objects.filter(pk=key).update(
                sha256=entry.sha256, size=entry.size, verified=True, claimed_replicas=[]
            )
        known = sha256 if verified else entry.sha256
        blobs[blob_hash] = _KnownBlob(key, known, unreferenced_at is not None)
    return blobs


def _nodes_named(registrations: Sequence[Registration], sender: Sender | None) -> dict[str, int]:
    """Return the keys of the nodes with replicas; NodeRefused if the sender is not let in."""
    named = dict.fromkeys(node_id for entry in registrations for node_id in entry.replicas)
    if sender is not None:
        # Looked up along with them, because every upload waits for this.
        named[sender.node_id] = None
    nodes = {node_id: (key, store_id) for node_id, key, store_id in _NODE_KEYS.rows_in(named)}
    if sender is not None:
        _, store_id = nodes.get(sender.node_id, (None, None))
        membership.check_sender(sender=sender, store_id=store_id)
    return {node_id: key for node_id, (key, _) in nodes.items()}


@transaction.atomic
def losses_record(*, node_id: str, losses: Sequence[Loss], sender: Sender | None = None) -> int:
    """Forget the copies that a node has no more, and have others made; return how many. Idempotent.

    A node says so only while it has no such copy, so that no moment needs to be compared.
    NodeRefused if the sender is not let in.
    """
    if sender is not None:
        known = Node.objects.filter(node_id=sender.node_id).values_list("store_id", flat=True)
        membership.check_sender(sender=sender, store_id=known.first())
    hashes = {loss.hash for loss in losses}
    lost = Replica.objects.filter(node__node_id=node_id, blob__hash__in=hashes)
    keys = list(lost.values_list("blob", flat=True))
    lost.delete()
    copies = {}
    for blob in Blob.objects.filter(pk__in=keys).annotate(copies=Count("replicas")):
        copies[blob.pk] = blob.copies
        if not blob.copies:
            logger.error("No node has a good copy of %s any more", blob.hash)
    if copies:
        logger.warning("Node %s has lost %d copies", node_id, len(copies))
        tasks_add(copies=copies)
    return len(copies)


def _replicas_add(
    accepted: Sequence[tuple[Registration, int]], nodes: Mapping[str, int], now: datetime
) -> None:
    """Record who has copies, and whose blobs have too few because nodes were away."""
    # A node is known from its first heartbeat on, and sends one before it takes blobs.
    holders = {key: [nodes[n] for n in entry.replicas if n in nodes] for entry, key in accepted}
    _ADD_REPLICAS.run((key, node, now) for key, held in holders.items() for node in held)
    wanted = settings.ENV.replication_factor
    few = {key: len(held) for key, held in holders.items() if len(held) < wanted}
    if few:
        tasks_add(copies=few)
