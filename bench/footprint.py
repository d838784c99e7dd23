"""What a cluster costs while it does nothing, until it is ready, and while large files arrive."""

import os
import secrets
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from typing import Final

import psutil

from bench import harness, load, processes
from bench.cluster import Cluster, running
from bench.harness import BenchError, Row, bounded
from bench.load import PROJECT_DIR
from bench.workloads import MIB, Settings, Unavailable, body_file, cluster_settings, demand

UPLOADS: Final = 16
REFERENCE_BYTES: Final = 64 * MIB
SMOKE_BYTES: Final = 2 * MIB
MOST_MIB: Final = 200.0
# "The same" as with small files: what is left is the allocator's mood.
MOST_GROWTH: Final = 1.1
IMPORTS_SHOWN: Final = 12


def memory(settings: Settings) -> list[Row]:
    """Return a node process's peak with 16 uploads at once, of moderate files and of large ones."""
    reference = SMOKE_BYTES if settings.smoke else REFERENCE_BYTES
    large = settings.memory_bytes
    options = cluster_settings(max(large, reference), 2)
    with running(settings.folder / "cluster", nodes=2, **options) as cluster:
        way = _way(cluster, settings.memory_way)
        # What a process keeps from its first uploads on is not the size's doing.
        _peak_with_uploads(settings, cluster, way, reference)
        peaks = []
        for size in (reference, large):
            peaks.append(_peak_with_uploads(settings, cluster, way, size))
            harness.tell(f"  memory, {UPLOADS} uploads of {size // MIB} MiB: {peaks[-1]:.0f} MiB")
    return [
        bounded(f"memory-{reference // MIB}M", peaks[0], "MiB", MOST_MIB),
        bounded(f"memory-{large // MIB}M", peaks[1], "MiB", MOST_MIB),
        bounded("memory-growth", peaks[1] / peaks[0], "of the smaller's peak", MOST_GROWTH),
    ]


def _way(cluster: Cluster, wanted: str) -> str:
    try:
        demand(cluster, wanted)
    except Unavailable as reason:
        harness.tell(f"  {reason} Forms are sent instead.")
        return "form"
    return wanted


def _peak_with_uploads(settings: Settings, cluster: Cluster, way: str, size: int) -> float:
    body = body_file(settings.folder, size)
    nodes = cluster.roles()["node"]
    processes.reset_peaks(nodes)
    sent = load.send(cluster.targets, body, way=way, connections=UPLOADS, seconds=0, count=UPLOADS)
    body.unlink()
    if sent.failed or sent.operations != UPLOADS:
        raise BenchError(f"Of {UPLOADS} uploads {sent.operations} were stored: {sent.failure}")
    return processes.peak_mib(nodes)


def idle(settings: Settings) -> list[Row]:
    """Return what a master and two nodes take when nobody asks them for anything."""
    ready, resident, busy = [], [], []
    for number in range(min(settings.rounds, 3)):
        with running(settings.folder / f"cluster-{number}", nodes=2) as cluster:
            ready.append(cluster.ready_seconds)
            busy.append(_busy(cluster, settings.seconds))
            resident.append(_resident(cluster))
        harness.tell(f"  idle: ready after {ready[-1]:.2f} s, {resident[-1]}")
    return [
        _row("idle-ready", ready, "s"),
        _row("idle-cpu", [seconds * 1000 for seconds in busy], "ms CPU a second, all processes"),
        *(
            _row(f"idle-rss-{name}", [each[name] for each in resident], "MiB")
            for name in resident[0]
        ),
        *(import_row(role) for role in ("master", "node")),
    ]


def _busy(cluster: Cluster, seconds: float) -> float:
    """Return CPU seconds that the whole cluster uses in a second."""
    members = [process for role in cluster.roles().values() for process in role]
    before, began = processes.cpu_seconds(members), time.monotonic()
    time.sleep(seconds)
    return (processes.cpu_seconds(members) - before) / (time.monotonic() - began)


def _resident(cluster: Cluster) -> dict[str, float]:
    """Return the mean resident size of each kind of process: who serves, and who watches it."""
    found = {}
    for role, members in cluster.roles().items():
        arbiters = {process.pid for process in members} & _parents(members)
        for kind, are_arbiters in (("arbiter", True), ("worker", False)):
            chosen = [each for each in members if (each.pid in arbiters) is are_arbiters]
            found[f"{role}-{kind}"] = statistics.mean(map(processes.resident_mib, chosen))
    return {name: round(size, 1) for name, size in found.items()}


def _parents(members: list[psutil.Process]) -> set[int]:
    return {process.ppid() for process in members}


def _row(work: str, values: list[float], unit: str) -> Row:
    return Row(
        work=work,
        value=statistics.median(values),
        unit=unit,
        spread=(min(values), max(values)),
    )


def import_row(role: str) -> Row:
    """Return how long a process of a role imports, and what takes longest, with all it pulls in."""
    with tempfile.TemporaryDirectory() as folder:
        settings = {"ROLE": role, "DATA_DIR": folder, "CLUSTER_SECRET": secrets.token_hex()}
        done = subprocess.run(
            [sys.executable, "-X", "importtime", "-c", "import mini_dropbox.asgi"],
            cwd=PROJECT_DIR,
            env=os.environ | {f"MINI_DROPBOX_{name}": value for name, value in settings.items()},
            capture_output=True,
            text=True,
            check=True,
        )
    packages = parse_import_times(done.stderr)
    longest = sorted(packages.items(), key=lambda item: -item[1])[:IMPORTS_SHOWN]
    return Row(
        work=f"imports-{role}",
        value=sum(packages.values()),
        unit="ms",
        beside={name: round(milliseconds, 1) for name, milliseconds in longest},
    )


def parse_import_times(text: str) -> Mapping[str, float]:
    """Return milliseconds by top-level package, each without what it imports from others."""
    found: dict[str, float] = {}
    for line in text.splitlines():
        own, _, rest = line.removeprefix("import time:").partition("|")
        if line.startswith("import time:") and own.strip().isdigit():
            package = rest.rpartition("|")[2].strip().partition(".")[0]
            found[package] = found.get(package, 0.0) + int(own) / 1000
    return found
