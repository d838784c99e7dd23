"""A node's `/health` and `/metrics`, of a real node in this process, whose master is away."""

import asyncio
import errno
import os
import sqlite3
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from django.test import RequestFactory

from mini_dropbox import env
from node_app import local_blobstore, metrics, node, views
from node_app.blobwriter import BlobWriter
from node_app.dataplane.app import DataPlane
from node_app.direct_reads import DirectReads
from node_app.node import Node
from tests.support.cluster import free_ports
from tests.support.scraping import Scrape, shown
from tests.support.waiting import eventually_there

JSON = "application/json"


async def no_django(*_: object) -> None:
    raise AssertionError("the data plane passed a request on")


class RunningNode:
    """A started node, its views, and its metrics."""

    def __init__(self, folder: Path) -> None:
        settings = {
            "MINI_DROPBOX_ROLE": "node",
            "MINI_DROPBOX_DATA_DIR": str(folder),
            "MINI_DROPBOX_CLUSTER_SECRET": "the secret of the tests",
            "MINI_DROPBOX_MASTER_URL": f"http://127.0.0.1:{free_ports(1)[0]}",
            # Nothing but what a test asks for happens meanwhile.
            "MINI_DROPBOX_HEARTBEAT_SECONDS": "3600",
            "MINI_DROPBOX_COMPRESSION": "off",
        }
        self.node = Node(env.read(settings))
        self.requests = DataPlane(self.node, no_django).requests
        self.registry = metrics.registry(self.node, self.requests)
        views.serve_node(self.node, self.registry)

    async def get(self, view: Any, accept: str = JSON, method: str = "get") -> Any:
        request = getattr(RequestFactory(), method)("/", headers={"Accept": accept})
        return (await self.node.run(view.as_view(), request)).render()

    async def health(self, accept: str = JSON) -> tuple[int, Any]:
        """Return what is found out now, however short ago it was asked before."""
        self.node._check._ended = None
        answer = await self.get(views.HealthView, accept)
        return answer.status_code, answer.data

    async def assert_well(self) -> None:
        status, body = await self.health()
        assert (status, body["status"]) == (200, "ok")

    async def scrape(self) -> Scrape:
        return await self.node.run(shown, self.registry)


@pytest.fixture
async def running(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[RunningNode]:
    monkeypatch.setattr(node, "JOINING_SECONDS", 0.0)
    made = RunningNode(tmp_path)
    await made.node.start()
    await eventually_there(lambda: made.node._complaint)
    yield made
    await made.node.stop()
    views._served.clear()


def failing(number: int) -> Callable[..., Any]:
    def fail(*_: object, **__: object) -> None:
        raise OSError(number, os.strerror(number))

    return fail


@pytest.mark.parametrize("call", ["fsync", "open", "fstat"])
@pytest.mark.parametrize(
    ("number", "code", "sentence"),
    [
        (errno.EIO, "store_failed", "The disk failed: Input/output error."),
        (errno.EROFS, "store_failed", "The disk failed: Read-only file system."),
        (errno.ENOSPC, "disk_full", "The disk is full; free some space and try again."),
        (errno.EDQUOT, "disk_full", "The disk is full; free some space and try again."),
    ],
)
async def test_what_the_disk_refuses(
    running: RunningNode,
    *,
    monkeypatch: pytest.MonkeyPatch,
    call: str,
    number: int,
    code: str,
    sentence: str,
) -> None:
    with monkeypatch.context() as patched:
        patched.setattr(os, call, failing(number))
        status, body = await running.health()
        _, text = await running.health("*/*")
    assert (status, body) == (503, {"detail": sentence, "code": code})
    assert text == sentence
    await running.assert_well()


async def test_a_write_that_is_cut_off(
    running: RunningNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patched:
        patched.setattr("node_app.blobwriter.write_fully", lambda *_: None)
        status, body = await running.health()
    assert (status, body["code"]) == (503, "store_failed")
    await running.assert_well()


async def test_a_disk_that_takes_what_it_does_not_give_back(
    running: RunningNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patched:
        for name in ("preadv", "pread"):
            patched.setattr(os, name, failing(errno.EIO))
        status, body = await running.health()
    assert (status, body["code"]) == (503, "store_failed")
    with monkeypatch.context() as patched:
        patched.setattr(DirectReads, "read_at", lambda *_: b"prob")
        status, body = await running.health()
    assert (status, body["code"]) == (503, "store_failed")
    assert "does not give back" in body["detail"]
    await running.assert_well()


async def test_a_disk_with_less_room_than_the_nodes_own_records_need(
    running: RunningNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patched:
        free = local_blobstore.RESERVED_BYTES - 1
        usage = SimpleNamespace(total=2**40, free=free)
        patched.setattr(local_blobstore.shutil, "disk_usage", lambda _: usage)
        status, body = await running.health()
    assert (status, body["code"]) == (503, "disk_full")
    await running.assert_well()


async def test_a_database_that_cannot_be_written(running: RunningNode) -> None:
    database = running.node._database
    database._writer.execute("PRAGMA query_only = 1")
    status, body = await running.health()
    database._writer.execute("PRAGMA query_only = 0")
    assert (status, body["code"]) == (503, "store_failed")
    assert body["detail"].startswith("The node's database cannot be written")
    await running.assert_well()


async def test_a_database_that_cannot_be_read(
    running: RunningNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise sqlite3.OperationalError("disk I/O error")

    with monkeypatch.context() as patched:
        patched.setattr(running.node._database, "read", fail)
        status, body = await running.health()
        seen = await running.scrape()
    assert (status, body["code"]) == (503, "store_failed")
    assert "cannot be read" in body["detail"]
    # What the database does not know is shown all the same.
    assert seen.get("unreadable_metrics") == 3
    assert seen.has("node_free_bytes")
    await running.assert_well()


async def test_many_who_ask_cost_one_probe(
    running: RunningNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    probes: list[BlobWriter] = []
    really = BlobWriter.make_durable
    monkeypatch.setattr(
        BlobWriter, "make_durable", lambda writer: probes.append(writer) or really(writer)
    )
    monkeypatch.setattr("mini_dropbox.shared_check.monotonic", lambda: 1000.0)
    running.node._check._ended = None
    answers = await asyncio.gather(*(running.get(views.HealthView) for _ in range(20)))
    assert {answer.status_code for answer in answers} == {200}
    assert len(probes) == 1


async def test_a_clock_that_jumps_makes_no_heartbeat_old_or_yet_to_come(
    running: RunningNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = time.time()
    for jump in (-2, 2):
        monkeypatch.setattr(time, "time", lambda jump=jump: now + jump * 86_400)
        assert 0 <= (await running.scrape()).get("node_heartbeat_age_seconds") < 60


async def test_the_heartbeat_finds_out_what_keeps_the_node_from_storing(
    running: RunningNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", failing(errno.EIO))
        assert not (await running.node.run(running.node._heartbeat)).writable
    seen = await running.scrape()
    assert seen.has("node_writable")
    assert seen.get("node_writable") == 0
    assert (await running.node.run(running.node._heartbeat)).writable
    assert (await running.scrape()).get("node_writable") == 1


async def test_contents_outbox_and_uploads_are_shown(running: RunningNode) -> None:
    own = running.node
    before = await running.scrape()
    with own.store.writer() as writer, own.upload_in_flight():
        writer.write(b"a blob of twenty-three.")
        assert (await running.scrape()).get("node_uploads_in_flight") == 1
        stored = await own.store_upload(writer, name="a.txt", content_type="text/plain")
    with own.store.writer() as writer:
        writer.write(b"a blob of twenty-three.")
        again = await own.store_upload(writer, name="b.txt", content_type="text/plain")
    upload = await own.run(own.uploads.create, length=5)

    seen = await running.scrape()

    assert (stored.registered, again.deduplicated) == (False, True)
    assert before.get("node_blobs") == 0
    assert seen.get("node_blobs") == 1
    assert seen.get("node_content_bytes") == seen.get("node_stored_bytes") == 23
    assert 0 < seen.get("node_free_bytes") < seen.get("node_capacity_bytes")
    assert seen.get("node_stored_uploads_total") == 2
    assert seen.get("node_deduplicated_uploads_total") == 1
    assert seen.get("node_uploads_in_flight") == 0
    assert seen.get("node_resumable_uploads") == 1
    assert seen.get("node_outbox_registrations") == 2
    assert seen.get("node_refused_registrations") == 0
    await own.run(own.uploads.remove, upload.id)
    assert (await running.scrape()).get("node_resumable_uploads") == 0


async def test_small_contents_are_shown_until_they_are_durable_files(running: RunningNode) -> None:
    journal = running.node.journal
    journal.written([journal.entry("0" * 32, b"four"), journal.entry("1" * 32, b"three")])
    seen = await running.scrape()
    assert (seen.get("node_journal_entries"), seen.get("node_journal_bytes")) == (2, 9)
    await running.node.run(journal.settle)
    assert (await running.scrape()).get("node_journal_entries") == 0


async def test_the_page_takes_only_reads(running: RunningNode) -> None:
    for method in ("post", "put", "delete"):
        answer = await running.get(views.MetricsView, method=method)
        assert (answer.status_code, answer.data["code"]) == (405, "method_not_allowed")
        assert {"GET", "HEAD"} <= set(answer["Allow"].split(", "))


async def test_a_scrub_is_shown(running: RunningNode) -> None:
    seen = await running.scrape()

    assert seen.get("node_scrub_running") == 0
    assert seen.get("node_scrub_round_bad") == 0
    assert not seen.has("node_oldest_verification_age_seconds")
