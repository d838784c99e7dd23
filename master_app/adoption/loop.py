"""Asks nodes for what these books may lack, as long as the master runs.

That is after a restore, after the loss of the database, and of a node whose disk is another one.
"""

import logging
from threading import Event
from typing import Final

from django.db import DatabaseError, connection

from master_app.adoption import services
from master_app.adoption.missing import missing_blobs
from master_app.adoption.nodes import node_adopt
from master_app.leases import HeldLease
from master_app.models import Node, NodeQuerySet
from master_app.node_client import NodeRequestError

logger = logging.getLogger(__name__)

PERIOD_SECONDS: Final = 2.0
# A walk that takes longer may be begun by another master as well, which does no harm.
LEASE_SECONDS: Final = 600.0
NAMED_MISSING: Final = 20


def adopt_loop(stopping: Event) -> None:
    """Adopt what is due until `stopping` is set."""
    lease = HeldLease("adoption", LEASE_SECONDS)
    complaints: dict[str, str] = {}
    while not stopping.wait(PERIOD_SECONDS):
        try:
            if _due().exists() and lease.hold({}):
                try:
                    adopt_due(complaints, stopping)
                finally:
                    lease.release()
        except DatabaseError as error:
            logger.error("What nodes have cannot be adopted now: %s", error)  # noqa: TRY400  The next look may do.
        except Exception:
            logger.exception("What nodes have is not adopted")
        finally:
            # This thread is no request, at whose end Django would close it.
            connection.close()


def adopt_due(complaints: dict[str, str], stopping: Event) -> None:
    """Adopt from the nodes in reach that are due; then say what no node has, where books lack.

    `complaints` are the last ones by node, so that each is said once.
    """
    gap = services.gap()
    adopted = []
    for node in _due():
        if stopping.is_set():
            return
        try:
            _, found = node_adopt(
                base_url=node.url,
                # Books that were never lost know what was deleted; a disk that returns does not.
                adopts_blobs=gap is not None,
                gap=gap,
                on_progress=lambda *_: None,
            )
        except NodeRequestError as error:
            if complaints.get(node.node_id) != str(error):
                logger.warning("What node %s has is not adopted: %s", node.node_id, error)
            complaints[node.node_id] = str(error)
            continue
        complaints.pop(node.node_id, None)
        adopted.append(node)
        logger.info(
            "Node %s: %d blobs and %d files adopted, %d copies noted",
            node.node_id,
            found.blobs,
            found.files,
            found.copies,
        )
    # While one is away nobody knows what it has; `rebuild_metadata` can be asked any time.
    if adopted and gap is not None and not Node.objects.filter(inventory_due=True).exists():
        _say_what_is_missing()


def _due() -> NodeQuerySet:
    return Node.objects.in_reach().filter(inventory_due=True)


def _say_what_is_missing() -> None:
    count = 0
    for missing in missing_blobs(list(Node.objects.in_reach())):
        count += 1
        if count <= NAMED_MISSING:
            logger.error("No node in reach has %s (%s)", missing.hash, missing.name)
    if count:
        logger.error("No node in reach has %d of the blobs on record", count)
