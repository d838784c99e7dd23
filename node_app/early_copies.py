"""Copies that peers receive while the client still sends, so that a large upload waits once.

A peer gives a receipt for what it has received, with the digests that it computed. Once the
upload is whole, the receipt is exchanged for a replica. Whatever fails on the way costs nothing
but the time saved: the replica is then pushed as any other.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Sequence
from types import TracebackType
from typing import Final, Self

from mini_dropbox.wire import NodeEntry
from node_app.blobwriter import BlobWriter
from node_app.blocking import RunBlocking
from node_app.errors import NodeError, PeerError, PeerSilent
from node_app.growth import Growth
from node_app.peer_client import PeerClient, Receipt

logger = logging.getLogger(__name__)

# A smaller upload is over before it would be worth another request.
MINIMUM_BYTES: Final = 1024 * 1024
PIECE_BYTES: Final = 1024 * 1024


class EarlyCopies:
    """Streams one growing upload to peers; leaving the context ends what is under way."""

    def __init__(
        self,
        client: PeerClient,
        run: RunBlocking,
        writer: BlobWriter,
        growth: Growth,
        peers: Sequence[NodeEntry],
    ) -> None:
        self._client = client
        self._run = run
        self._writer = writer
        self._growth = growth
        self._sendings = {
            peer.node_id: asyncio.create_task(self._send(peer), name="early copy") for peer in peers
        }

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for sending in self._sendings.values():
            sending.cancel()
        if self._sendings:
            await asyncio.gather(*self._sendings.values(), return_exceptions=True)

    async def receipt(self, peer: NodeEntry) -> Receipt | None:
        """Return what a peer gave for the whole content, once it has it; None without one.

        PeerSilent when the peer has stopped.
        """
        sending = self._sendings.get(peer.node_id)
        return None if sending is None else await asyncio.shield(sending)

    async def _send(self, peer: NodeEntry) -> Receipt | None:
        if await self._growth.beyond(MINIMUM_BYTES) <= MINIMUM_BYTES:
            return None
        try:
            return await self._client.send_ahead(peer, self._pieces(), self._growth.total)
        except PeerSilent:
            raise
        except (PeerError, NodeError) as error:
            logger.warning("A copy is not sent ahead: %s", error)
            return None

    async def _pieces(self) -> AsyncIterator[bytes]:
        """Follow the upload to its end; PeerError when that is not where it was said to be."""
        offset, total = 0, self._growth.total
        while (there := await self._growth.beyond(offset)) > offset:
            if total is not None and there > total:
                break
            piece = await self._run(self._writer.read_at, offset, min(PIECE_BYTES, there - offset))
            offset += len(piece)
            yield piece
        if total is not None and there != total:
            raise PeerError("The upload does not have the length that it was sent with.")
