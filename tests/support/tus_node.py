"""A node's data plane without sockets and peers, for tests of resumable uploads."""

import asyncio
import base64
import contextlib
import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from node_app.blobwriter import BlobWriter
from node_app.dataplane.app import DataPlane
from node_app.errors import NodeError
from node_app.node import StoredUpload
from node_app.turns import Turns
from node_app.uploads import UploadStore
from tests.support.blob_backends import Backend, LocalBackend
from tests.support.raw_http import Answer

MASTER = "http://127.0.0.1:9999"
BODY_TYPE = "application/offset+octet-stream"
LIMIT = 64 * 1024 * 1024


class Body:
    """A request's body as it arrives: pieces, each when the test sends it, then an end."""

    def __init__(self) -> None:
        self._messages: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        # Set once all that was sent is taken and more is waited for.
        self.taken = asyncio.Event()

    def send(self, piece: bytes, *, more: bool = True) -> None:
        self._messages.put_nowait({"type": "http.request", "body": piece, "more_body": more})

    def cut(self) -> None:
        """Break the connection."""
        self._messages.put_nowait({"type": "http.disconnect"})

    async def receive(self) -> dict[str, Any]:
        if self._messages.empty():
            self.taken.set()
        return await self._messages.get()


@dataclass
class TusNode:
    """What the data plane needs of a node: a real store, one copy, and no master.

    `refusal` is what storing ends with, if anything. `limit` is the limit for one file.
    """

    folder: Path
    limit: int = LIMIT
    open_backend: Callable[[Path], Backend] = LocalBackend
    refusal: NodeError | None = None
    stored: list[tuple[str, str]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.allowed_origins = frozenset({MASTER})
        self.settings = SimpleNamespace(
            node_url="http://127.0.0.1:8009", allowed_hosts=(), max_file_bytes=self.limit
        )
        self.replicator = SimpleNamespace(check_quorum=self._check_quorum)
        self.backend: Any = self.open_backend(self.folder)
        self._open()

    def restart(self) -> None:
        """Do what a new process does: all that was in memory is gone."""
        self.backend.reopen()
        self._open()

    def close(self) -> None:
        self.backend.close()

    @property
    def store(self) -> Any:
        return self.backend.store

    async def run(self, function: Callable[..., Any], *arguments: Any, **options: Any) -> Any:
        return await asyncio.to_thread(function, *arguments, **options)

    @contextlib.contextmanager
    def upload_in_flight(self) -> Iterator[None]:
        yield

    async def store_upload(
        self, writer: BlobWriter, *, name: str, content_type: str
    ) -> StoredUpload:
        """Keep one copy, here."""
        was_there = await self.run(self.store.commit, writer, name=name, content_type=content_type)
        if self.refusal is not None:
            raise self.refusal
        self.stored.append((name, content_type))
        digests = writer.digests()
        return StoredUpload(digests.md5, digests.sha256, digests.size, ("8009",), True, was_there)

    async def call(
        self,
        method: str,
        path: str,
        headers: dict[str, str] | None = None,
        body: bytes | Body = b"",
    ) -> Answer:
        """Send one request, whole or as `body` comes, and return the answer; 0 without one."""
        path, _, query = path.partition("?")
        fields = {"Host": "127.0.0.1:8009", **(headers or {})}
        if isinstance(body, bytes):
            fields.setdefault("Content-Length", str(len(body)))
            source = Body()
            source.send(body, more=False)
        else:
            fields.setdefault("Transfer-Encoding", "chunked")
            source = body
        scope = {
            "type": "http",
            "http_version": "1.1",
            "method": method,
            "path": path,
            "raw_path": path.encode(),
            "query_string": query.encode(),
            "headers": [(k.lower().encode(), v.encode("latin-1")) for k, v in fields.items()],
        }
        sent: list[dict[str, Any]] = []

        async def send(message: Any) -> None:
            sent.append(dict(message))

        await self.app(scope, source.receive, send)
        if not sent:
            return Answer(0, {}, b"")
        names = {k.decode(): v.decode("latin-1") for k, v in sent[0]["headers"]}
        return Answer(sent[0]["status"], names, b"".join(m.get("body", b"") for m in sent[1:]))

    async def tus(self, method: str, path: str, body: bytes | Body = b"", **headers: str) -> Answer:
        """Send a request of the protocol; underscores in header names stand for hyphens."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return await self.call(method, path, {"Tus-Resumable": "1.0.0", **named}, body)

    async def create(self, length: int, **headers: str) -> str:
        """Begin an upload and return its path."""
        answer = await self.tus("POST", "/uploads/", Upload_Length=str(length), **headers)
        assert answer.status == 201, answer
        return answer.headers["location"]

    async def patch(self, path: str, offset: int, body: bytes | Body, **headers: str) -> Answer:
        headers.setdefault("Content_Type", BODY_TYPE)
        return await self.tus("PATCH", path, body, Upload_Offset=str(offset), **headers)

    async def offset(self, path: str) -> int:
        answer = await self.tus("HEAD", path)
        assert answer.status == 200, answer
        return int(answer.headers["upload-offset"])

    def upload_files(self) -> list[Path]:
        return sorted((self.folder / "uploads").iterdir())

    def _check_quorum(self) -> None:
        if self.refusal is not None:
            raise self.refusal

    def _open(self) -> None:
        self.uploads = UploadStore(self.folder, self.backend.database)
        self.turns = Turns()
        self.app = DataPlane(self, _no_other_path)  # type: ignore[arg-type]


def metadata(**values: str) -> str:
    pairs = (f"{key} {base64.b64encode(text.encode()).decode()}" for key, text in values.items())
    return ",".join(pairs)


def checksum(algorithm: str, content: bytes) -> str:
    """Return the header Upload-Checksum for `content`."""
    digest = hashlib.new(algorithm, content, usedforsecurity=False).digest()
    return f"{algorithm} {base64.b64encode(digest).decode()}"


async def _no_other_path(*_: object) -> None:
    raise AssertionError("the data plane passed a request on")
