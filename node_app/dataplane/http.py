"""Requests and answers of the data plane."""

import json
import logging
from collections.abc import Iterable
from typing import Any, Final
from urllib.parse import parse_qsl, quote

from mini_dropbox.asgi_types import Headers, Receive, Scope, Send
from mini_dropbox.draining import drain, drain_large
from mini_dropbox.large_bodies import EXTENSION as LARGE_BODY
from mini_dropbox.large_bodies import BodyCutOff, Take
from mini_dropbox.request_stats import Served
from mini_dropbox.zerocopy import EXTENSION as ZERO_COPY
from node_app.errors import NodeError, ShuttingDown, Truncated

logger = logging.getLogger(__name__)


MAX_QUERY_FIELDS: Final = 20


class ClientGone(Exception):
    """The client closed the connection; there is nobody to answer."""


class Request:
    """One HTTP request. Header names are lower-case bytes.

    `status` is that of the answer, and 0 before it has begun. Bytes are counted in `served`.
    """

    def __init__(
        self, scope: Scope, receive: Receive, send: Send, served: Served | None = None
    ) -> None:
        self.scope = scope
        self.method: str = scope["method"]
        self.path: str = scope["path"]
        self.headers: dict[bytes, bytes] = dict(scope["headers"])
        self._receive = receive
        self._send = send
        self._body_complete = False
        self._read_large_body = scope.get("extensions", {}).get(LARGE_BODY)
        self._is_large_body_begun = False
        self._served = served or Served()
        self.status = 0
        self.extra_headers: Headers = []

    @property
    def started(self) -> bool:
        """Whether the answer has begun."""
        return bool(self.status)

    @property
    def target(self) -> str:
        """The path and query as they were sent, for signatures."""
        query = self.scope["query_string"]
        raw = self.scope["raw_path"] + (b"?" + query if query else b"")
        return str(raw.decode("latin-1"))

    def header(self, name: bytes) -> str | None:
        value = self.headers.get(name)
        return None if value is None else value.decode("latin-1")

    def query(self) -> dict[str, str]:
        """Return the query's values; of a repeated name the first."""
        text = self.scope["query_string"].decode("latin-1")
        try:
            pairs = parse_qsl(text, keep_blank_values=True, max_num_fields=MAX_QUERY_FIELDS)
        except ValueError:
            return {}
        return dict(reversed(pairs))

    def content_length(self) -> int | None:
        """Return the announced length of the body in bytes; None for a chunked one."""
        value = self.headers.get(b"content-length")
        return None if value is None else int(value)

    async def read_large_body(self, take: Take) -> bool:
        """Give a whole large body to `take`, called in threads; False for one that is not large.

        Each piece can be used during the call only. ClientGone if the body is cut off.
        """
        if self._read_large_body is None:
            return False
        self._is_large_body_begun = True

        def counted(piece: bytearray) -> None:
            self._served.receive_in_thread(len(piece))
            take(piece)

        try:
            self._body_complete = await self._read_large_body(counted)
        except BodyCutOff:
            raise ClientGone from None
        self._is_large_body_begun = self._body_complete
        return self._body_complete

    async def chunk(self) -> bytes:
        """Return the body's next bytes, and nothing at its end; ClientGone if it is cut off."""
        while not self._body_complete:
            message = await self._receive()
            if message["type"] == "http.disconnect":
                raise ClientGone
            self._body_complete = not message.get("more_body", False)
            if message.get("body"):
                self._served.received_on_loop += len(message["body"])
                return bytes(message["body"])
        return b""

    async def wait_for_disconnect(self) -> None:
        """Return when the client has gone; to be awaited once the body is read."""
        while (await self._receive())["type"] != "http.disconnect":
            pass

    async def start(self, status: int, headers: Headers) -> None:
        self.status = status
        await self._send(
            {
                "type": "http.response.start",
                "status": status,
                "headers": headers + self.extra_headers,
            }
        )

    async def send(self, body: bytes, *, more: bool = False) -> None:
        await self._send({"type": "http.response.body", "body": body, "more_body": more})
        self._served.sent += len(body)

    @property
    def can_send_files(self) -> bool:
        return ZERO_COPY in self.scope.get("extensions", {})

    async def send_file(self, file: int, offset: int, count: int) -> None:
        """Let the kernel send the whole body from an open file; FileCutShort if it ends early."""
        report = self._served.send
        part = {"type": ZERO_COPY, "file": file, "offset": offset, "count": count}
        await self._send({**part, "report": report})

    async def respond(self, status: int, body: bytes, headers: Headers) -> None:
        await self.start(status, headers)
        await self.send(body)

    async def respond_json(self, status: int, body: dict[str, Any], *extra: Headers) -> None:
        data = json.dumps(body).encode()
        await self.respond(status, data, json_headers(data, *extra))

    async def refuse(self, error: NodeError, *extra: Headers) -> None:
        """Answer with an error, then let the client finish what it is sending.

        An answer that is under way is left unfinished: the server then breaks the connection.
        """
        if self.started:
            logger.warning("%s %s broken off: %s", self.method, self.path, error)
            return
        data = json.dumps(error_body(error)).encode()
        headers = json_headers(data, *extra)
        if self._body_complete or self._has_no_body():
            await self.respond(error.status, data, headers)
            return
        await self.start(error.status, [*headers, (b"connection", b"close")])
        await self.send(data, more=True)
        if self.header(b"expect") is None and not isinstance(error, ShuttingDown):
            await self._drop_rest()
        await self.send(b"")

    async def _drop_rest(self) -> None:
        if self._is_large_body_begun and self._read_large_body is not None:
            await drain_large(self._read_large_body)
        else:
            await drain(self._receive)

    def _has_no_body(self) -> bool:
        return self.content_length() in {None, 0} and b"transfer-encoding" not in self.headers


def error_body(error: NodeError) -> dict[str, Any]:
    """Return an error as the original's clients read it (`message`) and as the master says it."""
    return {"success": False, "message": str(error), "detail": str(error), "code": error.code}


def json_headers(data: bytes, *extra: Headers) -> Headers:
    return [
        (b"content-type", b"application/json"),
        (b"content-length", str(len(data)).encode()),
        (b"cache-control", b"no-store"),
        (b"x-content-type-options", b"nosniff"),
        *(header for headers in extra for header in headers),
    ]


def header(name: bytes, value: str | int) -> tuple[bytes, bytes]:
    return name, str(value).encode("latin-1")


def attachment(name: str) -> str:
    """Return a Content-Disposition that saves under `name` and is never shown in place.

    The quoted form is for old clients and ASCII alone (RFC 6266, appendix D).
    """
    plain = "".join(c if c.isascii() and c.isprintable() and c not in '"\\%' else "_" for c in name)
    return f"attachment; filename=\"{plain}\"; filename*=UTF-8''{quote(name, safe='')}"


def check_complete(received: int, announced: int | None) -> None:
    """Raise Truncated unless as many bytes came as were announced."""
    if announced is not None and received != announced:
        raise Truncated(f"{received} of {announced} bytes came; send the request again, whole.")


def allow(methods: Iterable[str]) -> Headers:
    return [header(b"allow", ", ".join(sorted(methods)))]
