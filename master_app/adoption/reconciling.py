"""Compares what nodes have with what is on record of them, both ways, while the cluster runs.

A copy that its own node has not is taken off the record and made anew. A copy of a known blob that
is not on record is noted, one of a deleted blob is removed, and what nobody knows is an orphan: it
is shown, and goes only when an operator says so.
"""

import logging
from dataclasses import dataclass
from threading import Event
from typing import Final

from django.db import DatabaseError, connection, transaction
from django.db.models import Count

from master_app import node_client
from master_app.adoption.services import holdings_adopt
from master_app.collection import services as collection
from master_app.leases import HeldLease
from master_app.models import Blob, Node, NodeState, Orphan, Removal, Replica, Tombstone
from master_app.node_client import NodeRequestError
from master_app.repair.services import replicas_forget, tasks_add
from mini_dropbox.wire import Holding

logger = logging.getLogger(__name__)

PERIOD_SECONDS: Final = 5.0
# By the service clock.
RECONCILE_SECONDS: Final = 24 * 3600.0
# A comparison that takes longer may be begun by another master as well, which does no harm.
LEASE_SECONDS: Final = 600.0
PAGE_ROWS: Final = 1000


@dataclass
class Reconciled:
    """What a comparison found: copies that were not there, not on record, deleted, or unknown."""

    missing: int = 0
    noted: int = 0
    deleted: int = 0
    orphans: int = 0


def reconcile_loop(stopping: Event) -> None:
    """Compare each node once a day, and when it comes back, until `stopping` is set."""
    lease = HeldLease("reconciliation", LEASE_SECONDS)
    was_down: set[int] = set()
    while not stopping.wait(PERIOD_SECONDS):
        try:
            for node in _due(was_down):
                if stopping.is_set() or not lease.hold({}):
                    break
                _reconcile_one(node)
                was_down.discard(node.pk)
        except DatabaseError as error:
            logger.error("Nodes cannot be compared with the books: %s", error)  # noqa: TRY400  The next look may do.
        except Exception:
            logger.exception("Comparing a node with the books failed")
        finally:
            # This thread is no request, at whose end Django would close it.
            connection.close()
    lease.release()
    connection.close()


def _due(was_down: set[int]) -> list[Node]:
    """Return the nodes to compare now; `was_down` keeps who has been away."""
    limit = collection.clock_now() - RECONCILE_SECONDS
    due = []
    for node in Node.objects.members():
        if node.state is NodeState.DOWN:
            was_down.add(node.pk)
            continue
        is_due = node.pk in was_down or node.reconciled_at <= limit
        if is_due and node.state is NodeState.HEALTHY and not node.inventory_due:
            due.append(node)
    return due


def _reconcile_one(node: Node) -> None:
    try:
        found = node_reconcile(node=node)
    except NodeRequestError as error:
        logger.warning("Node %s cannot be compared with the books: %s", node.node_id, error)
        return
    Node.objects.filter(pk=node.pk).update(reconciled_at=collection.clock_now())
    if found != Reconciled():
        logger.warning(
            "Node %s: %d copies on record are not there, %d were not on record, %d are of deleted "
            "files, %d of nothing on record",
            node.node_id,
            found.missing,
            found.noted,
            found.deleted,
            found.orphans,
        )


def node_reconcile(*, node: Node) -> Reconciled:
    """Compare one node, page by page; NodeRequestError when it does not answer to the end."""
    found = Reconciled(missing=_find_missing(node))
    after: str | None = ""
    while after is not None:
        page = node_client.inventory(base_url=node.url, after=after)
        noted, _ = holdings_adopt(
            node=node.pk, holdings=page.holdings, adopts_blobs=False, gap=None
        )
        found.noted += noted.copies
        deleted, orphans = _sort_out(node, page.holdings, after, page.following)
        found.deleted += deleted
        found.orphans += orphans
        after = page.following
    return found


def _find_missing(node: Node) -> int:
    """Ask for every copy on record; return how many the node says it has not."""
    missing, last = 0, 0
    while True:
        copies = Replica.objects.filter(node=node, pk__gt=last).order_by("pk")
        rows = list(copies.values_list("pk", "blob", "blob__hash", "blob__sha256")[:PAGE_ROWS])
        if not rows:
            return missing
        last = rows[-1][0]
        held = node_client.held(base_url=node.url, hashes=[name for _, _, name, _ in rows])
        absent = [blob for _, blob, name, sha256 in rows if held.get(name, ("", 0))[0] != sha256]
        if absent:
            _forget(node, absent)
            missing += len(absent)


@transaction.atomic
def _forget(node: Node, blobs: list[int]) -> None:
    replicas_forget(node=node.pk, blobs=blobs)
    left = Replica.objects.filter(blob__in=blobs).order_by().values("blob")
    counts = dict(left.annotate(n=Count("pk")).values_list("blob", "n"))
    tasks_add(copies={blob: counts.get(blob, 0) for blob in blobs})


@transaction.atomic
def _sort_out(
    node: Node, holdings: tuple[Holding, ...], after: str, until: str | None
) -> tuple[int, int]:
    """Note what of a page is deleted or unknown; return how many of each."""
    hashes = [each.hash for each in holdings]
    known = dict(Blob.objects.filter(hash__in=hashes, verified=True).values_list("hash", "sha256"))
    stones = {stone.hash: stone for stone in Tombstone.objects.filter(hash__in=hashes)}
    strange = [each for each in holdings if known.get(each.hash) != each.sha256]
    deleted = [
        stones[each.hash]
        for each in strange
        if each.hash in stones and stones[each.hash].sha256 == each.sha256
    ]
    Removal.objects.bulk_create(
        [Removal(tombstone=stone, node=node) for stone in deleted], ignore_conflicts=True
    )
    gone = {stone.hash for stone in deleted}
    orphans = [each for each in strange if each.hash not in gone]
    in_page = Orphan.objects.filter(node=node, hash__gt=after)
    if until is not None:
        in_page = in_page.filter(hash__lte=until)
    in_page.exclude(hash__in=[each.hash for each in orphans]).delete()
    now = collection.clock_now()
    Orphan.objects.bulk_create(
        [
            Orphan(node=node, hash=each.hash, sha256=each.sha256, size=each.size, found_at=now)
            for each in orphans
        ],
        ignore_conflicts=True,
    )
    return len(deleted), len(orphans)
