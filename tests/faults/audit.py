"""What has to hold once every fault is over, checked against disks, lists and answers."""

import hashlib
import threading
from collections.abc import Callable, Collection, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

import requests
import zstandard

from tests.faults.journal import Acknowledged, Journal
from tests.faults.load import read
from tests.support.cluster import Cluster, Server
from tests.support.waiting import eventually

T = TypeVar("T")

# Within this time after the last fault everything has to be as if there had been none.
RESTORED_SECONDS = 30.0
WORKERS = 8
COMPRESSED_SUFFIX = ".zst"


def audit(
    cluster: Cluster, journal: Journal, *, copies: int = 2, seconds: float = RESTORED_SECONDS
) -> None:
    """Raise AssertionError for the first promise to anybody in `journal` that does not hold.

    `copies` are wanted of each blob after `seconds`, whatever its uploader was told.
    """
    entries = journal.entries
    assert entries, "nothing was acknowledged"
    eventually(cluster.is_whole, RESTORED_SECONDS, what="every node healthy in every view")
    eventually(lambda: outboxes(cluster) == 0, RESTORED_SECONDS, what="empty outboxes")
    assert unreadable(cluster.nodes, entries) == [], "acknowledged files do not read back"
    names = listed(cluster)
    assert {entry.name for entry in entries} - names == set(), "acknowledged and not listed"
    assert names - journal.names_sent == set(), "listed and never sent"
    assert names & journal.names_deleted == set(), "deleted and listed"
    assert damaged_replicas(cluster) == [], "there are damaged replicas"
    eventually(
        lambda: not short_of_copies(cluster, entries, copies),
        seconds,
        what=f"{copies} replicas of each blob",
    )
    eventually(lambda: cluster.temporary_files() == [], what="temporary files collected")


def outboxes(cluster: Cluster) -> int:
    """Return how many uploads the master has still to be told of; -1 when a node cannot say."""
    waiting = [node.health().get("outbox") for node in cluster.nodes]
    return -1 if None in waiting else sum(waiting)


def listed(cluster: Cluster) -> set[str]:
    """Return every name that the master lists."""
    return {record["name"] for record in cluster.master.get("/list", timeout=60).json()}


def unreadable(nodes: Sequence[Server], entries: Sequence[Acknowledged]) -> list[str]:
    """Read every blob through every node; return what did not come back exact, and how."""

    def check(session: requests.Session, entry: Acknowledged) -> list[str]:
        outcomes = [(node, read(session, node, entry)) for node in nodes]
        return [
            f"{entry.hash} through {node.node_id}: {outcome}"
            for node, outcome in outcomes
            if outcome != "exact"
        ]

    return [finding for findings in _in_sessions(check, entries) for finding in findings]


def damaged_replicas(cluster: Cluster) -> list[str]:
    """Hash every blob on every disk; return those that are not what their name says."""
    paths = [path for path in cluster.data_dir.glob("node_*/blobs/*/*/*") if path.is_file()]
    with ThreadPoolExecutor(WORKERS) as threads:
        found = threads.map(_digest, paths)
    return [
        str(path)
        for path, digest in zip(paths, found, strict=True)
        if digest not in {None, path.name.removesuffix(COMPRESSED_SUFFIX)}
    ]


def short_of_copies(
    cluster: Cluster, entries: Collection[Acknowledged], copies: int
) -> list[Acknowledged]:
    """Return the blobs with fewer replicas on disk than are wanted."""
    return [entry for entry in entries if count_copies(cluster, entry) < copies]


def count_copies(cluster: Cluster, entry: Acknowledged) -> int:
    """Return how many nodes have a blob on their disks, compressed or not."""
    name = f"blobs/{entry.hash[:2]}/{entry.hash[2:4]}/{entry.hash}"
    plain = [cluster.data_dir / f"node_{node.node_id}" / name for node in cluster.nodes]
    # In this order, because compression makes the one before it removes the other.
    return sum(path.exists() or path.with_name(path.name + ".zst").exists() for path in plain)


def _digest(path: Path) -> str | None:
    """Return the MD5 of a replica's content; None when it has been compressed meanwhile."""
    digest = hashlib.md5(usedforsecurity=False)
    try:
        with path.open("rb") as file:
            source = file
            if path.name.endswith(COMPRESSED_SUFFIX):
                decompressor = zstandard.ZstdDecompressor()
                source = decompressor.stream_reader(file, read_across_frames=True)
            while piece := source.read(1_000_000):
                digest.update(piece)
    except FileNotFoundError:
        return None
    return digest.hexdigest()


def _in_sessions(
    function: Callable[[requests.Session, Acknowledged], T], entries: Sequence[Acknowledged]
) -> list[T]:
    """Call a function for each entry in threads, each of which keeps its connections."""
    local = threading.local()
    sessions: list[requests.Session] = []

    def call(entry: Acknowledged) -> T:
        if not hasattr(local, "session"):
            local.session = requests.Session()
            sessions.append(local.session)
        return function(local.session, entry)

    try:
        with ThreadPoolExecutor(WORKERS) as threads:
            return list(threads.map(call, entries))
    finally:
        for session in sessions:
            session.close()
