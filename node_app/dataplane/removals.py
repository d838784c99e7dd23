"""`/internal/removals`: a node removes blobs that no file names any more. Signed."""

import hashlib
import json
from collections.abc import Sequence
from typing import Any, Final

from mini_dropbox.wire import MAX_REMOVALS, RemovalOrder, RemovalResult, RemovalStatus, WireError
from node_app.dataplane.http import Request
from node_app.dataplane.peers import read_into_memory, signed_body
from node_app.errors import BadForm, NodeError, NotSigned
from node_app.node import Node

MAX_MESSAGE_BYTES: Final = MAX_REMOVALS * 512


async def remove_blobs(request: Request, node: Node) -> None:
    """Carry out orders; each has its own result."""
    signed = signed_body(request, node)
    message = await read_into_memory(request, MAX_MESSAGE_BYTES)
    if hashlib.sha256(message).hexdigest() != signed:
        raise NotSigned("The body is not the one that was signed.")
    results = await node.run(_remove_all, node, _orders(message))
    answer = {"success": True, "results": [result.to_json() for result in results]}
    await request.respond_json(200, answer)


def _orders(message: bytes) -> Sequence[RemovalOrder]:
    try:
        said: Any = json.loads(message)["removals"]
        orders = [RemovalOrder.from_json(order) for order in said]
    except (ValueError, TypeError, KeyError, RecursionError, WireError) as error:
        raise BadForm(f"These are no orders for removals: {error}.") from error
    if len(orders) > MAX_REMOVALS:
        raise BadForm(f"Order at most {MAX_REMOVALS} removals at once.")
    return orders


def _remove_all(node: Node, orders: Sequence[RemovalOrder]) -> list[RemovalResult]:
    """Remove what may be removed. Blocks."""
    if len(node.outbox):
        reason = "uploads wait here for the master, who has to hear of them first"
        return [_kept(order, reason) for order in orders]
    return [_remove(node, order) for order in orders]


def _remove(node: Node, order: RemovalOrder) -> RemovalResult:
    try:
        return node.store.remove_untouched(order)
    except NodeError as error:
        return _kept(order, str(error))


def _kept(order: RemovalOrder, reason: str) -> RemovalResult:
    return RemovalResult(hash=order.hash, status=RemovalStatus.KEPT, reason=reason)
