"""A master over a database of its own, for bench/metadata.py, and what is asked of it."""

import contextlib
import hashlib
import http.client
import json
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlencode

import psutil

from mini_dropbox.signing import Signer
from mini_dropbox.wire import HEARTBEAT_PATH, Heartbeat

PROJECT_DIR: Final = Path(__file__).resolve().parent.parent
HOST: Final = "127.0.0.1"
SECRET: Final = "the secret of a benchmark"  # noqa: S105  Of a cluster that is gone soon.
NODE_IDS: Final = ("8001", "8002", "8003")
START_SECONDS: Final = 60.0
MIB: Final = 2**20


class BenchError(Exception):
    """A figure cannot be trusted, so there is none."""


class Master:
    """A gunicorn master of its own over one database, and one connection to it."""

    def __init__(self, folder: Path) -> None:
        self.data_dir = folder
        with socket.socket() as probe:
            probe.bind((HOST, 0))
            self.port = probe.getsockname()[1]
        self._log = (folder / "bench.log").open("ab")
        server = ["-c", "python:mini_dropbox.gunicorn_conf", "-b", f"{HOST}:{self.port}"]
        self._process = subprocess.Popen(
            [sys.executable, "-m", "gunicorn", *server, "mini_dropbox.asgi:application"],
            cwd=PROJECT_DIR,
            env=environment(folder),
            stdout=self._log,
            stderr=self._log,
        )
        self._signer = Signer(SECRET, NODE_IDS[0])
        self.cookie = ""
        self._await_health()
        self._connection = http.client.HTTPConnection(HOST, self.port, timeout=120)
        self.worker = psutil.Process(self._process.pid).children()[0]

    def _await_health(self) -> None:
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline and self._process.poll() is None:
            with contextlib.suppress(OSError, http.client.HTTPException):
                probe = http.client.HTTPConnection(HOST, self.port, timeout=2)
                probe.request("GET", "/health")
                if probe.getresponse().status == 200:
                    return
            time.sleep(0.1)
        raise BenchError(f"no master came up; {self._log.name} says why")

    def close(self) -> None:
        """End the master's processes."""
        self._process.terminate()
        self._process.wait(20)
        self._log.close()

    def _exchange(
        self, method: str, path: str, body: bytes | None = None, headers: Mapping[str, str] = {}
    ) -> tuple[http.client.HTTPResponse, bytes]:
        self._connection.request(method, path, body, dict(headers))
        answer = self._connection.getresponse()
        return answer, answer.read()

    def ask(
        self, method: str, path: str, body: bytes | None = None, headers: Mapping[str, str] = {}
    ) -> bytes:
        """Return the body of an answer; BenchError unless it is 200."""
        answer, content = self._exchange(method, path, body, headers)
        if answer.status != 200:
            raise BenchError(f"{method} {path}: {answer.status} {content[:300]!r}")
        return content

    def get(self, path: str) -> bytes:
        headers = {"Cookie": self.cookie, "Accept": "application/json,text/html"}
        return self.ask("GET", path, headers=headers)

    def post_json(self, path: str, message: Mapping[str, Any]) -> bytes:
        """Send a message as clients and as nodes do: the signature covers its body."""
        body = json.dumps(message).encode()
        signature = self._signer.sign("POST", path, hashlib.sha256(body).hexdigest())
        headers = {"Content-Type": "application/json", "Authorization": signature}
        return self.ask("POST", path, body, headers)

    def cpu_seconds(self) -> float:
        times = self.worker.cpu_times()
        return float(times.user + times.system)

    def sign_in(self) -> None:
        """Sign in to the admin, for the pages that need it."""
        login = "/admin/login/"
        form, _ = self._exchange("GET", login)
        token = cookies(form).partition("mini_dropbox_csrf=")[2]
        password = (self.data_dir / "master" / "admin_password").read_text().strip()
        fields = {"username": "admin", "password": password, "csrfmiddlewaretoken": token}
        headers = {"Content-Type": "application/x-www-form-urlencoded", "Cookie": cookies(form)}
        answer, _ = self._exchange("POST", login, urlencode(fields).encode(), headers)
        if answer.status != 302:
            raise BenchError(f"signing in was answered with {answer.status}")
        self.cookie = cookies(answer)

    def beat(self) -> None:
        """Report for every node, so that none counts as down."""
        for node_id in NODE_IDS:
            heartbeat = Heartbeat(
                node_id=node_id,
                url=f"http://{HOST}:{node_id}",
                version="1.0.0",
                capacity_bytes=500 * 2**30,
                free_bytes=400 * 2**30,
                used_bytes=2**30,
                blob_count=1000,
                writable=True,
            )
            self.post_json(HEARTBEAT_PATH, heartbeat.to_json())


def cookies(answer: http.client.HTTPResponse) -> str:
    set_cookies = answer.headers.get_all("Set-Cookie") or []
    return "; ".join(value.partition(";")[0] for value in set_cookies)


def environment(folder: Path) -> dict[str, str]:
    """Return the environment of a database's processes, free of the caller's own settings."""
    inherited = {name: value for name, value in os.environ.items() if "MINI_DROPBOX" not in name}
    own = {"DATA_DIR": str(folder), "CLUSTER_SECRET": SECRET, "LOG_LEVEL": "WARNING"}
    return {**inherited, **{f"MINI_DROPBOX_{name}": value for name, value in own.items()}}


def list_growth(master: Master) -> tuple[float, float, int]:
    """Read all of `/list`; return seconds, how many MiB the master grew by at most, and records."""
    stopped = threading.Event()
    before = master.worker.memory_info().rss
    sizes = [before]

    def watch() -> None:
        while not stopped.wait(0.02):
            sizes.append(master.worker.memory_info().rss)

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        connection = http.client.HTTPConnection(HOST, master.port, timeout=120)
        began = time.perf_counter()
        connection.request("GET", "/list")
        answer = connection.getresponse()
        records, last = 0, b""
        while piece := answer.read(MIB):
            # A key may be cut in two by the end of a piece.
            records += (last + piece).count(b'"hash":')
            last = piece[-6:]
        seconds = time.perf_counter() - began
    finally:
        stopped.set()
        watcher.join()
    return seconds, (max(sizes) - before) / MIB, records
