"""How quickly a node whose folder was wiped has all its copies again."""

import concurrent.futures
import contextlib
import secrets
import time
from pathlib import Path
from typing import Final

import psutil
import requests

from bench import cluster, limits
from bench.cluster import HOST, Cluster, wait_until
from bench.harness import Row, tell
from bench.workloads import MIB, Settings

SMALL_BYTES: Final = 4096
SMALL_BLOBS: Final = 20_000
LARGE_BYTES: Final = 8 * MIB
LARGE_BLOBS: Final = 400
SMOKE_BLOBS: Final = 40
UPLOADERS: Final = 16
DISK_WRITERS: Final = 16
REFILL_SECONDS: Final = 600.0


def refill(settings: Settings) -> list[Row]:
    """Measure with many small blobs and with large ones, beside what the disk takes of the same."""
    if settings.smoke:
        return [_measure(settings, "refill-small", SMALL_BYTES, SMOKE_BLOBS)]
    return [
        _measure(settings, "refill-small", SMALL_BYTES, SMALL_BLOBS),
        _measure(settings, "refill-large", LARGE_BYTES, LARGE_BLOBS),
    ]


def _measure(settings: Settings, work: str, size: int, count: int) -> Row:
    folder = settings.folder / work
    # A wiped node waits for nothing, and nothing slows its refill but the machine.
    with cluster.running(
        folder, nodes=2, REPAIR_MB_PER_SECOND="100000", COMPRESSION="off"
    ) as running:
        _fill(running, size, count)
        wiped = running.node_ports[1]
        _wipe(running, wiped)
        seconds = _until_full(running, count)
    rate, limit = count / seconds, _disk(settings, size)
    is_small = size == SMALL_BYTES
    scale, unit = (1.0, "blobs/s") if is_small else (size / MIB, "MiB/s")
    tell(f"  {work}: {count} blobs in {seconds:.1f} s, {rate * scale:.0f} {unit}")
    return Row(
        work=work,
        value=rate * scale,
        unit=unit,
        limit_name="disk, fsynced",
        limit_value=limit * scale,
        ratio=rate / limit,
    )


def _fill(running: Cluster, size: int, count: int) -> None:
    """Store so many different blobs of one size on both nodes."""
    rest = secrets.token_bytes(size - 16)

    def upload(number: int) -> None:
        content = secrets.token_bytes(16) + rest
        target = running.targets[number % len(running.targets)]
        answer = sessions[number % UPLOADERS].post(
            f"http://{target}/upload", files={"file": (f"{number}.bin", content)}, timeout=60
        )
        answer.raise_for_status()

    sessions = [requests.Session() for _ in range(UPLOADERS)]
    with concurrent.futures.ThreadPoolExecutor(UPLOADERS) as threads:
        list(threads.map(upload, range(count)))
    for session in sessions:
        session.close()


def _wipe(running: Cluster, port: int) -> None:
    """Kill a node, and remove its folder before its supervisor has started it again."""
    address = f"{HOST}:{port}"
    members = [p for p in running.roles()["node"] if _is_for(p, address)]
    folder = running.data_dir / f"node_{port}"
    aside = folder.with_name(f"wiped_{port}")
    for process in members:
        process.suspend()
    folder.rename(aside)
    for process in members:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()


def _is_for(process: psutil.Process, address: str) -> bool:
    with contextlib.suppress(psutil.Error):
        return any(address in argument for argument in process.cmdline())
    return False


def _until_full(running: Cluster, count: int) -> float:
    """Return how many seconds pass from the node's return until it has all blobs again."""
    wait_until(lambda: _blobs(running) == 0, 60, "the wiped node is back, and empty")
    began = time.monotonic()
    wait_until(lambda: _blobs(running) >= count, REFILL_SECONDS, "the node is full again")
    seconds = time.monotonic() - began
    wait_until(
        lambda: running.master("/api/v1/repair/")["backlog"] == 0, 60, "nothing is to be repaired"
    )
    return seconds


def _blobs(running: Cluster) -> int:
    """Return how many blobs the second node says it has; -1 while it does not answer."""
    with contextlib.suppress(requests.RequestException):
        url = f"http://{running.targets[1]}/health"
        answer = requests.get(url, headers={"Accept": "application/json"}, timeout=5)
        return int(answer.json().get("blob_count", -1))
    return -1


def _disk(settings: Settings, size: int) -> float:
    """Return how many files of this size the disk takes in a second, each synced."""
    folder = Path(settings.folder / "disk")
    folder.mkdir(exist_ok=True)
    measure = limits.disk_commits if size == SMALL_BYTES else limits.disk_writes
    writers = DISK_WRITERS if size == SMALL_BYTES else 4
    return measure(folder, size=size, writers=writers, seconds=settings.seconds).value
