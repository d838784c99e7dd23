"""Runs the processes of a cluster on one machine, and restarts those that die."""

import contextlib
import logging
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

import requests

from mini_dropbox import env, server
from mini_dropbox.env import ConfigurationError, Role

logger = logging.getLogger(__name__)

POLL_SECONDS: Final = 0.05
FIRST_RESTART_SECONDS: Final = 0.2
LAST_RESTART_SECONDS: Final = 5.0
# A process that has been up for this long counts as well again.
STABLE_SECONDS: Final = 10.0
READY_SECONDS: Final = 30.0
# All of a stop has to fit into five seconds: nodes first, for they tell the master what
# they stored; then the master; then whoever is left is killed.
NODES_STOP_SECONDS: Final = 3.2
ALL_STOP_SECONDS: Final = 4.6


@dataclass
class Child:
    """One process of the cluster."""

    label: str
    role: Role
    host: str
    port: int
    settings: Mapping[str, str]
    process: subprocess.Popen[bytes] | None = None
    started_at: float = 0.0
    restart_at: float = 0.0
    delay: float = FIRST_RESTART_SECONDS
    url: str = field(init=False)

    def __post_init__(self) -> None:
        self.url = server.base_url(self.host, self.port)

    def start(self) -> None:
        # A session of its own: Ctrl+C in the terminal then reaches only the supervisor, which
        # ends its children in order.
        self.process = subprocess.Popen(
            server.command(self.host, self.port),
            env=env.child_environment(**self.settings, ROLE=self.role.value, SUPERVISED="true"),
            cwd=env.PROJECT_DIR,
            stdin=subprocess.DEVNULL,
            start_new_session=True,
        )
        self.started_at = time.monotonic()

    def is_running(self) -> bool:
        return self.process is not None and self.process.poll() is None

    def terminate(self) -> None:
        if self.process is not None and self.is_running():
            self.process.terminate()

    def kill(self) -> None:
        """Kill the process and what it has started."""
        if self.process is None:
            return
        with contextlib.suppress(ProcessLookupError, PermissionError):
            if sys.platform == "win32":
                self.process.kill()
            else:
                os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()

    def knows(self, node_count: int) -> bool:
        """Tell whether the process answers and sees this many healthy nodes."""
        headers = {"Accept": "application/json"}
        with contextlib.suppress(requests.RequestException, KeyError):
            health = requests.get(f"{self.url}/health", headers=headers, timeout=1)
            return health.ok and int(health.json()["healthy_nodes"]) >= node_count
        return False


class Supervisor:
    """Keeps children running until a signal asks for the end."""

    def __init__(self, children: Sequence[Child]) -> None:
        self._children = children
        self._stop_requested = False

    def check_ports(self) -> None:
        """ConfigurationError when somebody else listens on a child's port."""
        for child in self._children:
            family = socket.AF_INET6 if ":" in child.host else socket.AF_INET
            with socket.socket(family, socket.SOCK_STREAM) as probe:
                if sys.platform != "win32":
                    probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                try:
                    probe.bind((child.host, child.port))
                except OSError as error:
                    message = (
                        f"Port {child.port} for the {child.label} is not free "
                        f"({error.strerror}): stop what uses it, or choose another port."
                    )
                    raise ConfigurationError(message) from None

    def start(self, role: Role) -> None:
        """Start the children of one role."""
        for child in self._children:
            if child.role is role:
                child.start()

    def wait_until_ready(self) -> bool:
        """Return whether every child knew every node in time; a request to stop ends it, too."""
        deadline = time.monotonic() + READY_SECONDS
        nodes = sum(child.role is Role.NODE for child in self._children)
        waiting = list(self._children)
        while waiting and time.monotonic() < deadline and not self._stop_requested:
            self._restart_dead()
            waiting = [child for child in waiting if not child.knows(nodes)]
            time.sleep(POLL_SECONDS)
        if waiting and not self._stop_requested:
            labels = ", ".join(child.label for child in waiting)
            logger.warning("After %d s these are not ready yet: %s", READY_SECONDS, labels)
        return not waiting

    def run(self) -> None:
        """Restart what dies, until a stop is asked for."""
        while not self._stop_requested:
            self._restart_dead()
            time.sleep(POLL_SECONDS)

    def request_stop(self, *_: object) -> None:
        """End `run`; a signal handler."""
        self._stop_requested = True

    def stop(self) -> None:
        """End every child within five seconds, the nodes before the master."""
        began = time.monotonic()
        for role, seconds in ((Role.NODE, NODES_STOP_SECONDS), (Role.MASTER, ALL_STOP_SECONDS)):
            children = [child for child in self._children if child.role is role]
            for child in children:
                child.terminate()
            while any(map(Child.is_running, children)) and time.monotonic() < began + seconds:
                time.sleep(POLL_SECONDS)
        for child in self._children:
            if child.is_running():
                logger.warning("The %s did not end in time and is killed", child.label)
            # Also when it has ended: a worker may have outlived its arbiter.
            child.kill()

    def _restart_dead(self) -> None:
        now = time.monotonic()
        for child in self._children:
            if child.process is None or child.is_running():
                continue
            if child.restart_at <= child.started_at:
                self._plan_restart(child, child.process.returncode, now)
            elif child.restart_at <= now:
                child.kill()
                child.start()

    def _plan_restart(self, child: Child, status: int, now: float) -> None:
        stable = now - child.started_at > STABLE_SECONDS
        child.delay = (
            FIRST_RESTART_SECONDS if stable else min(child.delay * 2, LAST_RESTART_SECONDS)
        )
        child.restart_at = now + child.delay
        logger.warning("The %s ended with status %s and is started again", child.label, status)
