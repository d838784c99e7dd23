"""A node's data plane without peers, and its server's protocol without sockets, to read from."""

import asyncio
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import uvicorn
from uvicorn.protocols.http.httptools_impl import RequestResponseCycle
from uvicorn.server import ServerState

from mini_dropbox.patient_protocol import PatientProtocol
from node_app.dataplane.app import DataPlane
from node_app.master_client import Located
from node_app.verifier import Verifier
from tests.support.blob_backends import LocalBackend

MASTER = "http://127.0.0.1:9999"
MAX_AGE = 3600.0
DATE = (b"date", b"Mon, 23 Nov 2026 00:00:00 GMT")


class ReadingNode:
    """What downloads need of a node: a real store, no peers, and a master that knows few blobs."""

    def __init__(self, folder: Path) -> None:
        self.backend = LocalBackend(folder)
        self.allowed_origins = frozenset({MASTER})
        self.settings = SimpleNamespace(
            node_id="8009", node_url="http://127.0.0.1:8009", allowed_hosts=("nas",)
        )
        self.cluster = SimpleNamespace(holders=lambda _: [])
        self.master = SimpleNamespace(locate=self._locate)
        self.peers: Any = None
        # Blobs that nodes have stored once, as far as the master knows.
        self.on_record: set[str] = set()
        self._open()

    def _open(self) -> None:
        self.store: Any = self.backend.store
        self.verifier = Verifier(self.store, self.run, max_age=MAX_AGE)
        self.data_plane = DataPlane(self, _fallback)  # type: ignore[arg-type]
        self.quick_answers = self.data_plane.quick_answers
        self.quick_answers.start()

    def restart(self) -> None:
        """Do what a new process does: all that was in memory is gone."""
        self.backend.reopen()
        self._open()

    async def run(self, function: Callable[..., Any], *arguments: Any, **options: Any) -> Any:
        return await asyncio.to_thread(function, *arguments, **options)

    async def _locate(self, blob_hash: str) -> Located | None:
        return Located((), is_stored=True) if blob_hash in self.on_record else None


class Wire(asyncio.Transport):
    """A transport whose client takes everything at once."""

    def __init__(self) -> None:
        super().__init__()
        self.written = bytearray()
        self.reads = True
        self._closing = False

    def write(self, data: Any) -> None:
        self.written += data

    def get_write_buffer_size(self) -> int:
        return 0

    def is_closing(self) -> bool:
        return self._closing

    def close(self) -> None:
        self._closing = True

    abort = close
    write_eof = close

    def pause_reading(self) -> None:
        self.reads = False

    def resume_reading(self) -> None:
        self.reads = True


async def exchange(
    node: ReadingNode, protocol: type[PatientProtocol], pieces: list[bytes], *, hasty: bool = False
) -> bytes:
    """Let a protocol receive these pieces, one after the other, and return all that it answers.

    A hasty client sends the next before the last is answered, as long as the protocol reads.
    """
    config = uvicorn.Config(node.data_plane, http=protocol, log_config=None, access_log=False)
    config.proxy_headers = False
    config.load()
    state = ServerState()
    state.default_headers = [DATE]
    wire = Wire()
    connection = protocol(config, state, {}, asyncio.get_running_loop())
    connection.connection_made(wire)
    for piece in pieces:
        if not wire.is_closing():
            connection.data_received(piece)
        if not (hasty and wire.reads):
            await _settle(connection)
    await _settle(connection)
    connection.connection_lost(None)
    await _settle(connection)
    return bytes(wire.written)


async def _settle(connection: PatientProtocol) -> None:
    """Wait until the application has answered, or has nothing more to read."""
    async with asyncio.timeout(10):
        for _ in range(5):
            await asyncio.sleep(0)
        while any(map(_is_at_work, (connection._running, connection.cycle))):  # noqa: ASYNC110
            await asyncio.sleep(0)


def _is_at_work(cycle: RequestResponseCycle | None) -> bool:
    if cycle is None or cycle.response_complete or cycle.disconnected:
        return False
    return not cycle.more_body and not cycle.transport.is_closing()


async def _fallback(scope: Any, receive: Any, send: Any) -> None:
    size = 0
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            return
        size += len(message["body"])
        if not message["more_body"]:
            break
    body = b"%d" % size
    headers = [(b"content-length", b"%d" % len(body))]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})
