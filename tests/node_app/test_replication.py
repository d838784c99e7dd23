"""Where an upload's copies go when nodes fail, refuse or are missing."""

import asyncio
from collections.abc import AsyncIterator, Iterator, Sequence
from pathlib import Path

import pytest

from mini_dropbox.wire import NodeEntry
from node_app.blobstore import CHUNK_BYTES
from node_app.blobwriter import BlobWriter, Digests
from node_app.cluster_view import ClusterView
from node_app.errors import (
    BelowQuorum,
    HashCollision,
    NodeError,
    PeerError,
    StoreFailed,
    StoreFull,
)
from node_app.replica_batch import ReplicaHead
from node_app.replication import Replicas, Replicator
from tests.support.blob_backends import LocalBackend, md5, sha256
from tests.support.md5_collision import colliding_pair
from tests.support.nodes import cluster_map, node_entry
from tests.support.waiting import eventually_there

OWN, *PEERS = (node_entry(number) for number in (8001, 8002, 8003, 8004))
CONTENT = b"some content"


class FakePeers:
    """Peers in memory; each can be made to fail or to hold another content."""

    def __init__(self) -> None:
        self.blobs: dict[tuple[str, str], bytes] = {}
        self.failures: dict[str, Exception] = {}
        self.asked: list[str] = []
        self.messages = 0
        self.gate = asyncio.Event()
        self.gate.set()

    async def put(
        self,
        peer: NodeEntry,
        digests: Digests,
        body: bytes | AsyncIterator[bytes],
        *,
        name: str,
        content_type: str,
    ) -> bool:
        self.asked.append(peer.node_id)
        if peer.node_id in self.failures:
            raise self.failures[peer.node_id]
        content = body if isinstance(body, bytes) else b"".join([piece async for piece in body])
        assert (md5(content), sha256(content), len(content)) == (
            digests.md5,
            digests.sha256,
            digests.size,
        )
        there = self.blobs.setdefault((peer.node_id, digests.md5), content)
        if there != content:
            raise HashCollision("Another content with this MD5 is stored already.")
        return there is not content

    async def put_all(
        self, peer: NodeEntry, replicas: Sequence[tuple[ReplicaHead, bytes]]
    ) -> list[bool | Exception]:
        self.messages += 1
        await self.gate.wait()
        outcomes: list[bool | Exception] = []
        for head, content in replicas:
            digests = Digests(head.hash, sha256(content), head.size)
            try:
                said = {"name": head.name, "content_type": head.content_type}
                outcomes.append(await self.put(peer, digests, content, **said))
            except HashCollision as error:
                outcomes.append(error)
        return outcomes

    async def delete(self, peer: NodeEntry, digests: Digests) -> None:
        if peer.node_id in self.failures:
            raise self.failures[peer.node_id]
        if sha256(self.blobs[peer.node_id, digests.md5]) == digests.sha256:
            del self.blobs[peer.node_id, digests.md5]

    def holders(self, content: bytes) -> set[str]:
        return {node_id for (node_id, _), blob in self.blobs.items() if blob == content}


class Cluster:
    """One node's replicator among fake peers, with a real store of its own."""

    def __init__(self, folder: Path) -> None:
        self.own = LocalBackend(folder / "node_8001")
        self.peers = FakePeers()
        self.view = ClusterView(folder / "cluster_map.json", OWN)
        self.replicator = Replicator(
            self.own.store,
            self.peers,  # type: ignore[arg-type]
            self.view,
            asyncio.to_thread,
        )
        self.shape()

    def shape(self, *, copies: int = 2, quorum: int = 1) -> None:
        known = cluster_map(OWN, *PEERS, replication_factor=copies, write_quorum=quorum)
        self.view.update(known)

    def homes(self, content: bytes) -> list[str]:
        return [n.node_id for n in self.view.homes(md5(content), own_is_writable=True)]

    def holders(self, content: bytes) -> set[str]:
        own = {OWN.node_id} if self.own.planted(md5(content)) == content else set()
        return own | self.peers.holders(content)

    def writer(self, content: bytes) -> BlobWriter:
        writer = self.own.store.writer()
        writer.write(content)
        return writer

    async def replicate(self, content: bytes) -> Replicas:
        with self.writer(content) as writer:
            return await self.replicator.replicate(writer, name="name", content_type="text/plain")

    async def take_back(self, content: bytes, replicas: Replicas) -> None:
        with self.writer(content) as writer:
            await self.replicator.take_back(replicas, writer.digests())


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    made = Cluster(tmp_path)
    yield made
    made.own.close()


def content_with_homes(cluster: Cluster, *, own_first: bool, size: int = 20) -> bytes:
    """Return a content whose best home is this node, or whose two best homes are peers."""
    for number in range(1000):
        content = f"{number}".encode().ljust(size, b".")
        homes = cluster.homes(content)
        if homes[0] == OWN.node_id if own_first else OWN.node_id not in homes[:2]:
            return content
    raise AssertionError("no such content")


@pytest.mark.parametrize("own_first", [True, False])
@pytest.mark.parametrize("size", [20, 3 * CHUNK_BYTES + 5])
async def test_copies_go_to_the_best_placed_nodes(
    cluster: Cluster, *, own_first: bool, size: int
) -> None:
    content = content_with_homes(cluster, own_first=own_first, size=size)
    best = cluster.homes(content)[:2]

    replicas = await cluster.replicate(content)

    assert set(replicas.node_ids) == cluster.holders(content) == set(best)
    assert list(replicas.node_ids) == sorted(best)
    assert not replicas.deduplicated


async def test_a_known_content_is_told_as_such(cluster: Cluster) -> None:
    await cluster.replicate(CONTENT)

    assert (await cluster.replicate(CONTENT)).deduplicated


async def test_the_next_in_line_takes_the_place_of_a_peer_that_fails(cluster: Cluster) -> None:
    content = content_with_homes(cluster, own_first=False)
    first, second, third, _ = cluster.homes(content)
    cluster.peers.failures[first] = PeerError("PUT: no answer")

    replicas = await cluster.replicate(content)

    assert set(replicas.node_ids) == cluster.holders(content) == {second, third}
    # It is not asked again for now.
    assert first not in cluster.homes(content)


async def test_peers_take_the_place_of_an_own_disk_that_fails(cluster: Cluster) -> None:
    content = content_with_homes(cluster, own_first=True)
    _, second, third, _ = cluster.homes(content)
    # A file where the blobs' folder has to be: no store works on it.
    blobs = cluster.own.folder / "blobs"
    blobs.rmdir()
    blobs.write_text("")

    replicas = await cluster.replicate(content)

    assert set(replicas.node_ids) == {second, third}


async def test_fewer_copies_are_enough_down_to_the_quorum(cluster: Cluster) -> None:
    content = content_with_homes(cluster, own_first=True)
    cluster.shape(copies=3, quorum=1)
    for peer in PEERS:
        cluster.peers.failures[peer.node_id] = PeerError("PUT: no answer")

    replicas = await cluster.replicate(content)

    assert replicas.node_ids == (OWN.node_id,)
    assert set(cluster.peers.asked) == {peer.node_id for peer in PEERS}


async def test_below_the_quorum_an_upload_is_refused_and_its_copy_is_left_for_others(
    cluster: Cluster,
) -> None:
    cluster.shape(copies=2, quorum=2)
    for peer in PEERS:
        cluster.peers.failures[peer.node_id] = PeerError("PUT: no answer")

    with pytest.raises(BelowQuorum):
        await cluster.replicate(CONTENT)

    # Somebody else's upload of the same content may have found it there and been acknowledged.
    assert cluster.holders(CONTENT) == {OWN.node_id}


@pytest.mark.parametrize(
    ("failure", "expected"),
    [
        (StoreFull("The disk is full."), StoreFull),
        (StoreFailed("The disk failed."), StoreFailed),
        (PeerError("PUT: no answer"), StoreFailed),
    ],
)
async def test_the_answer_says_why_nobody_could_keep_the_file(
    cluster: Cluster, failure: NodeError | PeerError, expected: type[NodeError]
) -> None:
    cluster.replicator.own_failure = StoreFailed("The disk failed.")
    for peer in PEERS:
        cluster.peers.failures[peer.node_id] = failure

    with pytest.raises(expected):
        await cluster.replicate(CONTENT)


async def test_the_quorum_is_checked_before_an_upload_begins(cluster: Cluster) -> None:
    cluster.replicator.check_quorum()

    for peer in PEERS:
        cluster.view.suspect(peer.node_id)
    cluster.replicator.check_quorum()
    cluster.replicator.own_failure = StoreFailed("The disk failed.")
    with pytest.raises(StoreFailed):
        cluster.replicator.check_quorum()
    cluster.replicator.own_failure = StoreFull("The disk is full.")
    with pytest.raises(StoreFull):
        cluster.replicator.check_quorum()

    cluster.replicator.own_failure = None
    cluster.shape(copies=2, quorum=2)
    with pytest.raises(BelowQuorum):
        cluster.replicator.check_quorum()


async def test_a_collision_takes_back_the_copies_that_were_just_made(cluster: Cluster) -> None:
    first, second = colliding_pair()
    best, other = cluster.homes(second)[:2]
    await plant(cluster, other, first)

    with pytest.raises(HashCollision):
        await cluster.replicate(second)

    assert cluster.holders(second) == set()
    assert cluster.holders(first) == {other}
    assert best != other


async def test_a_collision_leaves_the_copies_that_were_there_before(cluster: Cluster) -> None:
    first, second = colliding_pair()
    best, other = cluster.homes(second)[:2]
    await plant(cluster, best, second)
    await plant(cluster, other, first)

    with pytest.raises(HashCollision):
        await cluster.replicate(second)

    assert cluster.holders(second) == {best}
    assert cluster.holders(first) == {other}


@pytest.mark.parametrize("own_first", [True, False])
async def test_what_the_master_refuses_is_taken_back(cluster: Cluster, *, own_first: bool) -> None:
    content = content_with_homes(cluster, own_first=own_first)
    replicas = await cluster.replicate(content)
    assert len(cluster.holders(content)) == 2

    await cluster.take_back(content, replicas)

    assert cluster.holders(content) == set()


@pytest.mark.parametrize("own_first", [True, False])
async def test_of_what_the_master_refuses_copies_that_were_there_before_stay(
    cluster: Cluster, *, own_first: bool
) -> None:
    content = content_with_homes(cluster, own_first=own_first)
    best, other = cluster.homes(content)[:2]
    # It may be of an upload that was acknowledged and waits in an outbox.
    await plant(cluster, best, content)
    replicas = await cluster.replicate(content)
    assert cluster.holders(content) == {best, other}

    await cluster.take_back(content, replicas)

    assert cluster.holders(content) == {best}


async def test_copies_are_taken_back_also_from_peers_that_left_the_line(cluster: Cluster) -> None:
    content = content_with_homes(cluster, own_first=False)
    replicas = await cluster.replicate(content)
    cluster.view.suspect(replicas.node_ids[0])

    await cluster.take_back(content, replicas)

    assert cluster.holders(content) == set()


async def test_a_peer_that_cannot_take_back_does_not_keep_the_others_from_it(
    cluster: Cluster,
) -> None:
    content = content_with_homes(cluster, own_first=False)
    replicas = await cluster.replicate(content)
    cluster.peers.failures[replicas.node_ids[0]] = PeerError("DELETE: no answer")

    await cluster.take_back(content, replicas)

    assert cluster.holders(content) == {replicas.node_ids[0]}


async def plant(cluster: Cluster, node_id: str, content: bytes) -> None:
    """Store a copy on one node, as an earlier upload did."""
    if node_id == OWN.node_id:
        cluster.own.put(content)
    else:
        cluster.peers.blobs[node_id, md5(content)] = bytes(bytearray(content))


async def test_what_waits_for_a_peer_that_fails_does_not_wait_for_it_again(
    cluster: Cluster,
) -> None:
    cluster.view.update(cluster_map(OWN, PEERS[0]))
    cluster.peers.failures[PEERS[0].node_id] = PeerError("it has stopped")
    cluster.peers.gate.clear()
    first = asyncio.create_task(cluster.replicate(b"first"))
    await eventually_there(lambda: cluster.peers.messages == 1)
    second = asyncio.create_task(cluster.replicate(b"second"))
    await asyncio.sleep(0)

    cluster.peers.gate.set()

    for replicas in await asyncio.gather(first, second):
        assert replicas.node_ids == (OWN.node_id,)
    assert cluster.peers.messages == 1
