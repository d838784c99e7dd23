"""Clients: what asks a server for work, and what it measured.

wrk sends whatever is small or read: a C program that spends the least on a request. Large bodies
are sent by `bench.sender` with sendfile(2), which moves them from the page cache to the socket
without a copy in user space; wrk would build each of them anew as a Lua string.
"""

import json
import os
import secrets
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

PROJECT_DIR: Final = Path(__file__).resolve().parent.parent
LUA_DIR: Final = Path(__file__).resolve().parent / "lua"
REQUEST_SECONDS: Final = 60


class LoadError(Exception):
    """A client could not do its work."""


@dataclass(frozen=True, kw_only=True)
class Load:
    """What a client saw. Times of one operation are milliseconds, `cpu_seconds` is the client's."""

    operations: int
    seconds: float
    failed: int
    received_bytes: int
    cpu_seconds: float
    p50_ms: float
    p99_ms: float
    failure: str = ""

    @property
    def rate(self) -> float:
        """Operations per second."""
        return self.operations / self.seconds


def get(
    targets: Sequence[str], paths: Path, *, size: int, connections: int, seconds: float
) -> Load:
    """GET the paths that a file lists, bodies of at least `size` bytes, from `host:port`s."""
    load = _wrk("get.lua", targets, connections, seconds, {"PATHS": str(paths)})
    if load.received_bytes < load.operations * size:
        return replace(load, failed=load.operations, failure="answers are shorter than the files")
    return load


def post_forms(targets: Sequence[str], *, size: int, connections: int, seconds: float) -> Load:
    """POST files of `size` bytes to `/upload`, each another one."""
    settings = {"SIZE": str(size), "SEED": secrets.token_hex(8)}
    return _wrk("post_form.lua", targets, connections, seconds, settings)


def send(
    targets: Sequence[str],
    body: Path,
    *,
    way: str,
    connections: int,
    seconds: float,
    count: int = 0,
) -> Load:
    """Send bodies that begin as the file `body` and differ in their end; see `bench.sender`.

    With `count`, that many are sent, however long it takes; else as many as `seconds` allow.
    """
    options = {
        "--way": way,
        "--body": str(body),
        "--connections": str(connections),
        "--seconds": str(seconds),
        "--count": str(count),
    }
    arguments = [part for option in options.items() for part in option]
    command = [sys.executable, "-m", "bench.sender", *arguments, *targets]
    done = subprocess.run(command, cwd=PROJECT_DIR, capture_output=True, text=True, check=False)
    if done.returncode:
        raise LoadError(f"The sender ended with status {done.returncode}: {done.stderr[-500:]}")
    return Load(**json.loads(done.stdout))


def _wrk(
    script: str,
    targets: Sequence[str],
    connections: int,
    seconds: float,
    settings: Mapping[str, str],
) -> Load:
    # A thread for each target; two for one, so that the client can use what is free of both cores.
    threads = min(connections, max(len(targets), 2))
    command = [
        *("wrk", "--threads", str(threads), "--connections", str(connections)),
        *("--duration", f"{max(round(seconds), 1)}s", "--timeout", f"{REQUEST_SECONDS}s"),
        *("--script", str(LUA_DIR / script), f"http://{targets[0]}/"),
    ]
    environment = {f"BENCH_{name}": value for name, value in settings.items()}
    environment |= {"BENCH_LUA": str(LUA_DIR), "BENCH_TARGETS": ",".join(targets)}
    process = subprocess.Popen(
        command,
        env=os.environ | environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert process.stdout is not None  # noqa: S101  It was asked for.
    with process.stdout as output:
        text = output.read()
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    last = text.strip().rpartition("\n")[2]
    if process.returncode or not last.startswith("{"):
        raise LoadError(f"wrk ended with status {process.returncode}: {text[-500:]}")
    return Load(**json.loads(last), cpu_seconds=usage.ru_utime + usage.ru_stime)
