"""The master's database is lost, or an older one takes its place: nothing acknowledged is lost."""

import json
import secrets
import shutil
import sqlite3
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Self

import pytest

from tests.conftest import StartCluster
from tests.support.blob_backends import md5, sha256
from tests.support.cluster import Cluster
from tests.support.waiting import eventually

pytestmark = pytest.mark.faults

WRITERS = 8


def command(cluster: Cluster, *arguments: str | Path) -> str:
    """Run a management command on the cluster's data to its end, and return what it said."""
    before = len(cluster.log)
    process = cluster.manage(*map(str, arguments), "--data-dir", str(cluster.data_dir))
    assert process.wait(60) == 0, cluster.log[before:]
    return cluster.log[before:]


def restart(cluster: Cluster) -> None:
    """Start a stopped cluster again on its data."""
    cluster.log_path.rename(cluster.log_path.with_name(f"log-{time.monotonic_ns()}.txt"))
    cluster.start()
    cluster.wait_until_ready()


def listed(cluster: Cluster) -> dict[str, str]:
    return {record["name"]: record["hash"] for record in cluster.master.get("/list").json()}


def check_readable(cluster: Cluster, files: dict[str, bytes]) -> None:
    """Read each file through each node, found under its name in the list."""
    found = listed(cluster)
    for name, content in files.items():
        for node in cluster.nodes:
            assert node.retrieve(found[name]).content == content


class Writers:
    """Upload small files from several threads until the context is left."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self._stopping = threading.Event()
        self._pool = ThreadPoolExecutor(WRITERS)
        self.acknowledged: dict[str, bytes] = {}

    def __enter__(self) -> Self:
        self._writing = [self._pool.submit(self._write, number) for number in range(WRITERS)]
        return self

    def __exit__(self, *_: object) -> None:
        self._stopping.set()
        for writing in self._writing:
            writing.result()
        self._pool.shutdown()

    def _write(self, number: int) -> None:
        node = self._cluster.nodes[number % len(self._cluster.nodes)]
        count = 0
        while not self._stopping.is_set():
            name, content = f"writer {number} file {count}.bin", secrets.token_bytes(1500)
            if node.upload(content, name).json()["registered"]:
                self.acknowledged[name] = content
            count += 1


def test_p23_a_backup_under_load_has_every_file_that_was_acknowledged_before_it_began(
    start_cluster: StartCluster, tmp_path: Path
) -> None:
    cluster = start_cluster()
    path = tmp_path / "books.zip"
    with Writers(cluster) as writers:
        eventually(lambda: len(writers.acknowledged) > 100, 60)
        before = dict(writers.acknowledged)
        command(cluster, "backup", path)
    later = dict(writers.acknowledged)
    assert len(later) > len(before), "the writers went on meanwhile"
    refused = cluster.manage("restore", str(path), "--data-dir", str(cluster.data_dir))
    assert refused.wait(30) != 0
    assert "is in use by another" in cluster.log
    cluster.stop()

    # As a new machine would have it: the books of the backup, and nothing since.
    alone = tmp_path / "alone"
    process = cluster.manage("restore", str(path), "--data-dir", str(alone))
    assert process.wait(30) == 0
    with closing(sqlite3.connect(alone / "master" / "db.sqlite3")) as books:
        names = {name for (name,) in books.execute("SELECT name FROM master_app_file")}
    assert before.keys() <= names

    command(cluster, "restore", path)
    restart(cluster)
    # What came after the backup is adopted by the start alone.
    eventually(lambda: listed(cluster).keys() >= later.keys(), 40, what="newer files are adopted")
    check_readable(cluster, dict(list(later.items())[:50]))


def test_p23_the_books_are_made_anew_from_the_nodes_after_the_database_is_lost(
    start_cluster: StartCluster,
) -> None:
    cluster = start_cluster()
    files = {f"näme {number}.txt": b"content %d" % number for number in range(30)}
    for number, (name, content) in enumerate(files.items()):
        assert cluster.nodes[number % 2].upload(content, name).json()["registered"]
    # One content under several names, and one that is large.
    files |= {"other name.txt": b"content 0", "third name.txt": b"content 0"}
    files["large.bin"] = secrets.token_bytes(3_000_000)
    for name in ("other name.txt", "third name.txt", "large.bin"):
        assert cluster.nodes[0].upload(files[name], name).json()["registered"]
    before = {
        (record["name"], record["hash"], record["sha256"], record["content_type"])
        for record in cluster.master.get("/list").json()
    }
    cluster.stop()
    for path in (cluster.data_dir / "master").glob("db.sqlite3*"):
        path.unlink()

    restart(cluster)
    first = command(cluster, "rebuild_metadata")
    again = command(cluster, "rebuild_metadata")

    assert "Missing: 0 blobs" in first
    assert "Adopted from 2 nodes: 0 blobs (0 bytes), 0 files, 0 copies." in again
    assert {
        (record["name"], record["hash"], record["sha256"], record["content_type"])
        for record in cluster.master.get("/list").json()
    } == before
    check_readable(cluster, files)
    for record in cluster.master.get("/list").json():
        assert len(record["replicas"]) == 2
    assert cluster.nodes[0].upload(b"and the cluster goes on").json()["registered"] is True


def test_p23_an_older_database_takes_up_what_is_newer_and_says_what_has_vanished(
    start_cluster: StartCluster, tmp_path: Path
) -> None:
    cluster = start_cluster()
    path = tmp_path / "books.zip"
    for name in ("old.txt", "vanishes.txt"):
        assert cluster.nodes[0].upload(name.encode(), name).json()["registered"]
    command(cluster, "backup", path)
    newer = {f"newer {number}.txt": b"newer %d" % number for number in range(5)}
    for name, content in newer.items():
        assert cluster.nodes[1].upload(content, name).json()["registered"]
    assert cluster.nodes[0].upload(b"old.txt", "another name.txt").json()["registered"]
    cluster.stop()
    for copy in cluster.data_dir.glob(f"node_*/blobs/*/*/{md5(b'vanishes.txt')}*"):
        copy.unlink()
    command(cluster, "restore", path)

    restart(cluster)
    expected = {"old.txt", "vanishes.txt", "another name.txt", *newer}
    eventually(lambda: set(listed(cluster)) == expected, 30, what="newer files are adopted")
    eventually(lambda: f"No node in reach has {md5(b'vanishes.txt')}" in cluster.log, 20)
    said = command(cluster, "rebuild_metadata", "--missing", tmp_path / "missing.txt")

    assert "Missing: 1 blobs" in said
    (missing,) = map(json.loads, (tmp_path / "missing.txt").read_text().splitlines())
    assert (missing["hash"], missing["name"]) == (md5(b"vanishes.txt"), "vanishes.txt")
    check_readable(cluster, {"old.txt": b"old.txt", "another name.txt": b"old.txt", **newer})
    record = cluster.master.get(f"/get?hash={missing['hash']}").json()
    assert record["replicas"] == []
    gone = cluster.nodes[0].retrieve(missing["hash"])
    assert gone.status_code in {404, 503}


def test_p23_metadata_is_rebuilt_without_a_running_master(
    start_cluster: StartCluster, tmp_path: Path
) -> None:
    cluster = start_cluster()
    assert cluster.nodes[0].upload(b"content", "a.txt").json()["registered"]
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    shutil.copy(cluster.data_dir / "cluster_secret", elsewhere)

    urls = [option for node in cluster.nodes for option in ("--node", node.url)]
    process = cluster.manage("rebuild_metadata", *urls, "--data-dir", str(elsewhere))

    assert process.wait(60) == 0, cluster.log
    assert "Adopted from 2 nodes: 1 blobs (7 bytes), 1 files, 2 copies." in cluster.log
    database = elsewhere / "master" / "db.sqlite3"
    with closing(sqlite3.connect(database)) as books:
        sql = "SELECT name, sha256 FROM master_app_file JOIN master_app_blob b ON b.id = blob_id"
        assert books.execute(sql).fetchall() == [("a.txt", sha256(b"content"))]
