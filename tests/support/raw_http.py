"""HTTP by hand, for requests that no client library would send."""

import json
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.client import HTTPResponse
from typing import Any

from tests.support.cluster import HOST, Server

BOUNDARY = "form-boundary-of-the-tests"


@dataclass(frozen=True)
class Answer:
    """One answer, read to its end."""

    status: int
    headers: dict[str, str]
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body)


@dataclass(frozen=True)
class Form:
    """A multipart body and the pieces that tests take away from it."""

    parts: bytes
    closing: bytes = field(default=f"--{BOUNDARY}--\r\n".encode())

    @property
    def body(self) -> bytes:
        return self.parts + self.closing

    def headers(self, **others: str) -> dict[str, str]:
        return {"Content-Type": f"multipart/form-data; boundary={BOUNDARY}", **others}


def form(content: bytes, *, disposition: str = 'name="file"; filename="file.bin"') -> Form:
    """Return a form of one part."""
    return Form(part(content, disposition=disposition))


def part(content: bytes, *, disposition: str, content_type: str = "") -> bytes:
    kind = f"Content-Type: {content_type}\r\n" if content_type else ""
    head = f"--{BOUNDARY}\r\nContent-Disposition: form-data; {disposition}\r\n{kind}\r\n"
    return head.encode() + content + b"\r\n"


def chunked(*pieces: bytes, end: bool = True) -> bytes:
    """Return a body in HTTP chunks; without `end` the last one is missing."""
    body = b"".join(f"{len(piece):x}\r\n".encode() + piece + b"\r\n" for piece in pieces)
    return body + (b"0\r\n\r\n" if end else b"")


class Connection:
    """A socket to a server of the cluster."""

    def __init__(self, server: Server, seconds: float = 15.0) -> None:
        self.socket = socket.create_connection((HOST, server.port), timeout=seconds)
        self._host = f"{HOST}:{server.port}"

    def head(self, method: str, target: str, headers: dict[str, str] | None = None) -> None:
        """Send a request's line and headers."""
        fields = {"Host": self._host, **(headers or {})}
        lines = [f"{method} {target} HTTP/1.1", *(f"{k}: {v}" for k, v in fields.items()), "", ""]
        self.send("\r\n".join(lines).encode("latin-1"))

    def send(self, data: bytes) -> None:
        self.socket.sendall(data)

    def half_close(self) -> None:
        """Say that nothing more will be sent, and stay to read."""
        self.socket.shutdown(socket.SHUT_WR)

    def read(self, method: str = "GET") -> Answer:
        """Return the next answer; ConnectionError when the server hangs up without one."""
        response = HTTPResponse(self.socket, method=method)
        try:
            response.begin()
            headers = {name.lower(): value for name, value in response.getheaders()}
            return Answer(response.status, headers, response.read())
        finally:
            response.close()

    def close(self) -> None:
        self.socket.close()


@contextmanager
def connect(server: Server, seconds: float = 15.0) -> Iterator[Connection]:
    connection = Connection(server, seconds)
    try:
        yield connection
    finally:
        connection.close()


def send(
    server: Server,
    method: str,
    target: str,
    headers: dict[str, str] | None = None,
    body: bytes = b"",
) -> Answer:
    """Send one request exactly as given, and return the answer."""
    with connect(server) as connection:
        connection.head(method, target, {"Connection": "close", **(headers or {})})
        if body:
            connection.send(body)
        return connection.read(method)


def send_form(server: Server, sent: Form, **headers: str) -> Answer:
    """Upload a form with its true Content-Length, unless `headers` say otherwise."""
    length = {"Content-Length": str(len(sent.body))}
    return send(server, "POST", "/upload", {**sent.headers(), **length, **headers}, sent.body)
