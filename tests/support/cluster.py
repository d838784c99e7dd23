"""Starts real clusters on free ports of loopback, breaks them, and always ends them."""

import contextlib
import os
import random
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import requests

from tests.support.waiting import eventually

PROJECT_DIR = Path(__file__).resolve().parents[2]
HOST = "127.0.0.1"
READY_SECONDS = 40.0
STOP_SECONDS = 5.0
# Every process of a cluster inherits it, also one whose parent has been killed.
MARK = "CLUSTER_UNDER_TEST"
BANNER = "Mini-Dropbox is up."


@dataclass(frozen=True)
class Server:
    """One server process of a cluster, as clients reach it."""

    port: int
    host: str = HOST

    @property
    def address(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @property
    def url(self) -> str:
        return f"http://{self.address}"

    @property
    def node_id(self) -> str:
        return str(self.port)

    def request(
        self, method: str, path: str, *, timeout: float = 15, **options: Any
    ) -> requests.Response:
        return requests.request(method, self.url + path, timeout=timeout, **options)

    def get(self, path: str, **options: Any) -> requests.Response:
        return self.request("GET", path, **options)

    def post(self, path: str, **options: Any) -> requests.Response:
        return self.request("POST", path, **options)

    def upload(
        self, content: bytes, name: str = "file.bin", content_type: str = "", **options: Any
    ) -> requests.Response:
        part = (name, content, content_type) if content_type else (name, content)
        return self.post("/upload", files={"file": part}, **options)

    def retrieve(self, blob_hash: str, **options: Any) -> requests.Response:
        return self.get("/retrieve", params={"hash": blob_hash}, **options)

    def health(self) -> dict[str, Any]:
        """Return what the process says of itself; empty when it does not answer."""
        with contextlib.suppress(requests.RequestException):
            answer = self.get("/health", headers={"Accept": "application/json"}, timeout=2)
            return dict(answer.json()) if answer.ok else {}
        return {}


class Cluster:
    """A `runcluster` of its own, with nodes that may be added to it. `settings` are environment."""

    def __init__(
        self, folder: Path, *, host: str = HOST, node_count: int = 2, **settings: str
    ) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        master, *nodes = free_ports(1 + node_count)
        self.master = Server(master, host)
        self.nodes = [Server(port, host) for port in nodes]
        self.data_dir = folder / "data"
        self.log_path = folder / "log.txt"
        self._mark = str(folder)
        self._settings = {f"MINI_DROPBOX_{name}": value for name, value in settings.items()}
        self.started: list[subprocess.Popen[bytes]] = []

    @property
    def supervisor(self) -> subprocess.Popen[bytes]:
        return self.started[0]

    @property
    def log(self) -> str:
        return self.log_path.read_text(errors="replace")

    def start(self) -> None:
        """Start `runcluster` and return at once."""
        nodes = ",".join(node.node_id for node in self.nodes)
        where = ["--host", self.master.host, "--master-port", str(self.master.port)]
        options = [*where, "--node-ports", nodes, "--data-dir", str(self.data_dir)]
        process = self.manage("runcluster", *options)
        self.started.insert(0, process)

    def manage(self, *arguments: str, **settings: str) -> subprocess.Popen[bytes]:
        """Start a management command whose output goes to the cluster's log."""
        with self.log_path.open("ab") as log:
            return subprocess.Popen(
                [sys.executable, "manage.py", *arguments],
                cwd=PROJECT_DIR,
                env=self.environment(**settings),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
            )

    def environment(self, **settings: str) -> dict[str, str]:
        """Return the environment of this cluster's processes, free of the tests' own settings."""
        inherited = {
            name: value for name, value in os.environ.items() if not name.startswith("MINI_DROPBOX")
        }
        own = {f"MINI_DROPBOX_{name}": value for name, value in settings.items()}
        return {**inherited, **self._settings, **own, MARK: self._mark, "PYTHONUNBUFFERED": "1"}

    def wait_until_ready(self, seconds: float = READY_SECONDS) -> None:
        """Return once every process sees every node healthy."""
        eventually(lambda: BANNER in self.log, seconds, what=f"the banner in {self.log_path}")
        eventually(self.is_whole, seconds, what="every node healthy in every process's view")

    def is_whole(self) -> bool:
        everybody = [self.master, *self.nodes]
        return all(server.health().get("healthy_nodes") == len(self.nodes) for server in everybody)

    def add_node(self, *, reload: bool = False, **settings: str) -> Server:
        """Start one more node as a person would, with `runserver`; return at once."""
        node = Server(free_ports(1)[0], self.master.host)
        options = [] if reload else ["--noreload"]
        arguments = ["--role", "node", node.address, "--data-dir", str(self.data_dir), *options]
        self.started.append(
            self.manage("runserver", *arguments, MASTER_URL=self.master.url, **settings)
        )
        self.nodes.append(node)
        return node

    def node_states(self) -> dict[str, str]:
        """Return the master's view of every node."""
        return dict(self.master.health().get("nodes", {}))

    def arbiter(self, server: Server) -> psutil.Process:
        """Return the process that the supervisor started for a server."""
        children = psutil.Process(self.supervisor.pid).children()
        return next(child for child in children if server.address in _command_line(child))

    def worker(self, server: Server) -> psutil.Process:
        """Return the process that serves."""
        return self.arbiter(server).children()[0]

    def has_new_worker(self, server: Server, old: psutil.Process) -> bool:
        """Tell whether a server is served again, by another process than before."""
        with contextlib.suppress(StopIteration, IndexError, psutil.NoSuchProcess):
            return self.worker(server) != old and bool(server.health())
        return False

    @contextlib.contextmanager
    def frozen(self, server: Server) -> Iterator[None]:
        """Stop a server with SIGSTOP, as a hung machine would, and let it go on in the end."""
        stopped = [self.worker(server), self.arbiter(server)]
        for process in stopped:
            process.suspend()
        try:
            yield
        finally:
            for process in stopped:
                with contextlib.suppress(psutil.NoSuchProcess):
                    process.resume()

    def processes(self) -> list[psutil.Process]:
        """Return every process of this cluster that still runs, whoever its parent is."""
        return [process for process in psutil.process_iter() if self._is_ours(process)]

    def blob_paths(self, blob_hash: str) -> list[Path]:
        """Return the replicas of a blob that are on disk."""
        return sorted(self.data_dir.glob(f"node_*/blobs/*/*/{blob_hash}"))

    def temporary_files(self) -> list[Path]:
        return list(self.data_dir.glob("node_*/tmp/*"))

    def interrupt(self) -> int:
        """Do what Ctrl+C in the terminal does, and return the exit code."""
        self.supervisor.send_signal(signal.SIGINT)
        return self.supervisor.wait(STOP_SECONDS + 1)

    def stop(self) -> None:
        """End every process, gently where that works."""
        for process in self.started:
            if process.poll() is None:
                process.terminate()
        for process in self.started:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(STOP_SECONDS + 1)
        for process in self.processes():
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        for process in self.started:
            process.wait()

    def _is_ours(self, process: psutil.Process) -> bool:
        try:
            ours = process.environ().get(MARK) == self._mark
            return ours and process.status() != psutil.STATUS_ZOMBIE
        except psutil.Error:
            return False


def _command_line(process: psutil.Process) -> list[str]:
    try:
        return process.cmdline()
    except psutil.Error:
        return []


def free_ports(count: int) -> list[int]:
    """Return ports that nobody uses at this moment.

    They lie below those that outgoing connections get: a killed server can bind its own again.
    """
    found: list[int] = []
    for port in random.sample(range(20_000, 32_000), 1_000):
        with contextlib.suppress(OSError), socket.socket() as probe:
            probe.bind((HOST, port))
            found.append(port)
        if len(found) == count:
            return found
    raise AssertionError("there are no free ports")
