"""How many requests are worked on at once: each takes a thread and a database connection."""

import asyncio
import json
from collections.abc import Collection
from typing import Final

from mini_dropbox import wire
from mini_dropbox.asgi_types import Application, Message, Receive, Scope, Send

MAX_AT_WORK: Final = 64
MAX_WAITING: Final = 1000
RETRY_AFTER_SECONDS: Final = 2
# Probes and the cluster's own requests have places apart: a rush of clients must neither look
# like a dead process nor make nodes count as down.
RESERVED_PATHS: Final = frozenset(
    {
        "/health",
        "/metrics",
        wire.HEARTBEAT_PATH,
        wire.REGISTRATIONS_PATH,
        wire.LOSSES_PATH,
    }
)
MAX_RESERVED_AT_WORK: Final = 16


class Places:
    """Places for requests at work, and for those that wait for one, first come first."""

    def __init__(self, *, at_work: int, waiting: int) -> None:
        self._free = asyncio.Semaphore(at_work)
        self._waiting = 0
        self._max_waiting = waiting

    async def take(self) -> bool:
        """Wait for a place and return True; False at once when too many do so already."""
        if self._free.locked() and self._waiting >= self._max_waiting:
            return False
        self._waiting += 1
        try:
            return await self._free.acquire()
        finally:
            self._waiting -= 1

    def give_back(self) -> None:
        self._free.release()


class Admission:
    """Gives a request its turn once its body is there, so that slow senders hold no place."""

    def __init__(
        self,
        application: Application,
        *,
        at_work: int = MAX_AT_WORK,
        waiting: int = MAX_WAITING,
        reserved_paths: Collection[str] = RESERVED_PATHS,
    ) -> None:
        self._application = application
        self._public = Places(at_work=at_work, waiting=waiting)
        self._reserved = Places(at_work=MAX_RESERVED_AT_WORK, waiting=waiting)
        self._reserved_paths = reserved_paths

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        places = self._reserved if scope["path"] in self._reserved_paths else self._public
        has_place: bool | None = None

        async def received() -> Message:
            nonlocal has_place
            message = await receive()
            is_whole = message["type"] == "http.request" and not message.get("more_body", False)
            if is_whole and has_place is None:
                has_place = await places.take()
            # Django drops what it has read when a client has gone.
            return {"type": "http.disconnect"} if has_place is False else message

        try:
            await self._application(scope, received, send)
            if has_place is False:
                await _refuse(send)
        finally:
            if has_place:
                places.give_back()


async def _refuse(send: Send) -> None:
    detail = "Too many requests wait here already; try again in a moment."
    body = json.dumps({"detail": detail, "code": "overloaded"}).encode()
    headers = [
        (b"content-type", b"application/json"),
        (b"content-length", str(len(body)).encode()),
        (b"retry-after", str(RETRY_AFTER_SECONDS).encode()),
    ]
    await send({"type": "http.response.start", "status": 503, "headers": headers})
    await send({"type": "http.response.body", "body": body})
