"""Where an upload's replicas go, and what is done when a node fails on the way."""

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Final

from mini_dropbox.wire import NodeEntry
from node_app import early_copies
from node_app.batching import Batcher
from node_app.blobstore import BlobStore
from node_app.blobwriter import BlobWriter, Digests
from node_app.blocking import RunBlocking
from node_app.cluster_view import ClusterView
from node_app.commits import Incoming, Outcome
from node_app.early_copies import EarlyCopies
from node_app.errors import (
    BelowQuorum,
    HashCollision,
    NodeError,
    NodeRefused,
    PeerError,
    PeerSilent,
    StoreFailed,
    StoreFull,
    Unavailable,
)
from node_app.growth import Growth
from node_app.peer_client import PeerClient, Receipt
from node_app.replica_batch import SMALL_BYTES, ReplicaHead

logger = logging.getLogger(__name__)

# Where all nodes hold every blob, any address tells which nodes these are.
ANY_HASH: Final = "0" * 32


@dataclass(frozen=True)
class Replicas:
    """Who holds a verified, durable copy, and whose copy is new."""

    node_ids: tuple[str, ...]
    new: tuple[NodeEntry, ...]

    @property
    def deduplicated(self) -> bool:
        """Whether every copy was there before."""
        return not self.new


class Replicator:
    """Puts copies of one upload on the nodes that placement chooses."""

    def __init__(
        self, store: BlobStore, peers: PeerClient, cluster: ClusterView, run: RunBlocking
    ) -> None:
        self._store = store
        self._peers = peers
        self._cluster = cluster
        self._run = run
        self._own_lane: Batcher[Incoming, bool] = Batcher(self._commit_all)
        self._peer_lanes: dict[tuple[str, str], Batcher[Incoming, bool]] = {}
        # What keeps this node from storing, if anything does; every heartbeat finds out.
        self.own_failure: NodeError | None = None
        # Copies that peers have taken, and those that they have not.
        self.pushes_stored = self.pushes_failed = 0
        # Why the master does not let this node in, if so; it stores nothing then.
        self.refusal: NodeRefused | None = None

    def check_refusal(self) -> None:
        """NodeRefused while the master does not let this node in."""
        if self.refusal is not None:
            # A new one each time: an error that is raised keeps what it went through.
            raise type(self.refusal)(str(self.refusal))

    def check_quorum(self) -> None:
        """Refuse, as `replicate` would, when too few nodes are there for the write quorum."""
        self.check_refusal()
        there = self._cluster.home_count(own_is_writable=self.own_failure is None)
        if there < self._cluster.write_quorum:
            raise self._too_few(there, [])

    def send_ahead(
        self,
        writer: BlobWriter,
        growth: Growth,
        announced: int | None,
        blob_hash: str | None = None,
    ) -> EarlyCopies:
        """Let the peers that will hold a large upload receive it while it comes in.

        `announced` is about how many bytes will come. Where each node will hold it, or its hash
        is known beforehand, so are these peers; otherwise there are none.
        """
        homes: list[NodeEntry] = []
        if announced is None or announced > early_copies.MINIMUM_BYTES:
            homes = self._homes_beforehand(blob_hash)
        peers = [node for node in homes if node.node_id != self._cluster.node_id]
        return EarlyCopies(self._peers, self._run, writer, growth, peers)

    def _homes_beforehand(self, blob_hash: str | None) -> list[NodeEntry]:
        is_writable, copies = self.own_failure is None, self._cluster.replication_factor
        if blob_hash is not None:
            return self._cluster.homes(blob_hash, own_is_writable=is_writable)[:copies]
        anywhere = self._cluster.homes(ANY_HASH, own_is_writable=is_writable)
        return anywhere if len(anywhere) <= copies else []

    async def replicate(
        self,
        writer: BlobWriter,
        *,
        name: str,
        content_type: str,
        early: EarlyCopies | None = None,
    ) -> Replicas:
        """Store the upload on as many nodes as there should be copies, the best placed first.

        A node that fails is replaced by the next in line. After a HashCollision the new copies
        are taken back: they would be served under an address that means another content. Copies
        that are too few (BelowQuorum, Unavailable, StoreFull, StoreFailed) stay without a row:
        another upload of the same content may just have counted on them.
        """
        self.check_refusal()
        digests, incoming = writer.digests(), Incoming(writer, name, content_type)
        homes = self._cluster.homes(digests.md5, own_is_writable=self.own_failure is None)
        stored: dict[NodeEntry, bool] = {}
        failures: list[Exception] = []
        while homes and len(stored) < self._cluster.replication_factor:
            missing = self._cluster.replication_factor - len(stored)
            chosen, homes = homes[:missing], homes[missing:]
            outcomes = await asyncio.gather(
                *(self._store_on(node, incoming, digests, early) for node in chosen),
                return_exceptions=True,
            )
            for node, outcome in zip(chosen, outcomes, strict=True):
                self._count_push(node, outcome)
                if isinstance(outcome, bool):
                    stored[node] = outcome
                elif isinstance(outcome, PeerError | NodeError):
                    failures.append(outcome)
                else:
                    raise outcome
            collision = next((f for f in failures if isinstance(f, HashCollision)), None)
            if collision is not None:
                await self.take_back(_replicas(stored), digests)
                raise collision
        if len(stored) < self._cluster.write_quorum:
            raise self._too_few(len(stored), failures)
        return _replicas(stored)

    async def keep(self, incoming: Incoming) -> bool:
        """Store a copy on this node alone; return whether it was there already."""
        if incoming.writer.size <= SMALL_BYTES:
            return await self._own_lane.submit(incoming)
        return await self._commit(incoming)

    def _count_push(self, node: NodeEntry, outcome: object) -> None:
        if node.node_id == self._cluster.node_id:
            return
        if isinstance(outcome, bool):
            self.pushes_stored += 1
        else:
            self.pushes_failed += 1

    async def take_back(self, replicas: Replicas, digests: Digests) -> None:
        """Remove the new copies of a content that collides with another.

        Those that were there before stay: an upload that was acknowledged may need them.
        """
        for node in replicas.new:
            try:
                if node.node_id == self._cluster.node_id:
                    await self._run(self._store.delete, digests.md5, sha256=digests.sha256)
                else:
                    await self._peers.delete(node, digests)
            except (PeerError, NodeError) as error:
                logger.warning("A refused copy of %s stays behind: %s", digests.md5, error)

    def _store_on(
        self, node: NodeEntry, incoming: Incoming, digests: Digests, early: EarlyCopies | None
    ) -> Awaitable[bool]:
        is_own = node.node_id == self._cluster.node_id
        if digests.size <= SMALL_BYTES:
            return self._lane(node, is_own=is_own).submit(incoming)
        return self._commit(incoming) if is_own else self._push(node, incoming, digests, early)

    def _lane(self, node: NodeEntry, *, is_own: bool) -> Batcher[Incoming, bool]:
        """Return where small replicas for this node gather."""
        if is_own:
            return self._own_lane
        key = (node.node_id, node.url)
        if key not in self._peer_lanes:
            self._peer_lanes[key] = Batcher(partial(self._push_all, node))
        return self._peer_lanes[key]

    async def _commit_all(self, incoming: Sequence[Incoming]) -> Sequence[Outcome]:
        outcomes: Sequence[Outcome] = await self._run(self._store.commit_all, incoming)
        return outcomes

    async def _commit(self, incoming: Incoming) -> bool:
        (outcome,) = await self._commit_all([incoming])
        if isinstance(outcome, NodeError):
            raise outcome
        return outcome

    async def _push_all(
        self, node: NodeEntry, incoming: Sequence[Incoming]
    ) -> Sequence[bool | Exception]:
        if self._cluster.is_suspected(node):
            # It has failed while these waited for their turn; they need not wait for it as well.
            raise PeerSilent(f"{node.url} has just failed")
        replicas = []
        for entry in incoming:
            digests = entry.writer.digests()
            head = ReplicaHead(digests.md5, digests.size, entry.name, entry.content_type)
            replicas.append((head, entry.writer.read_at(0, digests.size)))
        with self._suspicion(node):
            return await self._peers.put_all(node, replicas)

    async def _push(
        self, node: NodeEntry, incoming: Incoming, digests: Digests, early: EarlyCopies | None
    ) -> bool:
        named = {"name": incoming.name, "content_type": incoming.content_type}
        with self._suspicion(node):
            receipt = await early.receipt(node) if early is not None else None
            if receipt is not None and _is_for(receipt, digests):
                try:
                    return await self._peers.redeem(node, receipt, digests, **named)
                except PeerSilent:
                    raise
                except PeerError as error:
                    logger.warning("What was sent ahead has to be sent again: %s", error)
            return await self._peers.put(node, digests, self._chunks(incoming.writer), **named)

    @contextmanager
    def _suspicion(self, node: NodeEntry) -> Iterator[None]:
        """Pass over a peer for a while after it has failed."""
        try:
            yield
        except PeerError as error:
            logger.warning("Replicas go elsewhere: %s", error)
            self._cluster.suspect(node.node_id)
            raise

    async def _chunks(self, writer: BlobWriter) -> AsyncIterator[bytes]:
        for offset in range(0, writer.size, early_copies.PIECE_BYTES):
            yield await self._run(writer.read_at, offset, early_copies.PIECE_BYTES)

    def _too_few(self, copies: int, failures: list[Exception]) -> NodeError:
        """Return what is wrong: a disk, where that alone keeps the file from being stored."""
        for kind in (StoreFull, StoreFailed):
            failure = next((f for f in (*failures, self.own_failure) if isinstance(f, kind)), None)
            if failure is not None and copies == 0:
                return failure
        return _below_quorum(copies, self._cluster.write_quorum)


def _is_for(receipt: Receipt, digests: Digests) -> bool:
    return (receipt.sha256, receipt.size) == (digests.sha256, digests.size)


def _replicas(stored: Mapping[NodeEntry, bool]) -> Replicas:
    """Return who has stored a copy; the values tell whether it was there before."""
    return Replicas(
        node_ids=tuple(sorted(node.node_id for node in stored)),
        new=tuple(node for node, was_there in stored.items() if not was_there),
    )


def _below_quorum(there: int, quorum: int) -> NodeError:
    if there == 0 and quorum == 1:
        return Unavailable("No node can keep this file now; try again in a moment.")
    return BelowQuorum(
        f"Only {there} of at least {quorum} nodes can keep a copy now; try again in a moment."
    )
