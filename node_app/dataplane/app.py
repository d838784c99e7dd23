"""The node's ASGI application: the hot paths here, every other path in Django."""

import asyncio
import logging
import sqlite3
from collections.abc import Awaitable, Callable, Mapping
from time import perf_counter
from typing import Final

from mini_dropbox.asgi_types import Application, Receive, Scope, Send
from mini_dropbox.env import ConfigurationError
from mini_dropbox.request_stats import RequestStats, counted
from mini_dropbox.wire import (
    COPIES_PATH,
    INVENTORY_NAMES_PATH,
    INVENTORY_PATH,
    PEER_BLOBS_PATH,
    RECEIPTS_PATH,
    REMOVALS_PATH,
    SCRUB_PATH,
    is_blob_hash,
)
from node_app.dataplane import copies, cors, inventory, peers, put_blob, removals
from node_app.dataplane.hosts import Hosts
from node_app.dataplane.http import (
    ClientGone,
    Request,
    allow,
)
from node_app.dataplane.quick_reads import QuickReads
from node_app.dataplane.retrieve import retrieve
from node_app.dataplane.tus import serve as tus
from node_app.dataplane.upload import upload
from node_app.errors import (
    BadHash,
    ForeignCluster,
    MethodNotAllowed,
    NodeError,
    NodeRefused,
    ShuttingDown,
    StoreFailed,
)
from node_app.node import Node

logger = logging.getLogger(__name__)

Handler = Callable[[Request, Node], Awaitable[None]]

ROUTES: Final[Mapping[str, Mapping[str, Handler]]] = {
    "/upload": {"POST": upload},
    "/retrieve": {"GET": retrieve, "HEAD": retrieve},
}
BLOB_METHODS: Final[Mapping[str, Handler]] = {"PUT": put_blob.put_blob}
PEER_METHODS: Final = {
    "PUT": peers.put_replica,
    "GET": peers.get_replica,
    "HEAD": peers.get_replica,
    "DELETE": peers.delete_replica,
}
# What only members of the cluster may ask for.
INTERNAL: Final[Mapping[str, Mapping[str, Handler]]] = {
    RECEIPTS_PATH: {"POST": peers.take_ahead},
    COPIES_PATH: {"POST": copies.make_copies},
    REMOVALS_PATH: {"POST": removals.remove_blobs},
    INVENTORY_PATH: {"GET": inventory.list_blobs, "POST": inventory.find_blobs},
    INVENTORY_NAMES_PATH: {"GET": inventory.list_further_names},
    SCRUB_PATH: {"POST": peers.scrub},
}
# What requests are counted by; the last three are Django's.
COUNTED_ROUTES: Final = (
    *ROUTES,
    put_blob.PATH,
    tus.PATH,
    PEER_BLOBS_PATH,
    *INTERNAL,
    "/",
    "/health",
    "/metrics",
)


class DataPlane:
    """Routes by path; `fallback` is Django."""

    def __init__(self, node: Node, fallback: Application) -> None:
        self._node = node
        self.requests = RequestStats(COUNTED_ROUTES)
        self._fallback = counted(fallback, self.requests)
        self._hosts = Hosts(node.settings.node_url, node.settings.allowed_hosts)
        # The server asks it before it calls us.
        self.quick_answers = QuickReads(node, self._hosts, self.requests.of("GET", "/retrieve"))
        # Why nothing is served, if so.
        self._closed: ForeignCluster | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._lifespan(receive, send)
            return
        path = scope["path"]
        if path in ROUTES or path.startswith((put_blob.PATH, tus.PATH)):
            await self._serve(scope, receive, send, self._routed)
        elif path.startswith(PEER_BLOBS_PATH):
            await self._serve(scope, receive, send, self._peer)
        elif path in INTERNAL:
            await self._serve(scope, receive, send, self._internal)
        else:
            await self._fallback(scope, receive, send)

    async def _serve(
        self,
        scope: Scope,
        receive: Receive,
        send: Send,
        handle: Callable[[Request], Awaitable[None]],
    ) -> None:
        """Carry out a request, and count it."""
        served = self.requests.of(scope["method"], scope["path"])
        request = Request(scope, receive, send, served)
        began = perf_counter()
        served.in_flight += 1
        try:
            await self._answer(request, handle)
        except Exception:
            # The server answers for a fault of ours.
            request.status = request.status or 500
            raise
        finally:
            served.end(request.status, perf_counter() - began)

    async def _routed(self, request: Request) -> None:
        self._hosts.check(request)
        cors.check(request, self._node)
        self._check_open()
        if request.path.startswith(tus.PATH):
            await tus.serve(request, self._node)
            return
        methods = ROUTES.get(request.path, BLOB_METHODS)
        if request.method == "OPTIONS":
            await cors.preflight(request, methods)
            return
        handler = methods.get(request.method)
        if handler is None:
            raise MethodNotAllowed(methods)
        await handler(request, self._node)

    async def _peer(self, request: Request) -> None:
        self._check_open()
        blob_hash = request.path.removeprefix(PEER_BLOBS_PATH)
        if not blob_hash and request.method == "POST":
            await peers.put_replicas(request, self._node)
            return
        handler = PEER_METHODS.get(request.method)
        if handler is None:
            raise MethodNotAllowed(PEER_METHODS)
        if not is_blob_hash(blob_hash):
            peers.check_signature(request, self._node)
            raise BadHash("A blob's address is its MD5, 32 lower-case hex digits.")
        await handler(request, self._node, blob_hash)

    async def _internal(self, request: Request) -> None:
        self._check_open()
        methods = INTERNAL[request.path]
        handler = methods.get(request.method)
        if handler is None:
            raise MethodNotAllowed(methods)
        await handler(request, self._node)

    def _check_open(self) -> None:
        if self._closed is not None:
            raise ForeignCluster(str(self._closed))

    def _take_refusal(self, refusal: NodeRefused | None) -> None:
        """Close while this node's blobs are those of another cluster, and open again."""
        was_closed = self._closed is not None
        self._closed = refusal if isinstance(refusal, ForeignCluster) else None
        if self._closed is not None:
            self.quick_answers.stop()
        elif was_closed:
            self.quick_answers.start()

    async def _answer(self, request: Request, handle: Callable[[Request], Awaitable[None]]) -> None:
        """Carry out a request; the one place where errors become statuses."""
        try:
            await handle(request)
        except ClientGone:
            return
        except MethodNotAllowed as error:
            await request.refuse(error, allow(error.methods))
        except NodeError as error:
            await request.refuse(error)
        except asyncio.CancelledError:
            # The server ends and has waited long enough for this request.
            await request.refuse(ShuttingDown("The node is stopping; ask another one."))
        except (sqlite3.Error, OSError):
            logger.exception("%s %s failed", request.method, request.path)
            await request.refuse(StoreFailed("The node's disk failed; try another node."))

    async def _lifespan(self, receive: Receive, send: Send) -> None:
        await receive()
        try:
            await self._node.start()
        except ConfigurationError as error:
            await send({"type": "lifespan.startup.failed", "message": str(error)})
            return
        self.quick_answers.start()
        self._node.on_refusal = self._take_refusal
        await send({"type": "lifespan.startup.complete"})
        await receive()
        await self._node.stop()
        await send({"type": "lifespan.shutdown.complete"})
