"""The nodes' HTTP protocol: what the application has at hand is answered at once.

The parser, a task and ASGI's messages cost several times what it takes to send a small blob. A
client's requests mostly differ in their first line alone, so what the parser and the application
have made of the other lines is remembered by their bytes. Whatever is unusual goes the usual way.
"""

from typing import Any, Final, Protocol, cast

from uvicorn.protocols.http.httptools_impl import STATUS_LINE

from mini_dropbox.asgi_types import Scope
from mini_dropbox.patient_protocol import PatientProtocol

END_OF_FIRST_LINE: Final = b" HTTP/1.1\r\n"
# Longer fields are not remembered: each connection may keep so much.
MAX_FIELDS_BYTES: Final = 2048


class QuickAnswers(Protocol):
    """What an ASGI application with an attribute `quick_answers` offers.

    Both methods are called on the event loop, and answer what the application itself would.
    """

    # What the first lines of these requests begin with.
    prefix: bytes

    def takes(self, scope: Scope) -> bool:
        """Tell whether requests like this one, whatever the target, need no look at the fields."""

    def answer(self, request: bytes) -> bytes | None:
        """Return what follows the server's own fields in an answer 200, or None to be called.

        `request` is the method and the target, as in `GET /path?query`.
        """


class QuickProtocol(PatientProtocol):
    """The patient protocol, which asks `quick_answers` first; for HTTP/1.1 that is kept alive."""

    _quick: QuickAnswers | None = None
    _usual_fields: bytes | None = None
    _unusual_fields: bytes | None = None
    # Between two messages the parser has nothing that the next bytes could belong to.
    _in_message: bool = False
    _answered_at: float = 0.0
    _default_headers: Any = None
    _beginning: bytes = b""

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        # An access log, or a limit of requests, is for those who take the usual way.
        if not self.access_log and self.limit_concurrency is None and not self.root_path:
            self._quick = getattr(self.app, "quick_answers", None)

    def data_received(self, data: bytes) -> None:
        if self._quick is None or not data.startswith(self._quick.prefix):
            super().data_received(data)
            return
        request, _, fields = data.partition(END_OF_FIRST_LINE)
        if fields == self._usual_fields and self._answered(request):
            return
        super().data_received(data)
        if fields not in {self._usual_fields, self._unusual_fields}:
            self._judge(request, fields)

    def on_message_begin(self) -> None:
        self._in_message = True
        super().on_message_begin()

    def on_message_complete(self) -> None:
        self._in_message = self.parser.should_upgrade()
        super().on_message_complete()

    def timeout_keep_alive_handler(self) -> None:
        # The timer is left alone by quick answers, which is cheaper than to set it anew.
        remaining = self._answered_at + self.timeout_keep_alive - self.loop.time()
        if remaining > 0:
            self.timeout_keep_alive_task = self.loop.call_later(
                remaining, self.timeout_keep_alive_handler
            )
        else:
            super().timeout_keep_alive_handler()

    def _answered(self, request: bytes) -> bool:
        """Answer if it is this request's turn, and the client has taken all earlier answers."""
        if (
            self._quick is None
            or self._refused
            or self._in_message
            or not self.cycle.response_complete
            or self.transport.get_write_buffer_size()
        ):
            return False
        answer = self._quick.answer(request)
        if answer is None:
            return False
        self._last_data = self._answered_at = self.loop.time()
        self.server_state.total_requests += 1
        self.transport.write(self._status_and_defaults() + answer)
        return True

    def _status_and_defaults(self) -> bytes:
        """Return what uvicorn begins an answer 200 with; its headers change every second."""
        headers = self.server_state.default_headers
        if headers is not self._default_headers:
            lines = [b"%b: %b\r\n" % field for field in headers]
            self._default_headers, self._beginning = headers, b"".join([STATUS_LINE[200], *lines])
        return self._beginning

    def _judge(self, request: bytes, fields: bytes) -> None:
        """Remember what is to be thought of these fields, now that the parser has read them."""
        if len(fields) > MAX_FIELDS_BYTES or self.cycle is None or self._quick is None:
            return
        scope = cast("Scope", self.cycle.scope)
        as_parsed = b"".join(b"%b: %b\r\n" % field for field in scope["headers"]) + b"\r\n"
        target = scope["raw_path"] + b"?" + scope["query_string"]
        is_this = request == b"%b %b" % (scope["method"].encode(), target)
        # Only if the parser sees the same, with nothing before or behind it.
        if is_this and as_parsed.lower() == fields.lower() and self._quick.takes(scope):
            self._usual_fields = fields
        else:
            self._unusual_fields = fields
