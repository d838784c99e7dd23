"""Which nodes are let in: those of this cluster, each with a data folder of its own.

A node says with each heartbeat whose its folder is and which one. What is refused here is a disk
that was carried over from another cluster, copied, or put to work twice.
"""

import logging
import time
from datetime import datetime
from typing import Final

from django.conf import settings
from django.db import transaction
from django.db.models import Count, Q
from django.utils import timezone

from master_app.errors import CopiesBeingForgotten, NodeRefused
from master_app.models import Cluster, Node, NodeState, Replica, node_state, state_limits
from master_app.prepared import PreparedQuery
from master_app.repair.services import tasks_add
from mini_dropbox.wire import FOREIGN_CLUSTER, Heartbeat, Sender, new_identity

logger = logging.getLogger(__name__)

FORGET_ROWS: Final = 1000
# A node waits for the answer to its heartbeat; what is left is forgotten with the next.
FORGET_SECONDS: Final = 1.0

_CLUSTER_ID = PreparedQuery(lambda _: Cluster.objects.values_list("cluster_id"))
_CLAIMS = PreparedQuery(
    lambda claimed: (
        Node.objects.filter(Q(node_id=claimed[0]) | Q(store_id=claimed[1]))
        .order_by()
        .values_list("pk", "node_id", "url", "store_id", "last_heartbeat_at")
    )
)


def cluster_id(*, of_first: str = "") -> str:
    """Return what names this cluster; a new database takes the name that the first node brings.

    Where the database was lost, that is the name of the cluster that it belonged to.
    """
    for (known,) in _CLUSTER_ID.rows():
        return str(known)
    now = timezone.now()
    defaults = {"cluster_id": of_first or new_identity(), "created_at": now}
    if of_first:
        defaults["restored_at"] = now
    return Cluster.objects.get_or_create(pk=Cluster.ONE, defaults=defaults)[0].cluster_id


def check_heartbeat(*, heartbeat: Heartbeat, now: datetime) -> bool:
    """Return whether the node's disk is one that this database has no record of.

    NodeRefused unless the node belongs here. In the transaction that believes the heartbeat.
    """
    ours = cluster_id(of_first=heartbeat.cluster_id)
    if heartbeat.cluster_id not in {"", ours}:
        message = (
            f"The data folder of node {heartbeat.node_id} belongs to cluster "
            f"{heartbeat.cluster_id}, and this is cluster {ours}: start the node with that "
            "cluster's master, or with an empty folder."
        )
        raise NodeRefused(message, code=FOREIGN_CLUSTER)
    # Nodes of earlier versions do not name their folder.
    if not heartbeat.store_id:
        return False
    # A member of this cluster without a row: the books that had it are lost.
    is_unread = bool(heartbeat.cluster_id)
    for pk, node_id, url, store_id, last_heartbeat_at in _CLAIMS.rows(
        heartbeat.node_id, heartbeat.store_id
    ):
        is_alive = node_state(now - last_heartbeat_at) is NodeState.HEALTHY
        if store_id == heartbeat.store_id:
            if is_alive and (node_id, url) != (heartbeat.node_id, heartbeat.url):
                raise _same_folder(heartbeat, node_id, url)
        elif store_id and is_alive:
            raise _same_name(heartbeat, url)
        elif store_id and Replica.objects.filter(node=pk).exists():
            raise _copies_left(heartbeat)
        if node_id == heartbeat.node_id:
            is_unread = store_id not in {"", heartbeat.store_id}
    return is_unread


def heartbeats_to_come_date_back() -> None:
    """Let nodes that were heard of in a time to come count as heard of now.

    After a clock was set back, one that is dead would be healthy until that time has come.
    """
    now = timezone.now()
    to_come = Node.objects.filter(last_heartbeat_at__gt=now + state_limits()[0])
    if to_come.exists():
        to_come.update(last_heartbeat_at=now)


def copies_forget(*, node_id: str) -> None:
    """Remove the records of copies that went with a node's old disk, for about a second.

    Each transaction notes for repair what it has left with too few.
    """
    until = time.monotonic() + FORGET_SECONDS
    forgotten = 0
    while (count := _forget_some(node_id)) and time.monotonic() < until:
        forgotten += count
    logger.warning("Node %s has a new disk: %d copies are gone", node_id, forgotten + count)


@transaction.atomic
def _forget_some(node_id: str) -> int:
    replicas = Replica.objects.filter(node__node_id=node_id).order_by("pk")
    rows = dict(replicas.values_list("pk", "blob")[:FORGET_ROWS])
    Replica.objects.filter(pk__in=rows).delete()
    left = Replica.objects.filter(blob__in=rows.values()).order_by().values("blob")
    counts = dict(left.annotate(n=Count("pk")).values_list("blob", "n"))
    few = {key: counts.get(key, 0) for key in rows.values()}
    wanted = settings.ENV.replication_factor
    tasks_add(copies={key: count for key, count in few.items() if count < wanted})
    return len(rows)


def check_sender(*, sender: Sender, store_id: str | None) -> None:
    """NodeRefused unless the sender's folder is the one that its last heartbeat named.

    `store_id` is what the sender's row has; None without a row.
    """
    if sender.store_id != store_id:
        message = (
            f"Node {sender.node_id} is not let in with this data folder: its heartbeats are "
            "answered with the reason."
        )
        raise NodeRefused(message)


def _same_folder(heartbeat: Heartbeat, node_id: str, url: str) -> NodeRefused:
    message = (
        f"Node {node_id} at {url} runs with the same data folder, or a copy of it, as node "
        f"{heartbeat.node_id} at {heartbeat.url}: stop one of the two, or start this one with an "
        "empty folder."
    )
    return NodeRefused(message, code="duplicate_disk")


def _same_name(heartbeat: Heartbeat, url: str) -> NodeRefused:
    message = (
        f"Node {heartbeat.node_id} runs at {url} with another data folder: give this one another "
        "MINI_DROPBOX_NODE_ID, or stop that one; if its disk was replaced, wait some seconds."
    )
    return NodeRefused(message, code="node_id_taken")


def _copies_left(heartbeat: Heartbeat) -> NodeRefused:
    message = (
        f"Node {heartbeat.node_id} has a new data folder and is let in as soon as the copies in "
        "its old one are forgotten."
    )
    return CopiesBeingForgotten(message)
