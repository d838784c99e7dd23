"""A node's only way to talk HTTP to its peers."""

import asyncio
import hashlib
import io
import json
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import urlencode

import aiohttp

from mini_dropbox.signing import EMPTY_BODY_SHA256, Signer
from mini_dropbox.wire import PEER_BLOBS_PATH, RECEIPTS_PATH, NodeEntry
from node_app import http_client, replica_batch
from node_app.blobwriter import Digests
from node_app.errors import HashCollision, PeerError, PeerSilent
from node_app.replica_batch import ReplicaHead

# A peer that says nothing for this long has stopped: uploads and reads then go elsewhere,
# and all of it has to end within five seconds.
PUSH_QUIET_SECONDS: Final = 3.5
READ_QUIET_SECONDS: Final = 3.5
# What is sent has to be on the peer's disk before it answers; so much a second even slow ones take.
SLOWEST_DISK_BYTES: Final = 20 * 1024 * 1024
MAX_ERROR_BYTES: Final = 64 * 1024


@dataclass(frozen=True)
class Receipt:
    """What a peer gives for a content that it has received and not been told the name of."""

    id: str
    sha256: str
    size: int


@dataclass(frozen=True)
class PeerAnswer:
    """A peer's open answer to a read."""

    status: int
    headers: Mapping[str, str]
    content: aiohttp.StreamReader

    async def json(self) -> dict[str, Any]:
        """Return the object that an error is explained with, or an empty one."""
        try:
            body = json.loads(await self.content.read(MAX_ERROR_BYTES))
        except ValueError:
            return {}
        return body if isinstance(body, dict) else {}


class PeerClient:
    """Pushes replicas to peers and reads blobs from them. PeerError when one does not answer."""

    def __init__(self, session: aiohttp.ClientSession, signer: Signer) -> None:
        self._session = session
        self._signer = signer

    async def put(
        self,
        peer: NodeEntry,
        digests: Digests,
        body: bytes | AsyncIterator[bytes],
        *,
        name: str,
        content_type: str,
    ) -> bool:
        """Store a replica, verified and durable; return whether the peer had it already."""
        url = self._url(peer, digests.md5, name=name, content_type=content_type)
        headers = {
            **http_client.signed_headers(self._signer, "PUT", url, digests.sha256),
            "Content-Length": str(digests.size),
        }
        return await self._put(url, body, headers, size=digests.size)

    async def _put(
        self,
        url: str,
        body: bytes | AsyncIterator[bytes],
        headers: Mapping[str, str],
        *,
        size: int,
    ) -> bool:
        """PUT, and read what the peer says of a replica of `size` bytes."""
        answer_seconds = _answer_seconds(size)
        try:
            async with (
                asyncio.timeout(answer_seconds) as quiet,
                self._session.put(
                    url,
                    data=body if isinstance(body, bytes) else _timed(body, quiet, answer_seconds),
                    headers=headers,
                    timeout=http_client.time_limit(None),
                    allow_redirects=False,
                ) as response,
            ):
                answer = await http_client.read_json(response)
        except (aiohttp.ClientError, TimeoutError, ConnectionError) as error:
            raise _failed(f"PUT {url}", error) from error
        if response.status == HashCollision.status:
            raise HashCollision(str(answer.get("message", "")))
        if response.status != 200:
            raise PeerError(f"PUT {url}: {response.status} {answer.get('message', '')}")
        return bool(answer.get("deduplicated"))

    async def send_ahead(
        self, peer: NodeEntry, body: AsyncIterator[bytes], size: int | None
    ) -> Receipt:
        """Send a content whose digests are not known yet; `redeem` makes a replica of it.

        `size` in bytes, where it is known, spares the peer to look for the end. The sender may
        take as long as it wants between two pieces, the peer may not.
        """
        url = f"{peer.url}{RECEIPTS_PATH}"
        headers = http_client.signed_headers(self._signer, "POST", url, EMPTY_BODY_SHA256)
        if size is not None:
            headers["Content-Length"] = str(size)
        try:
            async with (
                asyncio.timeout(None) as quiet,
                self._session.post(
                    url,
                    data=_timed(body, quiet, PUSH_QUIET_SECONDS),
                    headers=headers,
                    timeout=http_client.time_limit(None),
                    allow_redirects=False,
                ) as response,
            ):
                answer = await http_client.read_json(response)
        except (aiohttp.ClientError, TimeoutError, ConnectionError) as error:
            raise _failed(f"POST {url}", error) from error
        if response.status != 200:
            raise PeerError(f"POST {url}: {response.status} {answer.get('message', '')}")
        try:
            return Receipt(answer["receipt"], answer["sha256"], answer["size"])
        except KeyError as error:
            raise PeerError(f"POST {url}: this is no receipt") from error

    async def redeem(
        self,
        peer: NodeEntry,
        receipt: Receipt,
        digests: Digests,
        *,
        name: str,
        content_type: str,
    ) -> bool:
        """Make a replica of what was sent ahead; return whether the peer had it already."""
        url = self._url(
            peer,
            digests.md5,
            name=name,
            content_type=content_type,
            receipt=receipt.id,
            sha256=digests.sha256,
        )
        headers = http_client.signed_headers(self._signer, "PUT", url, EMPTY_BODY_SHA256)
        return await self._put(url, b"", headers, size=digests.size)

    async def put_all(
        self, peer: NodeEntry, replicas: Sequence[tuple[ReplicaHead, bytes]]
    ) -> list[bool | Exception]:
        """Store many small replicas; return for each what `put` would have returned or raised."""
        url = f"{peer.url}{PEER_BLOBS_PATH}"
        message = replica_batch.encode(replicas)
        signed = hashlib.sha256(message).hexdigest()
        headers = http_client.signed_headers(self._signer, "POST", url, signed)
        limit = http_client.time_limit(None)
        try:
            async with (
                # Also while the message is written: a stopped peer takes what fits its buffers.
                asyncio.timeout(PUSH_QUIET_SECONDS),
                self._session.post(
                    url,
                    # In pieces: megabytes at once would hold up the event loop.
                    data=io.BytesIO(message),
                    headers=headers,
                    timeout=limit,
                    allow_redirects=False,
                ) as response,
            ):
                answer = await http_client.read_json(response)
        except (aiohttp.ClientError, TimeoutError, ConnectionError) as error:
            raise _failed(f"POST {url}", error) from error
        results = answer.get("results", [])
        if response.status != 200 or len(results) != len(replicas):
            raise PeerError(f"POST {url}: {response.status} {answer.get('message', '')}")
        return [_outcome(f"POST {url}", result) for result in results]

    async def delete(self, peer: NodeEntry, digests: Digests) -> None:
        """Take back a replica that was stored for an upload that failed."""
        url = self._url(peer, digests.md5, sha256=digests.sha256)
        headers = http_client.signed_headers(self._signer, "DELETE", url, EMPTY_BODY_SHA256)
        limit = http_client.time_limit(PUSH_QUIET_SECONDS)
        try:
            async with self._session.delete(url, headers=headers, timeout=limit) as response:
                await response.read()
        except (aiohttp.ClientError, TimeoutError, ConnectionError) as error:
            raise PeerError(f"DELETE {url}: {error or type(error).__name__}") from error

    @asynccontextmanager
    async def open(
        self, peer: NodeEntry, method: str, blob_hash: str, headers: Mapping[str, str]
    ) -> AsyncIterator[PeerAnswer]:
        """Ask a peer for a blob, or for what `headers` (Range and conditions) say of it."""
        url = self._url(peer, blob_hash)
        signed = http_client.signed_headers(self._signer, method, url, EMPTY_BODY_SHA256)
        limit = http_client.time_limit(READ_QUIET_SECONDS)
        request = self._session.request(
            method, url, headers={**headers, **signed}, timeout=limit, allow_redirects=False
        )
        try:
            async with request as response:
                yield PeerAnswer(response.status, response.headers, response.content)
        except (aiohttp.ClientError, TimeoutError, ConnectionError) as error:
            raise PeerError(f"{method} {url}: {error or type(error).__name__}") from error

    @staticmethod
    def _url(peer: NodeEntry, blob_hash: str, **query: str) -> str:
        """Return a blob's address on a peer; the query is covered by the signature."""
        url = f"{peer.url}{PEER_BLOBS_PATH}{blob_hash}"
        return f"{url}?{urlencode(query)}" if query else url


def _outcome(request: str, result: Mapping[str, Any]) -> bool | Exception:
    """Return what the peer says of one replica of many."""
    if result.get("success"):
        return bool(result.get("deduplicated"))
    message = str(result.get("message", ""))
    if result.get("code") == HashCollision.code:
        return HashCollision(message)
    return PeerError(f"{request}: {message}")


def _failed(request: str, error: Exception) -> PeerError:
    kind = PeerSilent if isinstance(error, TimeoutError) else PeerError
    return kind(f"{request}: {error or type(error).__name__}")


def _answer_seconds(size: int) -> float:
    """Return how long a peer may take to make a replica of `size` bytes durable, or compare it."""
    return PUSH_QUIET_SECONDS + size / SLOWEST_DISK_BYTES


async def _timed(
    body: AsyncIterator[bytes], quiet: asyncio.Timeout, answer_seconds: float
) -> AsyncIterator[bytes]:
    """Limit how long the peer takes for a piece, and for its answer, but not the next piece's."""
    clock = asyncio.get_running_loop().time
    async for piece in body:
        quiet.reschedule(clock() + PUSH_QUIET_SECONDS)
        yield piece
        quiet.reschedule(None)
    quiet.reschedule(clock() + answer_seconds)
