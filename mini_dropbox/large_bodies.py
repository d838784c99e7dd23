"""Large request bodies, received into large buffers instead of through the HTTP parser.

The parser hands on what each read of the socket brings, mostly a few dozen KiB: every time some
copies, a task that wakes up, and reading paused and resumed. A body whose length is known needs no
parsing, so the transport reads it straight into pieces as large as the application's own work.
"""

import asyncio
from collections import deque
from typing import TYPE_CHECKING, Final

from uvicorn.protocols.http.httptools_impl import RequestResponseCycle

from mini_dropbox.asgi_types import Message

if TYPE_CHECKING:
    from mini_dropbox.patient_protocol import PatientProtocol

# A body with less than this to come is no gain.
LARGE_BYTES: Final = 256 * 1024
PIECE_BYTES: Final = 256 * 1024


class LargeBody(asyncio.BufferedProtocol):
    """Stands in for a connection's protocol until one request's body is complete.

    One full piece may wait for the application while the next is filled. What comes after the
    request was answered or refused is dropped. `left` bytes are to come.
    """

    def __init__(self, server: "PatientProtocol", cycle: RequestResponseCycle, left: int) -> None:
        self._server = server
        self._cycle = cycle
        self._left = left
        self._receive_rest = cycle.receive
        self._full: deque[bytes | bytearray] = deque()
        self._filled = len(cycle.body)
        self._piece = bytearray(min(PIECE_BYTES, self._filled + left))
        self._piece[: self._filled] = cycle.body
        cycle.body = bytearray()

    async def receive(self) -> Message:
        """Be ASGI's `receive`; the last piece of a body that was cut off is not a full one."""
        cycle = self._cycle
        if cycle.waiting_for_100_continue and not cycle.transport.is_closing():
            cycle.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
            cycle.waiting_for_100_continue = False
        while not self._full:
            if cycle.disconnected or cycle.response_complete:
                if not self._filled:
                    return {"type": "http.disconnect"}
                self._full.append(self._piece[: self._filled])
                self._filled = 0
            elif not self._left:
                return await self._receive_rest()
            else:
                cycle.message_event.clear()
                await cycle.message_event.wait()
        piece = self._full.popleft()
        cycle.flow.resume_reading()
        more_body = bool(self._left or self._full)
        return {"type": "http.request", "body": piece, "more_body": more_body}

    def get_buffer(self, sizehint: int) -> memoryview:
        return memoryview(self._piece)[self._filled :]

    def buffer_updated(self, nbytes: int) -> None:
        self._left -= nbytes
        self._server.body_received()
        if self._cycle.response_complete or self._cycle.disconnected:
            self._begin_piece()
        else:
            self._filled += nbytes
            if self._filled == len(self._piece):
                self._hand_over()
        if not self._left:
            self._server.body_complete()

    def eof_received(self) -> bool | None:
        return self._server.eof_received()

    def connection_lost(self, exc: Exception | None) -> None:
        self._server.connection_lost(exc)

    def pause_writing(self) -> None:
        self._server.pause_writing()

    def resume_writing(self) -> None:
        self._server.resume_writing()

    def _hand_over(self) -> None:
        """Let the application have a full piece, and begin the next."""
        self._full.append(self._piece)
        self._begin_piece()
        if len(self._full) > 1:
            self._cycle.flow.pause_reading()
        self._cycle.message_event.set()

    def _begin_piece(self) -> None:
        """Take a new buffer, which never has room for more than the body."""
        self._filled = 0
        self._piece = bytearray(min(PIECE_BYTES, self._left))
