"""What peers receive while a client still sends, and what becomes of it when something fails."""

import asyncio
import logging
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

from mini_dropbox.wire import NodeEntry
from node_app.blobwriter import BlobWriter, Digests
from node_app.cluster_view import ClusterView
from node_app.early_copies import MINIMUM_BYTES, EarlyCopies
from node_app.errors import PeerError, PeerSilent
from node_app.growth import Growth
from node_app.peer_client import Receipt
from node_app.receipts import Receipts
from node_app.replication import Replicator
from tests.support.blob_backends import LocalBackend, md5, sha256
from tests.support.nodes import cluster_map, node_entry
from tests.support.waiting import eventually_there

OWN, PEER, THIRD = (node_entry(number) for number in (8001, 8002, 8003))
CONTENT = bytes(range(256)) * (MINIMUM_BYTES // 128)
NAMED = {"name": "name", "content_type": "text/plain"}


def digests_of(content: bytes) -> Digests:
    return Digests(md5(content), sha256(content), len(content))


class FakePeer:
    """A peer that gives receipts; each step can be made to fail."""

    def __init__(self) -> None:
        self.received = b""
        self.calls: list[str] = []
        self.failing: set[str] = set()
        self.claims: Digests | None = None
        self.silent: set[str] = set()

    async def send_ahead(
        self, peer: NodeEntry, body: AsyncIterator[bytes], size: int | None
    ) -> Receipt:
        self._called("send_ahead")
        async for piece in body:
            self.received += piece
        received = self.claims or digests_of(self.received)
        return Receipt("receipt", received.sha256, received.size)

    async def redeem(
        self, peer: NodeEntry, receipt: Receipt, digests: Digests, **named: str
    ) -> bool:
        self._called("redeem")
        return False

    async def put(
        self, peer: NodeEntry, digests: Digests, body: AsyncIterator[bytes], **named: str
    ) -> bool:
        self._called("put")
        self.received = b"".join([piece async for piece in body])
        return False

    def _called(self, call: str) -> None:
        self.calls.append(call)
        if call in self.silent:
            raise PeerSilent(f"{call} was not answered")
        if call in self.failing:
            raise PeerError(f"{call} failed")


@pytest.fixture
def backend(tmp_path: Path) -> Iterator[LocalBackend]:
    opened = LocalBackend(tmp_path / "node_8001")
    yield opened
    opened.close()


@pytest.fixture
def peer() -> FakePeer:
    return FakePeer()


@pytest.fixture
def view(tmp_path: Path) -> ClusterView:
    view = ClusterView(tmp_path / "cluster_map.json", OWN)
    view.update(cluster_map(OWN, PEER))
    return view


@pytest.fixture
def replicator(backend: LocalBackend, peer: FakePeer, view: ClusterView) -> Replicator:
    client: Any = peer
    return Replicator(backend.store, client, view, asyncio.to_thread)


async def upload(replicator: Replicator, writer: BlobWriter, content: bytes = CONTENT) -> None:
    growth = Growth()
    async with replicator.send_ahead(writer, growth, len(content)) as early:
        for start in range(0, len(content), 300_000):
            writer.write(content[start : start + 300_000])
            growth.advance(writer.size)
            await asyncio.sleep(0)
        growth.finish(writer.size)
        replicas = await replicator.replicate(writer, **NAMED, early=early)
    assert replicas.node_ids == ("8001", "8002")


async def test_a_peer_has_all_of_it_before_it_is_named(
    replicator: Replicator, backend: LocalBackend, peer: FakePeer
) -> None:
    with backend.store.writer() as writer:
        await upload(replicator, writer)

    assert peer.received == CONTENT
    assert peer.calls == ["send_ahead", "redeem"]


async def test_it_begins_while_the_client_still_sends(backend: LocalBackend) -> None:
    peer, growth = FakePeer(), Growth()
    client: Any = peer
    with backend.store.writer() as writer:
        async with EarlyCopies(client, asyncio.to_thread, writer, growth, [PEER]):
            writer.write(CONTENT)
            growth.advance(writer.size)
            await eventually_there(lambda: peer.received == CONTENT)


@pytest.mark.parametrize("wrong_by", [-200_000, 200_000])
async def test_one_of_another_length_than_was_told_is_pushed_as_any_other(
    replicator: Replicator, backend: LocalBackend, peer: FakePeer, wrong_by: int
) -> None:
    growth = Growth()
    growth.total = len(CONTENT) + wrong_by
    with backend.store.writer() as writer:
        async with replicator.send_ahead(writer, growth, len(CONTENT)) as early:
            writer.write(CONTENT)
            growth.finish(writer.size)
            replicas = await replicator.replicate(writer, **NAMED, early=early)

    assert replicas.node_ids == ("8001", "8002")
    assert peer.calls == ["send_ahead", "put"]
    assert peer.received == CONTENT


@pytest.mark.parametrize("failing", ["send_ahead", "redeem"])
async def test_what_fails_on_the_way_is_pushed_as_any_other(
    replicator: Replicator, backend: LocalBackend, peer: FakePeer, failing: str
) -> None:
    peer.failing.add(failing)

    with backend.store.writer() as writer:
        await upload(replicator, writer)

    assert peer.received == CONTENT
    assert peer.calls[-1] == "put"


@pytest.mark.parametrize("call", ["send_ahead", "redeem"])
async def test_a_peer_that_is_silent_is_not_asked_again(
    replicator: Replicator, backend: LocalBackend, peer: FakePeer, view: ClusterView, call: str
) -> None:
    peer.silent.add(call)
    growth = Growth()

    with backend.store.writer() as writer:
        async with replicator.send_ahead(writer, growth, len(CONTENT)) as early:
            writer.write(CONTENT)
            growth.finish(writer.size)
            replicas = await replicator.replicate(writer, **NAMED, early=early)

    assert replicas.node_ids == ("8001",)
    assert peer.calls[-1] == call
    assert view.home_count(own_is_writable=True) == 1


async def test_a_peer_that_received_something_else_is_sent_all_of_it_again(
    replicator: Replicator, backend: LocalBackend, peer: FakePeer
) -> None:
    peer.claims = digests_of(b"something else")

    with backend.store.writer() as writer:
        await upload(replicator, writer)

    assert peer.calls == ["send_ahead", "put"]


async def test_a_small_upload_is_not_sent_ahead(
    replicator: Replicator, backend: LocalBackend, peer: FakePeer
) -> None:
    with backend.store.writer() as writer:
        await upload(replicator, writer, CONTENT[:MINIMUM_BYTES])

    assert peer.calls == ["put"]


async def test_an_upload_that_fails_ends_what_is_under_way(
    replicator: Replicator, backend: LocalBackend, peer: FakePeer
) -> None:
    growth = Growth()
    with backend.store.writer() as writer:
        async with replicator.send_ahead(writer, growth, len(CONTENT)):
            writer.write(CONTENT)
            growth.advance(writer.size)
            await eventually_there(lambda: peer.received)

    assert peer.calls == ["send_ahead"]
    assert not [task for task in asyncio.all_tasks() if task.get_name() == "early copy"]


async def test_among_more_nodes_than_copies_only_a_known_hash_tells_who_will_hold_it(
    replicator: Replicator, backend: LocalBackend, peer: FakePeer, view: ClusterView
) -> None:
    view.update(cluster_map(OWN, PEER, THIRD))
    content_hash = md5(CONTENT)
    homes = view.homes(content_hash, own_is_writable=True)[:2]
    with backend.store.writer() as writer:
        writer.write(CONTENT)
        growth = Growth()
        growth.finish(writer.size)
        async with replicator.send_ahead(writer, growth, len(CONTENT)) as unknown:
            assert await unknown.receipt(PEER) is None
        assert peer.calls == []
        async with replicator.send_ahead(writer, growth, len(CONTENT), content_hash) as known:
            receipts = [await known.receipt(node) for node in (PEER, THIRD)]

    held_by = [node in homes for node in (PEER, THIRD)]
    assert [receipt is not None for receipt in receipts] == held_by


class TestReceipts:
    async def test_a_content_is_given_back_once(self, backend: LocalBackend) -> None:
        receipts = Receipts()
        with backend.store.writer() as writer:
            receipt = receipts.give(writer)

            assert receipts.take(receipt) is writer
            assert receipts.take(receipt) is None

    async def test_what_nobody_comes_for_is_removed(
        self, backend: LocalBackend, caplog: pytest.LogCaptureFixture
    ) -> None:
        caplog.set_level(logging.INFO)
        receipts = Receipts(seconds=0)
        writer = backend.store.writer()
        writer.write(CONTENT)
        assert len(backend.temporary_files()) == 1

        receipt = receipts.give(writer)

        await eventually_there(lambda: not backend.temporary_files())
        assert receipts.take(receipt) is None
        assert "never named" in caplog.text

    async def test_the_end_removes_all(self, backend: LocalBackend) -> None:
        receipts = Receipts()
        for _ in range(3):
            writer = backend.store.writer()
            writer.write(CONTENT)
            receipts.give(writer)

        receipts.close()

        assert backend.temporary_files() == []


async def test_growth_is_awaited_until_there_is_more_or_no_more() -> None:
    growth = Growth()
    waiting = [asyncio.create_task(growth.beyond(offset)) for offset in (0, 5, 100)]
    await asyncio.sleep(0)

    growth.advance(5)
    assert await waiting[0] == 5
    growth.advance(6)
    assert await waiting[1] == 6
    growth.finish(7)

    assert await waiting[2] == 7
