"""A blob that this node cannot serve, passed on from a peer that can."""

import hashlib
import logging
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Final

from mini_dropbox.wire import NodeEntry
from node_app.compression import ENCODING
from node_app.dataplane.blob_headers import COMMON, naming, takes_frames
from node_app.dataplane.bodies import FramesHashing, begun, held_to, send_pieces
from node_app.dataplane.http import Request, header
from node_app.errors import (
    BlobDamaged,
    BlobNotFound,
    MasterError,
    NoGoodCopy,
    PeerError,
    Unavailable,
)
from node_app.master_client import Located
from node_app.node import Node
from node_app.peer_client import PeerAnswer

logger = logging.getLogger(__name__)

# Placement says where a blob should be; after this many misses the master says where it is.
GUESSES: Final = 3

CONDITIONS: Final = (b"range", b"if-range", b"if-none-match")
RELAYED: Final = ("Content-Length", "Content-Range", "Content-Encoding", "ETag", "Accept-Ranges")
SERVED: Final = {200, 206, 304, 416}


@dataclass(frozen=True)
class Wanted:
    """A blob that this node cannot serve, and the peers that could not be asked for it.

    `damaged` are the nodes whose copy is not what was stored.
    """

    blob_hash: str
    name: str
    unreachable: list[str] = field(default_factory=list)
    damaged: list[str] = field(default_factory=list)


async def serve_from_peer(request: Request, node: Node, wanted: Wanted) -> None:
    """Stream from the first peer that has the blob.

    404 when neither the nodes that answer nor the master know of it; 503 while a node that has
    it, or may have it and the master is away, cannot be reached, and when no copy is good.
    """
    holders = node.cluster.holders(wanted.blob_hash)
    tried: set[str] = set()
    for peer in holders[:GUESSES]:
        tried.add(peer.node_id)
        if await _relay(request, node, peer, wanted):
            return
    try:
        located = await node.master.locate(wanted.blob_hash)
    except MasterError:
        # Without the master, every node has to be asked.
        located = Located(tuple(peer.node_id for peer in holders), is_stored=False)
    for peer in holders:
        if located and peer.node_id in located.node_ids and peer.node_id not in tried:
            tried.add(peer.node_id)
            if await _relay(request, node, peer, wanted):
                return
    if located and located.is_stored:
        # A node that was just started, or was refused, does not know all the others.
        strangers = {*located.node_ids} - tried - {node.settings.node_id}
        wanted.unreachable.extend(sorted(strangers))
    if wanted.unreachable and located and located.node_ids:
        raise Unavailable("No node that has this blob can be reached now; try again in a moment.")
    if wanted.damaged or (located and located.is_stored):
        logger.error("No node has a good copy of %s", wanted.blob_hash)
        raise NoGoodCopy(
            "Every copy of this blob is damaged or lost. Upload the file again to restore it; the "
            "nodes keep what is left of it in their quarantine folders."
        )
    raise BlobNotFound("No node has a blob with this hash.")


async def _relay(request: Request, node: Node, peer: NodeEntry, wanted: Wanted) -> bool:
    """Pass a peer's answer on as it comes; return whether the peer had one."""
    conditions = {
        condition.decode(): value
        for condition in CONDITIONS
        if (value := request.header(condition)) is not None
    }
    conditions["accept-encoding"] = ENCODING if takes_frames(request) else "identity"
    try:
        async with node.peers.open(peer, request.method, wanted.blob_hash, conditions) as answer:
            if answer.status not in SERVED:
                if answer.status != BlobNotFound.status:
                    code = (await answer.json()).get("code")
                    is_damaged = code == BlobDamaged.code
                    (wanted.damaged if is_damaged else wanted.unreachable).append(peer.node_id)
                return False
            await _relay_body(request, node, answer, wanted)
            return True
    except BlobDamaged as error:
        # Something on the way to here has changed what the peer has read.
        logger.warning("%s sent other bytes than those of %s", peer.url, wanted.blob_hash)
        if request.started:
            raise Unavailable("The peer sent other bytes than the blob's.") from error
        wanted.unreachable.append(peer.node_id)
        return False
    except PeerError as error:
        if request.started:
            # Part of the body is out: only a broken connection can say that the rest is missing.
            raise Unavailable(f"The peer broke off: {error}") from error
        node.cluster.suspect(peer.node_id)
        wanted.unreachable.append(peer.node_id)
        return False


async def _relay_body(request: Request, node: Node, answer: PeerAnswer, wanted: Wanted) -> None:
    headers = [
        *COMMON,
        *(
            header(key.lower().encode(), answer.headers[key])
            for key in RELAYED
            if key in answer.headers
        ),
    ]
    if answer.status in {200, 206}:
        headers += naming(wanted.name)
    pieces: AsyncIterator[bytes] = answer.content.iter_any()
    # The peer has verified what it sends a part of.
    if answer.status == 200 and request.method == "GET":
        is_encoded = "Content-Encoding" in answer.headers
        hashing = FramesHashing() if is_encoded else hashlib.md5(usedforsecurity=False)
        pieces = await begun(held_to(wanted.blob_hash, pieces, hashing, node.run))
    await request.start(answer.status, headers)
    await send_pieces(request, pieces)
