"""Django under ASGI, for both roles: synchronous code in one thread a request, bounded bodies."""

import json
from collections.abc import Callable
from typing import Final

from asgiref.sync import ThreadSensitiveContext, sync_to_async
from django.core.handlers.asgi import ASGIHandler
from django.core.handlers.base import BaseHandler
from django.http import HttpRequest
from django.http.response import HttpResponseBase

from mini_dropbox.admission import Admission
from mini_dropbox.asgi_types import Application, Message, Receive, Scope, Send
from mini_dropbox.draining import drain
from mini_dropbox.request_threads import REQUEST_THREADS, LentThread, RequestThreads

# Two reference images of 10 MB and a prompt are the most that any form of ours holds.
MAX_BODY_BYTES: Final = 24 * 1024 * 1024


class ThreadedHandler(ASGIHandler):
    """Django's handler, with middleware and view of a request called in one go, in one thread.

    The usual one goes to a thread and back for every middleware, several times a request.
    """

    def __init__(self, threads: RequestThreads = REQUEST_THREADS) -> None:
        BaseHandler.__init__(self)
        self.load_middleware(is_async=False)
        self._threads = threads

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request; all that is synchronous runs in the one thread that it is lent."""
        thread = LentThread(self._threads)
        try:
            async with ThreadSensitiveContext(executor=thread):
                await super().__call__(scope, receive, send)
        finally:
            thread.give_back()

    async def run_get_response(self, request: HttpRequest) -> HttpResponseBase:
        """Return the answer to a request that has been read whole."""
        response = await sync_to_async(self.get_response)(request)
        # The sender of `request_finished`, which closes the thread's database connection.
        response._handler_class = self.__class__  # type: ignore[attr-defined]  # noqa: SLF001
        return response


class BodyLimit:
    """Refuses bodies of more than `limit` bytes before they fill the disk."""

    def __init__(self, application: Application, limit: int = MAX_BODY_BYTES) -> None:
        self._application = application
        self._limit = limit

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        announced = int(dict(scope["headers"]).get(b"content-length", 0))
        received = 0

        async def counted() -> Message:
            nonlocal received
            message = await receive()
            received += len(message.get("body", b""))
            # Django drops what it has read so far when a client has gone.
            return {"type": "http.disconnect"} if received > self._limit else message

        if announced <= self._limit:
            await self._application(scope, counted, send)
        if max(announced, received) > self._limit:
            await self._refuse(scope, receive, send)

    async def _refuse(self, scope: Scope, receive: Receive, send: Send) -> None:
        detail = f"The request's body is over the limit of {self._limit} bytes."
        body = json.dumps({"detail": detail, "code": "too_large"}).encode()
        headers = [
            (b"content-type", b"application/json"),
            (b"content-length", str(len(body)).encode()),
            (b"connection", b"close"),
        ]
        await send({"type": "http.response.start", "status": 413, "headers": headers})
        await send({"type": "http.response.body", "body": body, "more_body": True})
        if b"expect" not in dict(scope["headers"]):
            await drain(receive)
        await send({"type": "http.response.body", "body": b""})


def build(front: Callable[[Application], Application] | None = None) -> Application:
    """Return Django as an ASGI application; `django.setup` has been called.

    `front` stands before Django, and behind the limits.
    """
    handler: Application = ThreadedHandler()
    return BodyLimit(Admission(handler if front is None else front(handler)))
