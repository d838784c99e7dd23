"""What collection reads."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from django.conf import settings
from django.db.models import Count, QuerySet, Sum

from master_app.collection import services
from master_app.models import Blob, Node, NodeState, Orphan, Removal, Tombstone


def collectable(*, grace_seconds: float) -> QuerySet[Blob]:
    """Return the blobs that no file has named for so long, the oldest first."""
    limit = services.clock_now() - grace_seconds
    return Blob.objects.filter(unreferenced_at__lte=limit).order_by("unreferenced_at")


def obstacle() -> str:
    """Return why nothing may be removed now, or an empty text.

    A node that is away, or has uploads that the master has not heard of, or that a restored backup
    does not know, may have acknowledged an upload that counts on copies elsewhere.
    """
    for node in Node.objects.members():
        if node.state is not NodeState.HEALTHY:
            return f"node {node.node_id} is {node.state}: nobody knows what it has to register"
        if node.outbox_count is None:
            return f"node {node.node_id} does not say whether it has uploads to register"
        if node.inventory_due:
            return f"node {node.node_id} may have uploads that are not on record"
        if node.outbox_count:
            return f"node {node.node_id} has {node.outbox_count} uploads to register"
    return ""


@dataclass(frozen=True)
class DueRemoval:
    """A content that one node is to remove now."""

    hash: str
    sha256: str


def due_removals(*, node: Node, limit: int) -> Sequence[DueRemoval]:
    """Return what a node is to remove, the oldest first."""
    due = Removal.objects.filter(node=node, try_at__lte=services.clock_now()).order_by("pk")
    rows = due.values_list("tombstone__hash", "tombstone__sha256")[:limit]
    return [DueRemoval(blob_hash, sha256) for blob_hash, sha256 in rows]


def orphans() -> dict[str, int]:
    """Return how many copies nodes have of what the books do not know; sizes in bytes."""
    found = Orphan.objects.aggregate(copies=Count("pk"), size=Sum("size"))
    return {"orphans": found["copies"], "orphan_bytes": found["size"] or 0}


def status() -> dict[str, Any]:
    """Return what is deleted and not yet removed, for people and programs; sizes in bytes."""
    grace = settings.ENV.collect_grace_seconds
    waiting = Blob.objects.filter(unreferenced_at__isnull=False).aggregate(
        blobs=Count("pk"), size=Sum("size")
    )
    due = collectable(grace_seconds=grace).aggregate(blobs=Count("pk"), size=Sum("size"))
    buried = Tombstone.objects.filter(removals__isnull=False).distinct()
    removing = buried.aggregate(blobs=Count("pk"), size=Sum("size"))
    return {
        "grace_seconds": grace,
        "unreferenced_blobs": waiting["blobs"],
        "unreferenced_bytes": waiting["size"] or 0,
        "due_blobs": due["blobs"],
        "due_bytes": due["size"] or 0,
        "removing_blobs": removing["blobs"],
        "removing_bytes": removing["size"] or 0,
        **orphans(),
        "obstacle": obstacle(),
    }
