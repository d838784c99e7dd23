"""An HTTP server on loopback that remembers what it was asked and can misbehave as told."""

import contextlib
import json
import socket
import threading
import time
from collections import deque
from dataclasses import dataclass, field
from email.message import Message
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self
from urllib.parse import parse_qs, urlsplit


@dataclass(frozen=True)
class Request:
    """What a client sent, and when."""

    method: str
    target: str
    headers: Message
    body: bytes
    at: float

    @property
    def path(self) -> str:
        return urlsplit(self.target).path

    @property
    def query(self) -> dict[str, str]:
        return {name: values[0] for name, values in parse_qs(urlsplit(self.target).query).items()}

    @property
    def json(self) -> Any:
        return json.loads(self.body)


@dataclass(frozen=True, kw_only=True)
class Reply:
    """What the server answers; `says_length` larger than the body cuts the answer off."""

    status: int = 200
    body: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)
    says_length: int | None = None

    @classmethod
    def json(cls, data: Any, status: int = 200, **headers: str) -> Self:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        named["Content-Type"] = "application/json"
        return cls(status=status, body=json.dumps(data).encode(), headers=named)


class Silence:
    """The server takes the request and says nothing for as long as it lives."""


class Hangup:
    """The server takes the request and closes the connection."""


class Drip:
    """The server sends a body of which each byte takes a while."""


Behaviour = Reply | Silence | Hangup | Drip


class FakeServer:
    """Answers with `replies`, in order, and after them with what `answer` makes of a request."""

    def __init__(self) -> None:
        self.requests: list[Request] = []
        self.replies: deque[Behaviour] = deque()
        self._closing = threading.Event()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _handler_of(self))
        self._server.daemon_threads = True
        self._thread = threading.Thread(
            target=self._server.serve_forever, kwargs={"poll_interval": 0.02}
        )
        self._thread.start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def port(self) -> int:
        return int(self._server.server_address[1])

    @property
    def origin(self) -> tuple[str, int]:
        return "127.0.0.1", self.port

    def answer(self, request: Request) -> Behaviour:
        return Reply(status=404)

    def close(self) -> None:
        self._closing.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def respond(self, request: Request, handler: BaseHTTPRequestHandler) -> None:
        self.requests.append(request)
        behaviour = self.replies.popleft() if self.replies else self.answer(request)
        if isinstance(behaviour, Reply):
            length = behaviour.says_length
            handler.send_response(behaviour.status)
            for name, value in behaviour.headers.items():
                handler.send_header(name, value)
            handler.send_header(
                "Content-Length", str(len(behaviour.body) if length is None else length)
            )
            handler.end_headers()
            handler.wfile.write(behaviour.body)
            handler.close_connection = length is not None
            return
        if isinstance(behaviour, Silence):
            self._closing.wait(30)
        if isinstance(behaviour, Drip):
            handler.send_response(200)
            handler.send_header("Content-Length", "1000000")
            handler.end_headers()
            while not self._closing.wait(0.02):
                handler.wfile.write(b" ")
                handler.wfile.flush()
        handler.close_connection = True
        with contextlib.suppress(OSError):
            handler.connection.shutdown(socket.SHUT_RDWR)


def _handler_of(server: FakeServer) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def _any(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            request = Request(self.command or "", self.path, self.headers, body, time.monotonic())
            with contextlib.suppress(ConnectionError):
                server.respond(request, self)

        do_GET = do_POST = _any  # noqa: N815  The base class calls them so.

        def log_message(self, *_: object) -> None:
            """Say nothing: tests look at `requests`."""

    return Handler
