"""A cluster of real processes on free ports of loopback, started as users start it."""

import contextlib
import os
import random
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

import psutil
import requests

from bench import processes
from bench.load import PROJECT_DIR

HOST: Final = "127.0.0.1"
READY_SECONDS: Final = 60.0
STOP_SECONDS: Final = 8.0
POLL_SECONDS: Final = 0.02
LOG_CHARACTERS: Final = 600


class ClusterError(Exception):
    """A cluster did not start, or has lost something."""


def free_ports(count: int) -> list[int]:
    """Return ports that nobody uses, below those that outgoing connections get."""
    found: list[int] = []
    for port in random.sample(range(20_000, 32_000), 1_000):
        with contextlib.suppress(OSError), socket.socket() as probe:
            probe.bind((HOST, port))
            found.append(port)
        if len(found) == count:
            return found
    raise ClusterError("There are no free ports below 32000; stop something that listens.")


def wait_until(condition: Callable[[], bool], seconds: float, what: str) -> None:
    """Return once a condition holds; ClusterError when it does not within `seconds`."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise ClusterError(f"Not within {seconds:.0f} s: {what}.")
        time.sleep(POLL_SECONDS)


class Cluster:
    """One `manage.py runcluster`, with its data in `folder`; `settings` are environment."""

    def __init__(self, folder: Path, *, nodes: int, **settings: str) -> None:
        folder.mkdir(parents=True)
        self.master_port, *self.node_ports = free_ports(1 + nodes)
        self.data_dir = folder / "data"
        self.ready_seconds = 0.0
        self._log_path = folder / "log.txt"
        self._settings = settings
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def targets(self) -> list[str]:
        """`host:port` of each node."""
        return [f"{HOST}:{port}" for port in self.node_ports]

    def start(self) -> None:
        """Start every process and return once each sees every node healthy."""
        began = time.monotonic()
        inherited = {k: v for k, v in os.environ.items() if not k.startswith("MINI_DROPBOX_")}
        own = {f"MINI_DROPBOX_{name}": value for name, value in self._settings.items()}
        ports = ",".join(map(str, self.node_ports))
        where = ["--master-port", str(self.master_port), "--data-dir", str(self.data_dir)]
        with self._log_path.open("wb") as log:
            self._process = subprocess.Popen(
                [sys.executable, "manage.py", "runcluster", *where, "--node-ports", ports],
                cwd=PROJECT_DIR,
                env=inherited | own,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        try:
            wait_until(self._is_whole, READY_SECONDS, "every node healthy for every process")
        except ClusterError as error:
            raise ClusterError(f"{error} It said: {self._log_end()}") from None
        self.ready_seconds = time.monotonic() - began

    def stop(self) -> None:
        """End every process, gently where that works."""
        if self._process is None:
            return
        started = processes.tree(self._process.pid)
        self._process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(STOP_SECONDS)
        for process in started:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        self._process.wait()

    def roles(self) -> dict[str, list[psutil.Process]]:
        """Return the processes of the master, and of all nodes."""
        assert self._process is not None  # noqa: S101  It has been started.
        found: dict[str, list[psutil.Process]] = {"master": [], "node": []}
        for child in psutil.Process(self._process.pid).children():
            role = "master" if f"{HOST}:{self.master_port}" in child.cmdline() else "node"
            found[role] += processes.tree(child.pid)
        return found

    def master(self, path: str, **params: str) -> Any:
        """Return the master's JSON answer to a GET."""
        answer = requests.get(
            f"http://{HOST}:{self.master_port}{path}",
            params=params,
            headers={"Accept": "application/json"},
            timeout=30,
        )
        answer.raise_for_status()
        return answer.json()

    def offers(self, method: str, path: str) -> bool:
        """Tell whether the nodes know a path: an odd request gets another answer than 404."""
        answer = requests.request(method, f"http://{self.targets[0]}{path}", timeout=10)
        return answer.status_code != 404

    def blobs_on_disk(self) -> list[str]:
        """Return the address of every replica that is on disk, once for each node that has it."""
        folders = self.data_dir.glob("node_*/blobs")
        return [
            name[:32] for folder in folders for _, _, names in os.walk(folder) for name in names
        ]

    def _is_whole(self) -> bool:
        assert self._process is not None  # noqa: S101  It has been started.
        if self._process.poll() is not None:
            raise ClusterError("The cluster ended by itself.")
        return all(map(self._sees_all_nodes, [self.master_port, *self.node_ports]))

    def _log_end(self) -> str:
        """Return the last it said: the folder with its log goes when the work has failed."""
        return " ".join(self._log_path.read_text(errors="replace")[-LOG_CHARACTERS:].split())

    def _sees_all_nodes(self, port: int) -> bool:
        headers = {"Accept": "application/json"}
        with contextlib.suppress(requests.RequestException):
            answer = requests.get(f"http://{HOST}:{port}/health", headers=headers, timeout=1)
            return answer.ok and answer.json().get("healthy_nodes") == len(self.node_ports)
        return False


@contextlib.contextmanager
def running(folder: Path, *, nodes: int, **settings: str) -> Iterator[Cluster]:
    """Start a cluster, and end it with the block."""
    cluster = Cluster(folder, nodes=nodes, **settings)
    try:
        cluster.start()
        yield cluster
    finally:
        cluster.stop()
