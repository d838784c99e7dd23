"""What becomes of a request to a peer that has stopped, or whose body ends in an error."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from mini_dropbox.signing import Signer
from mini_dropbox.wire import NodeEntry
from node_app import peer_client
from node_app.blobwriter import Digests
from node_app.errors import PeerError, PeerSilent
from node_app.http_client import new_session
from node_app.peer_client import PeerClient
from node_app.replica_batch import MAX_MESSAGE_BYTES, ReplicaHead
from tests.support.blob_backends import md5, sha256

# More than any system keeps for a peer that reads nothing.
LARGE = bytes(4 * MAX_MESSAGE_BYTES)


@pytest.fixture
async def stopped_peer() -> AsyncIterator[NodeEntry]:
    """Return a peer that takes connections and reads nothing."""
    connections = []

    def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.transport.pause_reading()  # type: ignore[attr-defined]
        connections.append(writer)

    server = await asyncio.start_server(accept, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    yield NodeEntry("8002", f"http://127.0.0.1:{port}", "healthy", 1.0, writable=True)
    server.close()
    for writer in connections:
        writer.transport.abort()
    await server.wait_closed()


@pytest.fixture
async def client(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[PeerClient]:
    monkeypatch.setattr(peer_client, "PUSH_QUIET_SECONDS", 0.2)
    monkeypatch.setattr(peer_client, "SLOWEST_DISK_BYTES", 100 * len(LARGE))
    async with new_session() as session:
        yield PeerClient(session, Signer("secret", "8001"))


async def pieces() -> AsyncIterator[bytes]:
    for start in range(0, len(LARGE), 1_000_000):
        yield LARGE[start : start + 1_000_000]


async def test_many_small_replicas_do_not_wait_for_it(
    client: PeerClient, stopped_peer: NodeEntry
) -> None:
    head = ReplicaHead(md5(LARGE), len(LARGE), "name", "")
    async with asyncio.timeout(20):
        with pytest.raises(PeerSilent):
            await client.put_all(stopped_peer, [(head, LARGE)])


async def test_a_large_one_does_not_wait_for_it(
    client: PeerClient, stopped_peer: NodeEntry
) -> None:
    digests = Digests(md5(LARGE), sha256(LARGE), len(LARGE))
    async with asyncio.timeout(20):
        with pytest.raises(PeerSilent):
            await client.put(stopped_peer, digests, pieces(), name="name", content_type="")


@pytest.mark.parametrize("size", [None, len(LARGE)])
async def test_one_sent_ahead_does_not_wait_for_it(
    client: PeerClient, stopped_peer: NodeEntry, size: int | None
) -> None:
    async with asyncio.timeout(20):
        with pytest.raises(PeerSilent):
            await client.send_ahead(stopped_peer, pieces(), size)


async def test_a_body_that_fails_on_the_way_ends_the_request(client: PeerClient) -> None:
    ends = asyncio.Event()

    async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        ends.set()
        writer.close()

    async def broken() -> AsyncIterator[bytes]:
        yield b"some of it"
        raise PeerError("this is not what was announced")

    async with await asyncio.start_server(accept, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        peer = NodeEntry("8002", f"http://127.0.0.1:{port}", "healthy", 1.0, writable=True)
        async with asyncio.timeout(20):
            with pytest.raises(PeerError):
                await client.send_ahead(peer, broken(), 1000)
            await ends.wait()
