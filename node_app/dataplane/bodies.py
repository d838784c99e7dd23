"""Bodies that are sent piece by piece, and held to their blob's MD5 while they are.

The last piece is kept back until all of them have been hashed: nobody receives a whole answer with
other bytes than those that were stored.
"""

import asyncio
import hashlib
from collections.abc import AsyncIterator
from typing import IO, Final, Protocol, cast

import zstandard

from node_app.blocking import RunBlocking
from node_app.compression import DAMAGED
from node_app.dataplane.http import ClientGone, Request
from node_app.errors import BlobDamaged

# More is hashed in a thread: less takes the event loop no longer than a thread's turn.
INLINE_BYTES: Final = 16 * 1024


class Hashing(Protocol):
    """Takes a body piece by piece; BlobDamaged when it cannot be decoded."""

    def update(self, data: bytes, /) -> None: ...

    def hexdigest(self) -> str:
        """Return the MD5 of the content, of which all has been taken."""


class FramesHashing:
    """Hashes the content of zstd frames; a piece takes a bounded amount of memory at a time."""

    def __init__(self) -> None:
        self._md5 = hashlib.md5(usedforsecurity=False)
        self._frames = zstandard.ZstdDecompressor().stream_writer(
            cast("IO[bytes]", self), closefd=False
        )

    def update(self, data: bytes, /) -> None:
        try:
            self._frames.write(data)
        except zstandard.ZstdError as error:
            raise BlobDamaged(DAMAGED) from error

    def write(self, content: bytes) -> int:
        """Take what the decompressor gives."""
        self._md5.update(content)
        return len(content)

    def hexdigest(self) -> str:
        return self._md5.hexdigest()


async def held_to(
    blob_hash: str, pieces: AsyncIterator[bytes], hashing: Hashing, run: RunBlocking
) -> AsyncIterator[bytes]:
    """Yield the same pieces; BlobDamaged instead of the last one when they are not the blob's."""
    held = b""
    async for piece in pieces:
        if len(piece) > INLINE_BYTES:
            await run(hashing.update, piece)
        else:
            hashing.update(piece)
        if held:
            yield held
        held = piece
    if hashing.hexdigest() != blob_hash:
        raise BlobDamaged(DAMAGED)
    if held:
        yield held


async def begun(pieces: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """Return the same pieces once the first of them is there."""
    first = await anext(pieces, b"")

    async def all_of_them() -> AsyncIterator[bytes]:
        yield first
        async for piece in pieces:
            yield piece

    return all_of_them()


async def send_pieces(request: Request, pieces: AsyncIterator[bytes]) -> None:
    """Send a body as fast as the client takes it; ClientGone as soon as nobody does."""
    gone = asyncio.ensure_future(request.wait_for_disconnect())
    try:
        async for piece in pieces:
            if gone.done():
                raise ClientGone
            await request.send(piece, more=True)
        await request.send(b"")
    finally:
        gone.cancel()
