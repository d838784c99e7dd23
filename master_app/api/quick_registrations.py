"""Groups of registrations without Django's request machinery, which costs more than most groups.

Every upload waits for one. A request that is not a signed JSON message of a usual size goes to
`internal.RegistrationsView`, which answers the same to those that are.
"""

import asyncio
import io
import json
import logging
from typing import Any, Final

from django.db import close_old_connections

from master_app.api.authentication import check_body
from master_app.api.internal import apply_registrations
from master_app.cluster_signer import cluster_signer
from mini_dropbox.asgi_types import Application, Message, Receive, Scope, Send
from mini_dropbox.errors import exception_handler
from mini_dropbox.parsers import JSONParser
from mini_dropbox.request_threads import REQUEST_THREADS
from mini_dropbox.signing import SignatureError, SignedRequest
from mini_dropbox.wire import REGISTRATIONS_PATH

logger = logging.getLogger(__name__)

# Far more than a group of the largest names; beyond it the view reads from a file.
MAX_BYTES: Final = 1024 * 1024

_Answer = tuple[int, dict[str, str], bytes]


class QuickRegistrations:
    """Stands in front of Django on the master."""

    def __init__(self, fallback: Application) -> None:
        self._fallback = fallback

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["path"] != REGISTRATIONS_PATH or not _is_usual(scope):
            await self._fallback(scope, receive, send)
            return
        body, last = await _read(receive)
        signed = _signed(scope) if last["type"] == "http.request" else None
        if signed is None:
            await self._fallback(scope, _again(body, last, receive), send)
            return
        thread = REQUEST_THREADS.take()
        try:
            loop = asyncio.get_running_loop()
            answer = await asyncio.shield(loop.run_in_executor(thread, _answer, body, signed))
        finally:
            REQUEST_THREADS.give_back(thread)
        await _send(send, answer)


def _is_usual(scope: Scope) -> bool:
    headers = dict(scope["headers"])
    length = headers.get(b"content-length", b"")
    return (
        scope["method"] == "POST"
        and headers.get(b"content-type") == b"application/json"
        and length.isdigit()
        and 0 < int(length) <= MAX_BYTES
    )


async def _read(receive: Receive) -> tuple[bytes, Message]:
    """Return the body, and the message that ended it: its last part, or a disconnect."""
    body = bytearray()
    while True:
        message = await receive()
        body += message.get("body", b"")
        if not message.get("more_body", False):
            return bytes(body), message


def _again(body: bytes, last: Message, receive: Receive) -> Receive:
    """Return a `receive` that begins with what has been read already."""
    first = {"type": "http.request", "body": body, "more_body": False}
    waiting = [first if last["type"] == "http.request" else last]

    async def received() -> Message:
        return waiting.pop() if waiting else await receive()

    return received


def _signed(scope: Scope) -> SignedRequest | None:
    """Return who signed the request; None leaves it to the view to say why nobody did."""
    authorization = dict(scope["headers"]).get(b"authorization", b"").decode("latin-1")
    query = scope["query_string"].decode("latin-1")
    target = f"{REGISTRATIONS_PATH}?{query}" if query else REGISTRATIONS_PATH
    try:
        return cluster_signer().verify(authorization, "POST", target)
    except SignatureError:
        return None


def _answer(body: bytes, signed: SignedRequest) -> _Answer:
    """Return status, headers and body of the answer. Blocks on the database."""
    close_old_connections()
    try:
        check_body(body, signed)
        return 200, {}, _json(apply_registrations(JSONParser().parse(io.BytesIO(body))))
    except Exception as error:
        response = exception_handler(error, {})
        if response is None:
            logger.exception("Registrations failed")
            detail = "Something went wrong here; the log says what."
            return 500, {}, _json({"detail": detail, "code": "server_error"})
        return response.status_code, dict(response.headers), _json(response.data)


def _json(data: Any) -> bytes:
    return json.dumps(data).encode()


async def _send(send: Send, answer: _Answer) -> None:
    status, headers, body = answer
    fields = {
        **headers,
        "Content-Type": "application/json",
        "Content-Length": str(len(body)),
        "X-Content-Type-Options": "nosniff",
    }
    encoded = [(name.lower().encode(), value.encode()) for name, value in fields.items()]
    await send({"type": "http.response.start", "status": status, "headers": encoded})
    await send({"type": "http.response.body", "body": body})
