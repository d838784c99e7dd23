"""Clusters whose servers are started, killed, frozen and cut off one by one, as machines are."""

import contextlib
import functools
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import psutil

from mini_dropbox import server as production
from tests.support.cluster import PROJECT_DIR, READY_SECONDS, Cluster, Server
from tests.support.proxy import Proxy
from tests.support.waiting import eventually

SECRET = "the secret of this cluster"


class Machine:
    """One server, an arbiter and its worker, in a process group of its own."""

    def __init__(self, server: Server, environment: dict[str, str], log_path: Path) -> None:
        self.server = server
        self.environment = environment
        self.command = production.command(server.host, server.port)
        self._log_path = log_path
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def is_running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    @property
    def arbiter(self) -> psutil.Process:
        """Return the process that restarts the worker; psutil.NoSuchProcess while there is none."""
        return psutil.Process(self._process.pid if self._process is not None else None)

    def start(self) -> None:
        """Start the server unless it runs, and return at once."""
        if self.is_running:
            return
        with self._log_path.open("ab") as log:
            self._process = subprocess.Popen(
                self.command,
                cwd=PROJECT_DIR,
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def kill(self) -> None:
        """Kill both processes at once; nothing of them is left when it returns."""
        self._end(signal.SIGKILL, 10)

    def terminate(self, seconds: float = 10) -> None:
        """Ask for a stop, as an orderly restart does, and wait for it."""
        self._end(signal.SIGTERM, seconds)

    @contextlib.contextmanager
    def frozen(self) -> Iterator[None]:
        """Stop both processes with SIGSTOP, and let them go on in the end."""
        self.send(signal.SIGSTOP)
        try:
            yield
        finally:
            self.send(signal.SIGCONT)

    def send(self, number: signal.Signals) -> None:
        """Send a signal to both processes."""
        if self._process is not None and self.is_running:
            os.killpg(self._process.pid, number)

    def _end(self, number: signal.Signals, seconds: float) -> None:
        if self._process is None or not self.is_running:
            return
        processes = [self.arbiter, *self.arbiter.children()]
        if number == signal.SIGKILL:
            self.send(number)
        else:
            self._process.send_signal(number)
        self._process.wait(seconds)
        # An orphan stays listed until somebody asks what became of it.
        eventually(lambda: all(map(_has_ended, processes)), seconds, what=f"{processes} have ended")


class Machines(Cluster):
    """A master and nodes without a supervisor; `settings` are environment of all of them.

    With `proxied`, what a node says to the master passes `to_master[node]`, and what its peers say
    to it passes `to_node[node]`; clients always reach a node directly.
    """

    def __init__(
        self, folder: Path, *, node_count: int = 3, proxied: bool = False, **settings: str
    ) -> None:
        super().__init__(folder, node_count=node_count, CLUSTER_SECRET=SECRET, **settings)
        self.to_master = {node: Proxy(self.master.port) for node in self.nodes if proxied}
        self.to_node = {node: Proxy(node.port) for node in self.nodes if proxied}
        self.machines = {
            self.master: self._machine(self.master, ROLE="master"),
            **{node: self._machine(node, **self._node_settings(node)) for node in self.nodes},
        }

    @property
    def servers(self) -> list[Server]:
        return [self.master, *self.nodes]

    def folder_of(self, server: Server) -> Path:
        """Return where a server keeps what it has; a disk may be mounted there before a start."""
        name = "master" if server == self.master else f"node_{server.node_id}"
        return self.data_dir / name

    def start(self) -> None:
        """Start every server that does not run, and return at once."""
        books = self.folder_of(self.master) / "db.sqlite3"
        if not books.exists():
            books.parent.mkdir(parents=True, exist_ok=True)
            books.write_bytes(_empty_books())
        for machine in self.machines.values():
            machine.start()

    def wait_until_ready(self, seconds: float = READY_SECONDS) -> None:
        """Return once every process sees every node healthy."""
        eventually(self.is_whole, seconds, what="every node healthy in every process's view")

    def arbiter(self, server: Server) -> psutil.Process:
        return self.machines[server].arbiter

    def stop(self) -> None:
        """End every process; what a stop is like is not what tests of faults are about."""
        for proxy in (*self.to_master.values(), *self.to_node.values()):
            proxy.close()
        for machine in self.machines.values():
            machine.send(signal.SIGKILL)
        for machine in self.machines.values():
            machine.kill()
        super().stop()

    def _machine(self, server: Server, **settings: str) -> Machine:
        # Supervised by the tests: a server ends when they have gone without a word.
        shared = {"DATA_DIR": str(self.data_dir), "SUPERVISED": "true"}
        environment = self.environment(**shared, **settings)
        return Machine(server, environment, self.log_path)

    def _node_settings(self, node: Server) -> dict[str, str]:
        master, front = self.to_master.get(node), self.to_node.get(node)
        return {
            "ROLE": "node",
            "NODE_ID": node.node_id,
            "NODE_URL": front.url if front else node.url,
            "MASTER_URL": master.url if master else self.master.url,
        }


def _has_ended(process: psutil.Process) -> bool:
    try:
        return process.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


@functools.cache
def _empty_books() -> bytes:
    """Return a master's database without files; to make one takes seconds."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith("MINI_DROPBOX")}
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run(
            [sys.executable, "manage.py", "migrate", "--verbosity", "0"],
            cwd=PROJECT_DIR,
            env={**environment, "MINI_DROPBOX_DATA_DIR": folder},
            check=True,
        )
        return (Path(folder) / "master" / "db.sqlite3").read_bytes()
