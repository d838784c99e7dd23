"""Takes a body's bytes as they come in, off the event loop."""

import asyncio
from typing import Any, Final

from node_app.blobwriter import BlobWriter
from node_app.blocking import RunBlocking
from node_app.dataplane.http import Request, check_complete
from node_app.errors import TooLarge
from node_app.growth import Growth

# What goes to a thread at once. Two of these are the memory of one upload.
PIECE_BYTES: Final = 512 * 1024
# So little is hashed sooner than a thread begins.
INLINE_BYTES: Final = 8 * 1024


class PipedWriter:
    """Feeds a blob writer off the event loop: one piece is written while the next comes in.

    The file may have `limit` bytes; one more raises TooLarge.
    """

    def __init__(self, writer: BlobWriter, run: RunBlocking, limit: int) -> None:
        self._writer = writer
        self._run = run
        self._limit = limit
        self._loop = asyncio.get_running_loop()
        # What came since, as it came: nothing is copied to be handed to a thread.
        self._piece: list[bytes | bytearray] = []
        self._piece_size = 0
        self._writing: asyncio.Future[Any] | None = None
        self.size = 0
        # How much of it is written, for those who follow.
        self.growth = Growth()

    async def write(self, data: bytes | bytearray) -> None:
        self.size += len(data)
        if self.size > self._limit:
            raise TooLarge(f"The file is over the limit of {self._limit} bytes.")
        self._piece.append(data)
        self._piece_size += len(data)
        if self._piece_size >= PIECE_BYTES:
            await self._flush()

    def write_now(self, data: bytes | bytearray) -> None:
        """Write in this thread; of these calls none may overlap with another, or with `write`."""
        self.size += len(data)
        if self.size > self._limit:
            raise TooLarge(f"The file is over the limit of {self._limit} bytes.")
        self._writer.write(data)
        self._loop.call_soon_threadsafe(self.growth.advance, self._writer.size)

    async def finish(self) -> None:
        """Wait until everything is written; a small blob is hashed here, without a thread."""
        if self._writing is None and self._piece_size <= INLINE_BYTES:
            self._writer.write_all(self._take_piece())
        else:
            await self._flush()
            await self.settle()
        self.growth.finish(self._writer.size)

    async def settle(self) -> None:
        """Wait for the piece that is being written, so that the writer can be closed."""
        if self._writing is not None:
            writing, self._writing = self._writing, None
            await asyncio.shield(writing)

    async def _flush(self) -> None:
        await self.settle()
        piece = self._take_piece()
        self._writing = asyncio.ensure_future(self._run(self._writer.write_all, piece))
        self._writing.add_done_callback(self._written)

    def _take_piece(self) -> list[bytes | bytearray]:
        piece, self._piece, self._piece_size = self._piece, [], 0
        return piece

    def _written(self, done: asyncio.Future[Any]) -> None:
        # A cancelled upload leaves its last piece to itself, whose failure is no news then.
        if not done.cancelled() and done.exception() is None:
            self.growth.advance(self._writer.size)


async def read_body(request: Request, output: PipedWriter) -> None:
    """Read a whole body that is nothing but a blob; Truncated when it ends early."""
    try:
        if not await request.read_large_body(output.write_now):
            while chunk := await request.chunk():
                await output.write(chunk)
        check_complete(output.size, request.content_length())
        await output.finish()
    finally:
        await output.settle()
