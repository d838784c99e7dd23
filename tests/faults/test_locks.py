"""A database that somebody else holds for longer than anybody waits for it."""

import contextlib
import sqlite3
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import pytest
import requests

from tests.faults.audit import listed, outboxes
from tests.faults.conftest import StartMachines
from tests.faults.journal import md5
from tests.support.cluster import Server
from tests.support.waiting import eventually

pytestmark = pytest.mark.faults

WRITERS = 64
# Longer than the database's own time limit, so that writers are refused.
LOCKED_SECONDS = 12.0
LONG_LOCKED_SECONDS = 30.0
# What a writer waits for at most: the time limit of ten seconds, and as long again for a place
# while others have them all.
PATIENCE = 25.0


@dataclass
class Writing:
    """What many writers were answered."""

    answers: Counter[int] = field(default_factory=Counter)
    recorded: list[str] = field(default_factory=list)
    slowest: float = 0.0
    stopping: threading.Event = field(default_factory=threading.Event)

    def write(self, master: Server, writer: int) -> None:
        """Announce one file after another."""
        number = 0
        with requests.Session() as session:
            while not self.stopping.is_set():
                number += 1
                name = f"{writer}-{number}.bin"
                record = {"hash": md5(name.encode()), "name": name, "size": 1, "replicas": []}
                began = time.monotonic()
                answer = session.post(f"{master.url}/register", json=record, timeout=60)
                self.slowest = max(self.slowest, time.monotonic() - began)
                self.answers[answer.status_code] += 1
                if answer.ok:
                    self.recorded.append(name)


def test_p22_64_writers_and_a_database_lock(machines: StartMachines, *, is_long: bool) -> None:
    cluster = machines(node_count=2)
    node, _ = cluster.nodes
    books = cluster.folder_of(cluster.master) / "db.sqlite3"
    writing = Writing()
    with ThreadPoolExecutor(WRITERS) as threads, contextlib.closing(sqlite3.connect(books)) as lock:
        writers = [threads.submit(writing.write, cluster.master, n) for n in range(WRITERS)]
        try:
            eventually(lambda: len(writing.recorded) > WRITERS, 20, what="all are at work")
            lock.execute("BEGIN IMMEDIATE")
            locked_until = time.monotonic() + (LONG_LOCKED_SECONDS if is_long else LOCKED_SECONDS)
            uploaded = node.upload(b"while the database is locked", "uploaded.bin")
            assert uploaded.json()["registered"] is False
            assert node.retrieve(uploaded.json()["hash"]).ok
            assert len(listed(cluster)) >= WRITERS
            eventually(lambda: time.monotonic() > locked_until, 60)
            lock.rollback()
            before = len(writing.recorded)
            eventually(lambda: len(writing.recorded) > before + WRITERS, 20, what="all go on")
        finally:
            writing.stopping.set()
        for writer in writers:
            writer.result()

    assert set(writing.answers) == {200, 503}
    assert writing.slowest < PATIENCE
    eventually(lambda: outboxes(cluster) == 0, 20, what="the outboxes are empty")
    assert {*writing.recorded, "uploaded.bin"} <= listed(cluster)
    assert "Traceback" not in cluster.log
