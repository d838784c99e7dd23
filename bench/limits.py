"""What the machine can do: nginx, the disk, and one core's digests."""

import contextlib
import hashlib
import itertools
import os
import shutil
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

import psutil

from bench import processes
from bench.cluster import HOST, free_ports, wait_until
from bench.harness import Reading

MIB: Final = 2**20
PIECE: Final = MIB
START_SECONDS: Final = 10.0

NGINX_CONFIGURATION: Final = """
{user}
worker_processes auto;
pid {folder}/nginx.pid;
error_log {folder}/error.log;
daemon off;
events {{ worker_connections 4096; }}
http {{
    access_log off;
    sendfile on;
    keepalive_timeout 120s;
    keepalive_requests 1000000000;
    client_max_body_size 0;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    server {{
        listen {host}:{port} backlog=4096;
        location /static/ {{ root {folder}; }}
        location /dav/ {{ root {folder}; dav_methods PUT; }}
    }}
}}
"""


class Nginx:
    """nginx with its own configuration: files under `/static/`, and PUT under `/dav/`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.static = folder / "static"
        self.dav = folder / "dav"
        for path in (self.static, self.dav):
            path.mkdir(parents=True)
        self.port = free_ports(1)[0]
        self.target = f"{HOST}:{self.port}"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it and return once it answers."""
        # Started by root, its workers would be another user's, who may not look in here.
        user = "user root;" if os.geteuid() == 0 else ""
        text = NGINX_CONFIGURATION.format(folder=self.folder, host=HOST, port=self.port, user=user)
        configuration = self.folder / "nginx.conf"
        configuration.write_text(text, encoding="utf-8")
        command = [program("nginx"), "-p", str(self.folder), "-c", str(configuration)]
        with (self.folder / "output.txt").open("wb") as output:
            self._process = subprocess.Popen(command, stdout=output, stderr=output)
        wait_until(self._listens, START_SECONDS, f"nginx listens; see {self.folder}/output.txt")

    def stop(self) -> None:
        if self._process is not None:
            self._process.terminate()
            self._process.wait()

    def roles(self) -> dict[str, list[psutil.Process]]:
        """Return its processes as `harness.observe` takes them."""
        return {"nginx": processes.tree(self._process.pid) if self._process else []}

    def forget_uploads(self) -> None:
        """Free the room of what PUT has left."""
        empty(self.dav)

    def _listens(self) -> bool:
        connections = psutil.Process(self._process.pid).net_connections() if self._process else []
        return any(connection.laddr.port == self.port for connection in connections)


def program(name: str) -> str:
    """Return the path of a program that may be outside of a user's PATH; else its name."""
    return shutil.which(name) or shutil.which(name, path="/usr/sbin:/usr/local/sbin") or name


@contextlib.contextmanager
def nginx(folder: Path) -> Iterator[Nginx]:
    """Start nginx, and end it with the block."""
    server = Nginx(folder)
    try:
        server.start()
        yield server
    finally:
        server.stop()


def disk_writes(folder: Path, *, size: int, writers: int, seconds: float) -> Reading:
    """Return files of `size` bytes a second that can be written and fsynced, `writers` at once."""
    piece = os.urandom(min(PIECE, size))

    def write_file(path: Path) -> None:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL)
        try:
            for _ in range(size // len(piece)):
                os.write(descriptor, piece)
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

    with _scratch(folder) as scratch:
        return _rate(lambda number: write_file(scratch / str(number)), writers, seconds)


def disk_commits(folder: Path, *, size: int, writers: int, seconds: float) -> Reading:
    """Return small files a second by create, fsync, rename and fsync of the folder.

    They go to 256 folders that exist already, `writers` at once.
    """
    content = os.urandom(size)
    with _scratch(folder) as scratch:
        folders = [scratch / f"{number:02x}" for number in range(256)]
        for path in folders:
            path.mkdir()

        def commit(number: int) -> None:
            temporary, target = scratch / f"{number}.tmp", folders[number % 256]
            descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL)
            try:
                os.write(descriptor, content)
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
            temporary.rename(target / str(number))
            descriptor = os.open(target, os.O_RDONLY | os.O_DIRECTORY)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)

        return _rate(commit, writers, seconds)


def digests(*, size: int, seconds: float) -> Reading:
    """Return bodies of `size` bytes a second that one core can hash, MD5 and SHA-256."""
    piece = os.urandom(min(PIECE, size))

    def hash_body(_: int) -> None:
        md5, sha256 = hashlib.md5(usedforsecurity=False), hashlib.sha256()
        for _ in range(size // len(piece)):
            md5.update(piece)
            sha256.update(piece)

    return _rate(hash_body, 1, seconds)


def _rate(operation: Callable[[int], None], workers: int, seconds: float) -> Reading:
    """Return how many operations a second `workers` threads do; each gets a number of its own."""
    numbers = itertools.count()
    failures: list[Exception] = []
    done = [0] * workers
    began, cpu_began = time.perf_counter(), time.process_time()

    def work(worker: int) -> None:
        try:
            while time.perf_counter() < began + seconds:
                operation(next(numbers))
                done[worker] += 1
        except OSError as error:
            failures.append(error)

    threads = [threading.Thread(target=work, args=(worker,)) for worker in range(workers)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failures:
        raise failures[0]
    count = sum(done)
    used = (time.process_time() - cpu_began) * 1000
    return Reading(value=count / (time.perf_counter() - began), cpu_ms={"limit": used / count})


def empty(folder: Path) -> None:
    """Free the room of all files below a folder, and let them be.

    For minutes after many files have been removed ext4 is slow to make others.
    """
    for path in folder.rglob("*"):
        if path.is_file() and not path.is_symlink():
            os.truncate(path, 0)


@contextlib.contextmanager
def _scratch(folder: Path) -> Iterator[Path]:
    path = Path(tempfile.mkdtemp(prefix="limit-", dir=folder))
    try:
        yield path
    finally:
        empty(path)
