"""A clock that jumps: what counts time must not believe it."""

import contextlib
import secrets
import sqlite3
import sys
import time
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from pathlib import Path

import pytest
import requests

from tests.faults.audit import damaged_replicas, listed
from tests.faults.conftest import StartMachines
from tests.faults.journal import md5
from tests.support.cluster import Server
from tests.support.machines import Machines
from tests.support.waiting import eventually

LIBRARIES = list(Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1"))

pytestmark = [
    pytest.mark.faults,
    pytest.mark.skipif(not LIBRARIES, reason="libfaketime is not installed"),
]

DAY = 24 * 3600
# From one to the next it jumps by two days.
CLOCKS = (2 * DAY, 0, -2 * DAY, 0)
CONTENT = secrets.token_bytes(300_000)
# Begins a server that looks for what has expired far more often than it usually does. The library
# leaves timers alone but for time.sleep, which it breaks.
SWEEP_OFTEN = """
import select, sys, time
time.sleep = lambda seconds: select.select([], [], [], seconds) and None
from node_app import expiry
expiry.SWEEP_SECONDS = 0.2
from gunicorn.app.wsgiapp import run
sys.argv = ["gunicorn", *sys.argv[1:]]
run()
"""


def use_clock(cluster: Machines, clock: Path) -> None:
    """Let all processes of a cluster read how wrong the time is from a file; timers stay right."""
    for machine in cluster.machines.values():
        _, _, _, *arguments = machine.command
        machine.command = [sys.executable, "-c", SWEEP_OFTEN, *arguments]
        machine.environment |= {
            "LD_PRELOAD": str(LIBRARIES[0]),
            "FAKETIME_TIMESTAMP_FILE": str(clock),
            "FAKETIME_CACHE_DURATION": "1",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
            "FAKETIME_DISABLE_SHM": "1",
            # Without this, threads that wait for one another never rest.
            "FAKETIME_FORCE_MONOTONIC_FIX": "0",
        }


def set_clock(cluster: Machines, clock: Path, offset: int) -> None:
    """Let the time jump, and return once every process tells it."""
    written = clock.with_suffix(".new")
    written.write_text(f"{offset:+d}\n")
    written.replace(clock)
    for server in cluster.servers:
        eventually(lambda s=server: abs(error_of_clock(s) - offset) < 10, what="the clock jumps")


def error_of_clock(server: Server) -> float:
    """Return by how many seconds a server's clock is ahead."""
    said = parsedate_to_datetime(server.get("/health").headers["Date"])
    return said.timestamp() - time.time()


def tus(method: str, url: str, body: bytes = b"", **headers: str) -> requests.Response:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    named |= {"Tus-Resumable": "1.0.0", "Content-Type": "application/offset+octet-stream"}
    return requests.request(method, url, data=body, headers=named, timeout=15)


def seconds_aged(cluster: Machines, node: Server) -> float:
    """Return how long an unfinished upload counts as without progress."""
    path = cluster.folder_of(node) / "node.sqlite3"
    with contextlib.closing(sqlite3.connect(path)) as database:
        return float(database.execute("SELECT MAX(idle_seconds) FROM upload").fetchone()[0])


def collector_has_looked(cluster: Machines, offset: int) -> bool:
    """Tell whether the master has looked for what may be removed since the clock says this."""
    path = cluster.folder_of(cluster.master) / "db.sqlite3"
    with contextlib.closing(sqlite3.connect(path)) as books:
        query = "SELECT expires_at FROM master_app_lease WHERE name = 'collection'"
        rows = books.execute(query).fetchall()
    now = time.time() + offset
    ends = [datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp() for (text,) in rows]
    return any(now < end < now + 60 for end in ends)


def delete(cluster: Machines, blob_hash: str) -> None:
    """Delete the only file of a blob, whose bytes stay for a day."""
    (file,) = cluster.master.get("/api/v1/files/", params={"hash": blob_hash}).json()["results"]
    assert cluster.master.request("DELETE", f"/api/v1/files/{file['id']}/").status_code == 204


def test_p21_the_clock_jumps_by_two_days_either_way(
    machines: StartMachines, tmp_path: Path
) -> None:
    cluster = machines(start=False, node_count=2, COMPRESSION="off")
    clock = tmp_path / "clock"
    clock.write_text("+0\n")
    use_clock(cluster, clock)
    cluster.start()
    cluster.wait_until_ready()
    node, other = cluster.nodes
    half = len(CONTENT) // 2
    begun = tus("POST", f"{node.url}/uploads/", Upload_Length=str(len(CONTENT)))
    address = node.url + begun.headers["Location"]
    assert tus("PATCH", address, CONTENT[:half], Upload_Offset="0").status_code == 204
    stored = {}
    deleted = node.upload(b"deleted a moment ago", "deleted.bin").json()["hash"]
    delete(cluster, deleted)

    for offset in CLOCKS:
        set_clock(cluster, clock, offset)
        aged = seconds_aged(cluster, node)
        name, content = f"at {offset} of {len(stored)}.bin", secrets.token_bytes(1_000)
        # A jump makes every heartbeat look old for a moment.
        eventually(cluster.is_whole, 15, what="every node is healthy by the new clock")
        said = other.upload(content, name).json()
        assert (said["registered"], len(said["replicas"])) == (True, 2)
        stored[name] = content
        eventually(lambda a=aged: seconds_aged(cluster, node) > a, what="a look for the expired")
        assert tus("HEAD", address).headers["Upload-Offset"] == str(half)
        assert seconds_aged(cluster, node) < DAY / 2
        if offset > 0:
            eventually(lambda o=offset: collector_has_looked(cluster, o), 20, what="a collection")
        assert len(cluster.blob_paths(deleted)) == 2
        for each in cluster.nodes:
            for known in stored.values():
                assert each.retrieve(md5(known)).content == known

    assert tus("PATCH", address, CONTENT[half:], Upload_Offset=str(half)).status_code == 204
    assert other.retrieve(md5(CONTENT)).content == CONTENT
    assert stored.keys() <= listed(cluster)
    assert damaged_replicas(cluster) == []
