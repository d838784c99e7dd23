"""What operators change. Keyword-only, typed, each one transaction."""

from typing import Final

from django.db import transaction

from master_app.models import MoveTask, Node, NodeMode, Removal, Replica
from master_app.operations.plans import RebalancePlan, rebalance_plan
from master_app.repair import moves

PAGE_ROWS: Final = 5000


class UnknownNode(Exception):
    """There is no node with this id; the text says which there are."""


def node_named(*, node_id: str) -> Node:
    """Return a node; UnknownNode when there is none with this id."""
    node = Node.objects.filter(node_id=node_id).first()
    if node is None:
        known = ", ".join(Node.objects.values_list("node_id", flat=True)) or "none yet"
        message = f"There is no node {node_id}; the nodes are: {known}."
        raise UnknownNode(message)
    return node


def node_set_mode(*, node: Node, mode: NodeMode) -> None:
    """Say what a node is to be used for; every node hears of it with its next heartbeat."""
    Node.objects.filter(pk=node.pk).update(mode=mode)
    node.mode = mode


def node_remove(*, node: Node) -> int:
    """Take a node out of the cluster with all records of its copies; return how many there were.

    What is cut off in between is finished by the next call.
    """
    node_set_mode(node=node, mode=NodeMode.REMOVED)
    Removal.objects.filter(node=node).delete()
    count = 0
    while forgotten := _forget_some(node):
        count += forgotten
    return count


def rebalance_begin() -> RebalancePlan:
    """Note all blobs that are to be moved, for the master that repairs; return what was noted."""
    return rebalance_plan(on_page=lambda page: moves.tasks_add(keys=page.keys))


def rebalance_cancel() -> int:
    """Leave where they are the blobs that have not been moved yet; return how many."""
    count, _ = MoveTask.objects.all().delete()
    return count


@transaction.atomic
def _forget_some(node: Node) -> int:
    keys = list(Replica.objects.filter(node=node).values_list("pk", flat=True)[:PAGE_ROWS])
    Replica.objects.filter(pk__in=keys).delete()
    return len(keys)
