"""Disks that are full, that fail, or that have lost something: nobody is promised what is gone."""

import os
import random
import secrets
import shutil
from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path

import pytest
import requests

from tests.faults import disks
from tests.faults.audit import audit, damaged_replicas, listed, outboxes
from tests.faults.conftest import StartMachines
from tests.faults.disks import MIB
from tests.faults.journal import md5
from tests.faults.load import Load
from tests.faults.tracing import READS, SYNCS, failing, needs_strace
from tests.support.cluster import Cluster, Server
from tests.support.machines import Machines
from tests.support.waiting import eventually

pytestmark = pytest.mark.faults

KIB = 1024
# Through the journal, as a file from memory, through a temporary file, past the page cache.
SIZES = (1 * KIB, 40 * KIB, 300 * KIB, 3 * MIB)


def put(node: Server, content: bytes) -> requests.Response:
    return node.request("PUT", f"/blobs/{md5(content)}", data=content, timeout=30)


def stored_on(cluster: Machines, node: Server, content: bytes) -> bool:
    """Tell whether a node has anything under a content's final name."""
    return any(cluster.folder_of(node).glob(f"blobs/*/*/{md5(content)}*"))


def stores_everywhere(cluster: Cluster, node: Server) -> bool:
    """Tell whether what a node is sent now gets to the disks of all nodes."""
    answer = node.upload(secrets.token_bytes(KIB))
    return answer.ok and len(answer.json()["replicas"]) == len(cluster.nodes)


def assert_whole(cluster: Machines, contents: list[bytes]) -> None:
    """Check contents through every node, and every replica on every disk."""
    for node in cluster.nodes:
        assert [node.retrieve(md5(content)).content == content for content in contents] == [
            True
        ] * len(contents)
    assert damaged_replicas(cluster) == []
    eventually(lambda: cluster.temporary_files() == [], what="temporary files collected")


@disks.needs_root
@pytest.mark.parametrize("fill", [disks.filled, disks.without_inodes])
def test_p10_disk_or_inodes_full_on_one_node(
    machines: StartMachines,
    mounts: ExitStack,
    fill: Callable[[Path], AbstractContextManager[None]],
) -> None:
    cluster = machines(start=False, node_count=2)
    small, other = cluster.nodes
    folder = cluster.folder_of(small)
    mounts.enter_context(disks.tmpfs(folder, mebibytes=64, inodes=400))
    cluster.start()
    cluster.wait_until_ready()
    stored = [secrets.token_bytes(size) for size in SIZES]
    for content in stored:
        assert len(put(small, content).json()["replicas"]) == 2

    with fill(folder):
        for node in (other, small):
            for size in SIZES:
                content = secrets.token_bytes(size)
                answer = put(node, content)
                assert answer.status_code in {200, 507}, answer.text
                assert not stored_on(cluster, small, content)
                if answer.ok:
                    assert answer.json()["replicas"] == [other.node_id]
                    stored.append(content)
                else:
                    assert (node, answer.json()["code"]) == (small, "disk_full")
        assert_whole(cluster, stored)
        eventually(lambda: small.get("/health").status_code == 503, what="it says so")

    assert len(stored) >= 2 * len(SIZES)
    eventually(lambda: stores_everywhere(cluster, small), what="it takes uploads again")
    eventually(lambda: stores_everywhere(cluster, other), what="and replicas")
    assert_whole(cluster, stored)


@disks.needs_root
def test_p10_a_disk_that_fills_up_while_an_upload_comes_in(
    machines: StartMachines, mounts: ExitStack
) -> None:
    cluster = machines(start=False, node_count=2)
    small, other = cluster.nodes
    folder = cluster.folder_of(small)
    mounts.enter_context(disks.tmpfs(folder, mebibytes=64))
    cluster.start()
    cluster.wait_until_ready()
    content = secrets.token_bytes(40 * MIB)

    with disks.filled(folder, leaving=24 * MIB):
        refused = put(small, content)
        taken = put(other, content)

        assert (refused.status_code, refused.json()["code"]) == (507, "disk_full")
        assert taken.json()["replicas"] == [other.node_id]
        assert not stored_on(cluster, small, content)
        eventually(lambda: cluster.temporary_files() == [], what="temporary files collected")
        assert small.get("/health").ok
        assert small.retrieve(md5(content)).content == content

    eventually(lambda: stores_everywhere(cluster, small), what="it takes uploads again")
    eventually(lambda: stored_on(cluster, small, content), 40, what="its copy is made at last")
    assert_whole(cluster, [content])


def register(cluster: Cluster, name: str) -> requests.Response:
    record = {"hash": md5(name.encode()), "name": name, "size": 1, "replicas": []}
    return cluster.master.post("/register", json=record)


@disks.needs_root
def test_p11_disk_full_under_the_masters_database(
    machines: StartMachines, mounts: ExitStack
) -> None:
    cluster = machines(start=False, node_count=2)
    node, _ = cluster.nodes
    folder = cluster.folder_of(cluster.master)
    mounts.enter_context(disks.tmpfs(folder, mebibytes=32))
    cluster.start()
    cluster.wait_until_ready()
    recorded = []

    with disks.filled(folder):
        for number in range(5_000):
            # Until there is no room left in what the database's files have taken before.
            answer = register(cluster, f"{number}-{'x' * 200}.bin")
            if not answer.ok:
                break
            recorded.append(f"{number}-{'x' * 200}.bin")
        assert (answer.status_code, answer.json()["code"]) == (503, "database_unavailable")
        uploaded = node.upload(b"while the disk is full", "uploaded.bin")
        assert uploaded.ok
        assert node.retrieve(uploaded.json()["hash"]).ok
        assert set(recorded) <= listed(cluster)

    pid = cluster.worker(cluster.master).pid
    eventually(lambda: register(cluster, "afterwards.bin").ok, what="it records again")
    eventually(cluster.is_whole, 20, what="heartbeats are recorded again")
    eventually(lambda: outboxes(cluster) == 0, 20, what="the outboxes are empty")
    assert {*recorded, "uploaded.bin", "afterwards.bin"} <= listed(cluster)
    assert cluster.worker(cluster.master).pid == pid
    assert "Traceback" not in cluster.log


@needs_strace
@disks.needs_root
def test_p11_eio_under_the_masters_database(machines: StartMachines) -> None:
    cluster = machines(node_count=2)
    master, node = cluster.master, cluster.nodes[0]
    first = secrets.token_bytes(1000)
    assert put(node, first).json()["registered"]
    books = [cluster.folder_of(master) / f"db.sqlite3{end}" for end in ("", "-wal", "-shm")]
    pages = [
        "/",
        "/admin/",
        "/api/v1/files/",
        "/api/v1/repair/",
        "/health",
        f"/get?hash={md5(first)}",
    ]
    for calls in (("pread64",), ("pwrite64", "fsync", "fdatasync")):
        refused = 0
        with failing(cluster.worker(master), calls, *books):
            for _ in range(3):
                answers = [master.get(path) for path in pages]
                answers.append(register(cluster, f"{secrets.token_hex(8)}.bin"))
                assert {answer.status_code for answer in answers} <= {200, 302, 503}
                refused += sum(answer.status_code == 503 for answer in answers)
            uploaded = put(node, secrets.token_bytes(1000)).json()
        assert refused
        eventually(lambda: master.get("/health").ok, 20, what="it is well again, as it is")
        eventually(lambda: outboxes(cluster) == 0, 20, what="the outboxes are empty")
        assert master.get(f"/get?hash={uploaded['hash']}").ok
    eventually(cluster.is_whole, 20, what="heartbeats are recorded again")
    for path in pages:
        assert master.get(path).ok


@needs_strace
@disks.needs_root
class TestFailedSyncs:
    """What a disk could not be made to keep is not acknowledged."""

    @pytest.fixture
    def cluster(self, machines: StartMachines) -> Machines:
        return machines(node_count=2)

    def test_p12_eio_on_fsync_of_any_file(self, cluster: Machines) -> None:
        broken, other = cluster.nodes
        contents = [secrets.token_bytes(size) for size in SIZES]
        with failing(cluster.worker(broken), SYNCS):
            for content in contents:
                for node in (other, broken):
                    assert_not_promised(cluster, broken, content, put(node, content))
            eventually(lambda: broken.get("/health").status_code == 503, what="it says so")

        eventually(lambda: stores_everywhere(cluster, broken), 20, what="it stores again")
        assert_whole(cluster, contents)

    def test_p12_eio_on_fsync_of_a_folder(self, cluster: Machines) -> None:
        broken, other = cluster.nodes
        for size in SIZES[1:]:
            content = secrets.token_bytes(size)
            address = md5(content)
            folder = cluster.folder_of(broken) / "blobs" / address[:2] / address[2:4]
            with failing(cluster.worker(broken), SYNCS, folder):
                assert_not_promised(cluster, broken, content, put(broken, content))
                assert_not_promised(cluster, broken, content, put(other, content))
                # It suspects the broken one for a while, which other folders do not deserve.
                assert broken.get("/health").ok
            answer = put(broken, content)
            assert answer.json()["replicas"] == sorted([broken.node_id, other.node_id])
            assert_whole(cluster, [content])

    def test_p12_eio_on_fsync_of_the_nodes_database(self, cluster: Machines) -> None:
        broken, other = cluster.nodes
        log = cluster.folder_of(broken) / "node.sqlite3-wal"
        contents = [secrets.token_bytes(size) for size in SIZES]
        with failing(cluster.worker(broken), SYNCS, log):
            for content in contents:
                assert_not_promised(cluster, broken, content, put(broken, content))

        # Its own probe of the database has found out as well, and the next one sets it right.
        eventually(lambda: stores_everywhere(cluster, broken), 20, what="it stores again")
        for content in contents:
            answer = put(broken, content)
            assert answer.json()["replicas"] == sorted([broken.node_id, other.node_id])
        assert_whole(cluster, contents)


def assert_not_promised(
    cluster: Machines, broken: Server, content: bytes, answer: requests.Response
) -> None:
    """Check that a node neither promises a replica nor leaves one that others could believe in."""
    assert answer.status_code in {200, 503}, answer.text
    assert broken.node_id not in answer.json().get("replicas", [])
    assert not stored_on(cluster, broken, content)


@needs_strace
@disks.needs_root
@pytest.mark.parametrize("size", SIZES)
def test_p13_eio_on_read(machines: StartMachines, size: int) -> None:
    cluster = machines(node_count=2)
    broken, _ = cluster.nodes
    content = secrets.token_bytes(size)
    assert len(put(broken, content).json()["replicas"]) == 2
    (path,) = cluster.folder_of(broken).glob(f"blobs/*/*/{md5(content)}")
    # Neither the process nor the system has it in memory.
    cluster.machines[broken].kill()
    forget(path)
    cluster.machines[broken].start()
    eventually(cluster.is_whole, 20, what="it is back")

    with failing(cluster.worker(broken), READS, path):
        assert broken.retrieve(md5(content)).content == content
        part = broken.get(f"/retrieve?hash={md5(content)}", headers={"Range": "bytes=5-900"})
        assert (part.status_code, part.content) == (206, content[5:901])

    # A disk that takes writes and gives nothing back: the probe reads past the cache.
    with failing(cluster.worker(broken), ("preadv", "preadv2")):
        eventually(lambda: broken.get("/health").status_code == 503, what="the node says so")
        assert broken.retrieve(md5(content)).content == content
    eventually(lambda: broken.get("/health").status_code == 200, what="it is well again")


def forget(path: Path) -> None:
    """Drop a file from the system's cache."""
    descriptor = os.open(path, os.O_RDONLY)
    os.fsync(descriptor)
    os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
    os.close(descriptor)


@disks.needs_root
def test_p13_read_only_file_system(
    machines: StartMachines, mounts: ExitStack, tmp_path: Path
) -> None:
    cluster = machines(start=False, REPLICATION_FACTOR="3")
    broken, *others = cluster.nodes
    disk = mounts.enter_context(disks.ext4(tmp_path / "disk", cluster.folder_of(broken)))
    cluster.start()
    cluster.wait_until_ready()
    contents = [secrets.token_bytes(size) for size in SIZES]
    for content in contents:
        assert put(broken, content).ok

    disk.become_read_only()

    for node in cluster.nodes:
        for size in SIZES:
            content = secrets.token_bytes(size)
            answer = put(node, content)
            assert answer.status_code in {200, 503}
            assert node == broken or answer.ok
            assert not set(answer.json().get("replicas", [])) - {each.node_id for each in others}
            assert not stored_on(cluster, broken, content)
            contents += [content] if answer.ok else []
    eventually(lambda: broken.get("/health").status_code == 503, what="it says so")
    assert [broken.retrieve(md5(content)).content == content for content in contents] == [
        True
    ] * len(contents)

    cluster.machines[broken].kill()
    disk.mount_again()
    cluster.machines[broken].start()
    cluster.wait_until_ready()
    assert_whole(cluster, contents)


def test_p16_a_blob_file_is_deleted_and_its_bytes_are_uploaded_again(
    machines: StartMachines,
) -> None:
    cluster = machines(node_count=2)
    contents = [secrets.token_bytes(size) for size in SIZES]
    for content in contents:
        assert put(cluster.nodes[0], content).ok
        for path in cluster.blob_paths(md5(content)):
            path.unlink()

    for content in contents:
        answer = put(cluster.nodes[1], content).json()
        assert (len(answer["replicas"]), answer["deduplicated"]) == (2, False)

    assert_whole(cluster, contents)
    assert [len(cluster.blob_paths(md5(content))) for content in contents] == [2] * len(contents)


def test_p17_a_wiped_disk_is_filled_again_under_load(machines: StartMachines) -> None:
    cluster = machines(node_count=3, REPAIR_MB_PER_SECOND="5")
    master, wiped = cluster.master, cluster.nodes[0]
    with Load(cluster.nodes, seed=random.randrange(10_000), master=master) as load:
        load.wait_for(100)
        before = {entry.hash for entry in load.journal.entries if wiped.node_id in entry.replicas}
        cluster.machines[wiped].kill()
        shutil.rmtree(cluster.folder_of(wiped))
        cluster.machines[wiped].start()
        said = f"Node {wiped.node_id} has a new disk"
        eventually(lambda: said in cluster.log, 20, what="its old copies are forgotten")
        backlogs = [eventually(lambda: master.get("/api/v1/repair/").json()["backlog"], 20)]
        # The progress that an operator sees while clients go on.
        while backlogs[-1]:
            load.wait_for(1)
            backlogs.append(master.get("/api/v1/repair/").json()["backlog"])

    assert before
    assert len(set(backlogs)) > 2
    assert load.wrong == []
    assert set(load.journal.answers) <= {200, 503}
    audit(cluster, load.journal)
    refilled = {
        path.name.removesuffix(".zst") for path in cluster.folder_of(wiped).glob("blobs/*/*/*")
    }
    assert before & refilled
