"""The HTTP protocol of both roles: uvicorn's, with time limits for quiet clients.

It has ASGI extensions for files that the kernel sends, and for large bodies that threads receive,
where the system can do that.
"""

import json
import socket
import struct
import sys
from asyncio import TimerHandle, Transport
from collections.abc import Awaitable
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, Final, cast

import httptools
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from mini_dropbox import large_bodies, zerocopy
from mini_dropbox.asgi_types import Application, Message, Receive, Scope, Send
from mini_dropbox.env import Role
from mini_dropbox.large_bodies import BodyCutOff, LargeBody, Take
from mini_dropbox.zerocopy import FileSending, ReaderGone

# A request's line and headers together; what browsers send is a small part of it.
MAX_HEAD_BYTES: Final = 64 * 1024
# Where Linux's `struct tcp_info` (linux/tcp.h) counts the bytes that the other side has taken.
TCP_INFO_BYTES_ACKED: Final = 120
# A refused client may go on sending for this long: hung up on at once, it would not get to read
# why it was refused.
LINGER_SECONDS: Final = 1.0


@dataclass(frozen=True)
class TimeLimits:
    """Seconds that a connection may be quiet: amid a request or answer, and between requests."""

    read: float
    idle: float


TIME_LIMITS: Final = {Role.MASTER: TimeLimits(15, 60), Role.NODE: TimeLimits(30, 120)}


class HeadTooLarge(Exception):
    """A request's line and headers, or its trailers, go beyond all use."""


class PatientProtocol(HttpToolsProtocol):
    """uvicorn's HTTP protocol, patient for a stated time and honest about cut-off bodies.

    uvicorn alone waits for ever for a request that never ends and for a reader that never
    reads, keeps headers of any size, and tells an application of a half-closed body as of a
    vanished client.
    """

    read_limit: float = TIME_LIMITS[Role.NODE].read

    _watch: TimerHandle | None = None
    _last_data: float = 0.0
    _last_position: tuple[int, int, int] = (0, 0, 0)
    _position_since: float = 0.0
    _head_bytes: int = 0
    _unparsed_bytes: int = 0
    _refused: bool = False
    # Of pipelined requests the one whose turn it is; `cycle` is the newest.
    _running: RequestResponseCycle | None = None
    _file: FileSending | None = None
    # What is to come, through the parser, of a body whose length was announced.
    _body_left: int = 0
    _large_body: LargeBody | None = None

    def connection_made(self, transport: Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._last_data = self.loop.time()
        self._watch = self.loop.call_later(self.read_limit, self._check_quiet)

    def connection_lost(self, exc: Exception | None) -> None:
        if self._watch is not None:
            self._watch.cancel()
        super().connection_lost(exc)
        self._tell_applications()

    def data_received(self, data: bytes) -> None:
        if self._refused:
            return
        self._last_data = self.loop.time()
        self._unparsed_bytes += len(data)
        super().data_received(data)
        if self._unparsed_bytes > MAX_HEAD_BYTES:
            # The parser keeps an unfinished header, however long it gets.
            self._refuse_head()

    def eof_received(self) -> bool:  # type: ignore[override]
        """Keep a half-closed connection open as long as it is owed an answer."""
        if self.cycle is None or self.cycle.response_complete:
            return False
        if self.cycle.more_body:
            self._refuse(400, "truncated_body", "The body ended early; send it again, whole.")
            return False
        self.cycle.keep_alive = False
        return True

    def on_message_begin(self) -> None:
        self._head_bytes = self._unparsed_bytes = 0
        super().on_message_begin()

    def on_url(self, url: bytes) -> None:
        self._count_head(len(url))
        super().on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        self._count_head(len(name) + len(value))
        super().on_header(name, value)

    def on_headers_complete(self) -> None:
        lengths = [int(value) for name, value in self.headers if name == b"content-length"]
        self._body_left = lengths[0] if lengths else 0
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        self._unparsed_bytes = 0
        self._body_left -= len(body)
        super().on_body(body)

    def on_response_complete(self) -> None:
        # Until now the server was at work: a pipelined request's client was owed its turn to send.
        self._last_data = self.loop.time()
        if self._large_body is not None:
            self._large_body.stop()
        super().on_response_complete()

    def send_400_response(self, msg: str) -> None:
        """Answer what the parser does not take, in the form of every other error."""
        if self._head_bytes > MAX_HEAD_BYTES:
            self._refuse_head()
        else:
            self._refuse(400, "bad_request", "This is no HTTP request that can be understood.")

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: Any) -> None:
        self._running = cycle
        # What is encrypted has to go through the transport.
        if self.scheme == "http":
            app = self._with_extensions(cycle, app)
        super()._start_asgi_task(cycle, app)

    def _with_extensions(self, cycle: RequestResponseCycle, app: Application) -> Application:
        """Return the application with what goes past the transport."""

        async def send(message: Message) -> None:
            if message["type"] == zerocopy.EXTENSION:
                await self._send_file(cycle, message)
            else:
                await cycle.send(cast("Any", message))

        async def read_large_body(take: Take) -> bool:
            return await self._read_large_body(cycle, take)

        def application(scope: Scope, receive: Receive, _: Send) -> Awaitable[None]:
            extensions = scope["extensions"] = {}
            if zerocopy.IS_SUPPORTED:
                extensions[zerocopy.EXTENSION] = {}
            if large_bodies.IS_SUPPORTED:
                extensions[large_bodies.EXTENSION] = read_large_body
            return app(scope, receive, send)

        return application

    async def _read_large_body(self, cycle: RequestResponseCycle, take: Take) -> bool:
        """Be a ReadLargeBody for the request that is being answered."""
        body = self._large_body
        if body is None:
            is_plain = cycle is self.cycle and not self.parser.should_upgrade()
            if self._body_left < large_bodies.LARGE_BYTES or not is_plain or cycle.disconnected:
                return False
            body = self._large_body = self._take_over_body(cycle)
        try:
            await body.read(take)
        except BaseException as error:
            # Nobody knows where the next request begins.
            cycle.keep_alive = False
            # A transport that does not read cannot see that the client has ended the connection.
            if isinstance(error, BodyCutOff) and not self.transport.is_closing():
                self.eof_received()
            raise
        self._large_body, self._body_left = None, 0
        if not self.transport.is_closing():
            self.parser = httptools.HttpRequestParser(self)
            self.parser.set_dangerous_leniencies(lenient_data_after_close=True)
            self.on_message_complete()
            self.flow.resume_reading()
        return True

    def _take_over_body(self, cycle: RequestResponseCycle) -> LargeBody:
        """Return the rest of a body, from the socket; the parser never sees it."""
        self.flow.pause_reading()
        if cycle.waiting_for_100_continue:
            self.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
            cycle.waiting_for_100_continue = False
        begun, cycle.body = cycle.body, bytearray()
        return LargeBody(self._socket_number(), begun, self._body_left)

    def _socket_number(self) -> int:
        return int(self.transport.get_extra_info("socket").fileno())

    async def _send_file(self, cycle: RequestResponseCycle, message: Message) -> None:
        """Send part of a file behind what the transport has still to write."""
        count = message["count"]
        if cycle.chunked_encoding is not False or count > cycle.expected_content_length:
            raise RuntimeError("A file needs an answer begun with its Content-Length.")
        if cycle.scope["method"] != "HEAD":
            self.transport.set_write_buffer_limits(high=0)
            await self.flow.drain()
            if cycle.disconnected or self.transport.is_closing():
                return
            self.transport.set_write_buffer_limits()
            self._file = FileSending(self._socket_number(), message.get("report"))
            try:
                await self._file.send(message["file"], message["offset"], count)
            except ReaderGone:
                cycle.disconnected = True
                self.transport.abort()
                return
            finally:
                self._file = None
            cycle.expected_content_length -= count
        more_body = message.get("more_body", False)
        await cycle.send({"type": "http.response.body", "body": b"", "more_body": more_body})

    def _count_head(self, size: int) -> None:
        self._unparsed_bytes = 0
        self._head_bytes += size
        if self._head_bytes > MAX_HEAD_BYTES:
            # It ends the parser, which makes uvicorn call `send_400_response`.
            raise HeadTooLarge

    def _check_quiet(self) -> None:
        """Close the connection if the client has not moved for a whole period; else look again."""
        now = self.loop.time()
        backlog = self.transport.get_write_buffer_size()
        sent = self._file.sent if self._file else 0
        is_owed = backlog > 0 or (self._file is not None and self._file.waits_for_reader)
        position = backlog, sent, _bytes_taken(self.transport)
        if position != self._last_position:
            self._last_position, self._position_since = position, now
        if is_owed:
            quiet_since = self._position_since
        elif self._large_body is not None:
            quiet_since = self._large_body.waits_since or now
        elif self._awaits_client():
            quiet_since = self._last_data
        else:
            quiet_since = self._last_data = now
        remaining = quiet_since + self.read_limit - now
        if remaining > 0:
            self._watch = self.loop.call_later(remaining, self._check_quiet)
        elif is_owed:
            self.transport.abort()
        else:
            self._refuse(408, "request_timeout", "Nothing came for too long; send it again.")

    def _awaits_client(self) -> bool:
        """Tell whether a request has begun whose next bytes are the client's to send."""
        if self.flow.read_paused or self.pipeline:
            return False
        if self.cycle is not None and not self.cycle.response_complete:
            return self.cycle.more_body
        # Between two requests uvicorn's own limit for idle connections runs.
        return self.timeout_keep_alive_task is None

    def _refuse_head(self) -> None:
        detail = f"The request's headers are larger than {MAX_HEAD_BYTES} bytes."
        self._refuse(431, "headers_too_large", detail)

    def _refuse(self, status: int, code: str, detail: str) -> None:
        """Answer for the application, which then sees a client that has gone, and close."""
        if self._refused:
            return
        self._refused = True
        if self._may_answer():
            body = json.dumps({"success": False, "message": detail, "detail": detail, "code": code})
            head = (
                f"HTTP/1.1 {status} {HTTPStatus(status).phrase}\r\n"
                "content-type: application/json\r\n"
                f"content-length: {len(body)}\r\nconnection: close\r\n\r\n"
            )
            self.transport.write((head + body).encode())
            self.transport.write_eof()
        self._tell_applications()
        self.loop.call_later(LINGER_SECONDS, self.transport.close)

    def _may_answer(self) -> bool:
        """Tell whether a refusal is what the client reads next: no other answer is due or begun."""
        if self.cycle is None:
            return True
        if self.cycle.response_complete:
            return not self.cycle.more_body
        is_its_turn = self.cycle is self._running
        return is_its_turn and self.cycle.more_body and not self.cycle.response_started

    def _tell_applications(self) -> None:
        """Let whoever waits for the client, or writes to it, see that it has gone."""
        for cycle in (self._running, self.cycle):
            if cycle is not None and not cycle.response_complete:
                cycle.disconnected = True
                cycle.message_event.set()
        if self._file is not None:
            self._file.abandon()
        if self._large_body is not None:
            self._large_body.stop()


def _bytes_taken(transport: Transport) -> int:
    """Return how much the client's side has acknowledged; 0 where the system does not tell.

    The backlog alone stands still for long: the kernel takes more of it only when megabytes of
    what it holds itself have gone.
    """
    if sys.platform != "linux":
        return 0
    connection: socket.socket = transport.get_extra_info("socket")
    try:
        info = connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, TCP_INFO_BYTES_ACKED + 8)
        return int(struct.unpack_from("=Q", info, TCP_INFO_BYTES_ACKED)[0])
    except (OSError, struct.error):
        return 0


class MasterProtocol(PatientProtocol):
    """The protocol with the master's limits."""

    read_limit = TIME_LIMITS[Role.MASTER].read
