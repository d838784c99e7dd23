"""`/internal/copies`: a node makes replicas from its peers', as the master orders. Signed."""

import asyncio
import hashlib
import json
from collections.abc import Sequence
from typing import Any, Final

from mini_dropbox.wire import (
    MAX_COPIES,
    CopyOrder,
    CopyResult,
    CopyStatus,
    NodeEntry,
    WireError,
    clean_file_name,
)
from node_app.blobwriter import BlobWriter, Digests
from node_app.commits import Incoming
from node_app.dataplane.form import media_type
from node_app.dataplane.http import Request
from node_app.dataplane.peers import read_into_memory, signed_body
from node_app.dataplane.receiving import PipedWriter
from node_app.errors import BadForm, DigestMismatch, NodeError, NotSigned, PeerError
from node_app.node import Node

# An order takes a few hundred bytes, and a name may have 255 characters of four.
MAX_MESSAGE_BYTES: Final = MAX_COPIES * 4 * 1024
# So many copies are made at once: small ones wait for the disk together.
AT_ONCE: Final = 16


async def make_copies(request: Request, node: Node) -> None:
    """Carry out orders; each has its own result."""
    signed = signed_body(request, node)
    node.replicator.check_refusal()
    message = await read_into_memory(request, MAX_MESSAGE_BYTES)
    if hashlib.sha256(message).hexdigest() != signed:
        raise NotSigned("The body is not the one that was signed.")
    orders = _orders(message)
    turns = asyncio.Semaphore(AT_ONCE)
    with node.upload_in_flight():
        results = await asyncio.gather(*(_carry_out(node, order, turns) for order in orders))
    answer = {"success": True, "results": [result.to_json() for result in results]}
    await request.respond_json(200, answer)


def _orders(message: bytes) -> Sequence[CopyOrder]:
    try:
        said: Any = json.loads(message)["copies"]
        orders = [CopyOrder.from_json(order) for order in said]
        for order in orders:
            clean_file_name(order.name)
    except (ValueError, TypeError, KeyError, RecursionError, WireError) as error:
        raise BadForm(f"These are no orders for copies: {error}.") from error
    if len(orders) > MAX_COPIES:
        raise BadForm(f"Order at most {MAX_COPIES} copies at once.")
    return orders


async def _carry_out(node: Node, order: CopyOrder, turns: asyncio.Semaphore) -> CopyResult:
    async with turns:
        if await node.run(_is_there, node, order):
            return CopyResult(hash=order.hash, status=CopyStatus.HAD)
        reasons, without = [], []
        peers = {peer.node_id: peer for peer in node.cluster.holders(order.hash)}
        for source in order.sources:
            if source not in peers:
                reasons.append(f"node {source} is not in this node's cluster map")
                continue
            try:
                is_there = await _copy_from(node, peers[source], order)
            except (PeerError, NodeError) as error:
                reasons.append(f"node {source}: {error}")
            else:
                if is_there:
                    return CopyResult(hash=order.hash, status=CopyStatus.MADE)
                without.append(source)
                reasons.append(f"node {source} has no such blob")
    return CopyResult(
        hash=order.hash,
        status=CopyStatus.FAILED,
        reason="; ".join(reasons) or "no node was named that has it",
        without=tuple(without),
    )


def _is_there(node: Node, order: CopyOrder) -> bool:
    """Tell whether this node has the blob; read, for the master believed that it had not."""
    if node.store.record(order.hash) is None:
        return False
    return node.store.verify(order.hash, order.sha256)


async def _copy_from(node: Node, peer: NodeEntry, order: CopyOrder) -> bool:
    """Make a durable replica of what a peer has; return False when it says that it has none.

    PeerError or NodeError when it cannot be had, or is not what was ordered.
    """
    with node.store.writer() as writer:
        async with node.peers.open(peer, "GET", order.hash, {}) as answer:
            if answer.status == 404:
                return False
            if answer.status != 200:
                raise PeerError(f"it answered {answer.status}")
            output = PipedWriter(writer, node.run, order.size)
            try:
                async for chunk in answer.content.iter_any():
                    await output.write(chunk)
                await output.finish()
            finally:
                await output.settle()
        _check(writer, order)
        incoming = Incoming(writer, order.name, media_type(order.name, order.content_type))
        await node.replicator.keep(incoming)
    return True


def _check(writer: BlobWriter, order: CopyOrder) -> None:
    if writer.digests() != Digests(order.hash, order.sha256, order.size):
        raise DigestMismatch("its copy is not the content that was ordered")
