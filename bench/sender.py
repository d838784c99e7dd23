"""Sends large bodies over and over, each with an end of its own, at next to no cost.

    python -m bench.sender --way blob --body FILE --connections 4 --seconds 5 127.0.0.1:8001

The file goes to the socket by sendfile(2), without a copy in user space. 32 bytes after it make
each body another one; its MD5 comes from a copy of the file's digest state. Prints what it saw as
one JSON object, the fields of `bench.load.Load`.
"""

import argparse
import hashlib
import itertools
import json
import os
import secrets
import socket
import statistics
import struct
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO, Final

BOUNDARY: Final = "----bench-boundary-5c1d0b7e"
FORM_HEAD: Final = (
    f"--{BOUNDARY}\r\nContent-Disposition: form-data; "
    'name="file"; filename="large.bin"\r\nContent-Type: application/octet-stream\r\n\r\n'
)
FORM_END: Final = f"\r\n--{BOUNDARY}--\r\n"
END_BYTES: Final = 32
# Sixteen large files at once keep one disk busy for minutes after their last byte.
ANSWER_SECONDS: Final = 900
TUS_VERSION: Final = "Tus-Resumable: 1.0.0\r\n"


class Refused(Exception):
    """A server did not do what was asked of it."""


@dataclass
class Tally:
    """What all connections have seen together."""

    latencies: list[float] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)


class Connection:
    """One connection, kept open, that sends one body after the other."""

    def __init__(self, target: str, way: str, body: BinaryIO, digest: Any) -> None:
        self._target = target
        self._way = way
        self._file = body.fileno()
        self._size = os.fstat(self._file).st_size
        self._digest = digest
        host, _, port = target.rpartition(":")
        self._socket = socket.create_connection((host, int(port)))
        # The kernel's own time limits: with Python's the socket would not block in sendfile.
        limit = struct.pack("ll", ANSWER_SECONDS, 0)
        for option in (socket.SO_SNDTIMEO, socket.SO_RCVTIMEO):
            self._socket.setsockopt(socket.SOL_SOCKET, option, limit)
        # The end of a body must not wait until what was before it has been acknowledged.
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._answers = self._socket.makefile("rb")

    def send_one(self) -> None:
        """Send one body and check the answer; Refused when it is not what it should be."""
        end = secrets.token_hex(END_BYTES // 2).encode()
        digest = self._digest.copy()
        digest.update(end)
        md5 = digest.hexdigest()
        getattr(self, f"_send_{self._way}")(md5, end)

    def _send_form(self, md5: str, end: bytes) -> None:
        length = len(FORM_HEAD) + self._size + END_BYTES + len(FORM_END)
        kind = f"Content-Type: multipart/form-data; boundary={BOUNDARY}\r\n"
        self._begin("POST", "/upload", length, kind, FORM_HEAD)
        self._send_body(end + FORM_END.encode())
        self._check_stored(md5)

    def _send_blob(self, md5: str, end: bytes) -> None:
        self._begin("PUT", f"/blobs/{md5}", self._size + END_BYTES, "X-File-Name: large.bin\r\n")
        self._send_body(end)
        self._check_stored(md5)

    def _send_plain(self, md5: str, end: bytes) -> None:
        self._begin("PUT", f"/dav/{md5}", self._size + END_BYTES)
        self._send_body(end)
        self._read_answer()

    def _send_tus(self, md5: str, end: bytes) -> None:
        length = self._size + END_BYTES
        self._begin("POST", "/uploads/", 0, f"{TUS_VERSION}Upload-Length: {length}\r\n")
        headers, _ = self._read_answer()
        path = "/" + headers["location"].partition("://")[2].partition("/")[2]
        if headers["location"].startswith("/"):
            path = headers["location"]
        kind = f"{TUS_VERSION}Upload-Offset: 0\r\nContent-Type: application/offset+octet-stream\r\n"
        self._begin("PATCH", path, length, kind)
        self._send_body(end)
        self._read_answer()
        self._socket.sendall(f"HEAD {path} HTTP/1.1\r\nHost: {self._target}\r\n\r\n".encode())
        headers, _ = self._read_answer(has_body=False)
        if headers.get("x-blob-hash") != md5:
            raise Refused(f"tus says X-Blob-Hash {headers.get('x-blob-hash')}, not {md5}")

    def _begin(
        self, method: str, path: str, length: int, headers: str = "", body: str = ""
    ) -> None:
        head = (
            f"{method} {path} HTTP/1.1\r\nHost: {self._target}\r\n"
            f"Content-Length: {length}\r\n{headers}\r\n{body}"
        )
        self._socket.sendall(head.encode(), socket.MSG_MORE if length else 0)

    def _send_body(self, end: bytes) -> None:
        offset = 0
        while offset < self._size:
            sent = os.sendfile(self._socket.fileno(), self._file, offset, self._size - offset)
            if not sent:
                raise Refused("the file has become shorter")
            offset += sent
        self._socket.sendall(end)

    def _check_stored(self, md5: str) -> None:
        _, content = self._read_answer()
        answer = json.loads(content)
        if answer["hash"] != md5 or answer["registered"] is not True:
            raise Refused(f"for {md5} the answer was {content[:300]!r}")

    def _read_answer(self, *, has_body: bool = True) -> tuple[dict[str, str], bytes]:
        status = self._answers.readline().decode()
        if not status:
            raise Refused(f"no answer, or none within {ANSWER_SECONDS} s")
        headers: dict[str, str] = {}
        while line := self._answers.readline().decode().strip():
            name, _, value = line.partition(":")
            headers[name.lower()] = value.strip()
        length = int(headers.get("content-length", "0")) if has_body else 0
        content = self._answers.read(length)
        if not status.startswith("HTTP/1.1 2"):
            raise Refused(f"{status.strip()} {content[:300]!r}")
        return headers, content


def main() -> None:
    options = parse_options()
    with options.body.open("rb") as body:
        digest = hashlib.file_digest(body, "md5")
        connections = [
            Connection(options.targets[number % len(options.targets)], options.way, body, digest)
            for number in range(options.connections)
        ]
        tally = Tally()
        began, cpu_began = time.perf_counter(), time.process_time()
        turns = turns_until(began + options.seconds, options.count)
        threads = [
            threading.Thread(target=work, args=(connection, turns, tally))
            for connection in connections
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        print(
            json.dumps(report(tally, time.perf_counter() - began, time.process_time() - cpu_began))
        )


def turns_until(deadline: float, count: int) -> Iterator[int]:
    """Yield a number for each body: `count` of them, or without it as many as time allows."""
    if count:
        return iter(range(count))
    return itertools.takewhile(lambda _: time.perf_counter() < deadline, itertools.count())


def work(connection: Connection, turns: Iterator[int], tally: Tally) -> None:
    """Send until there are no turns left; the first failure ends it."""
    for _ in turns:
        began = time.perf_counter()
        try:
            connection.send_one()
        except (OSError, Refused, ValueError, KeyError) as error:
            tally.failures.append(f"{type(error).__name__}: {error}")
            return
        tally.latencies.append(time.perf_counter() - began)


def report(tally: Tally, seconds: float, cpu_seconds: float) -> dict[str, Any]:
    times = sorted(tally.latencies) or [0.0]
    return {
        "operations": len(tally.latencies),
        "seconds": seconds,
        "failed": len(tally.failures),
        "received_bytes": 0,
        "cpu_seconds": cpu_seconds,
        "p50_ms": statistics.median(times) * 1000,
        "p99_ms": times[int(len(times) * 0.99)] * 1000,
        "failure": tally.failures[0] if tally.failures else "",
    }


def parse_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("targets", nargs="+", metavar="host:port")
    parser.add_argument("--way", required=True, choices=["form", "blob", "plain", "tus"])
    parser.add_argument("--body", required=True, type=Path)
    parser.add_argument("--connections", type=int, default=4)
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--count", type=int, default=0)
    return parser.parse_args()


if __name__ == "__main__":
    main()
