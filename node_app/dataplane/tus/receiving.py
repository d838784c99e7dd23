"""Takes the bytes of one request into an upload, and keeps what came whatever ends it."""

import asyncio
import hashlib
from collections.abc import Callable
from contextlib import suppress
from typing import Final

from mini_dropbox.until_done import until_done
from node_app.dataplane.http import Request, check_complete
from node_app.dataplane.receiving import PipedWriter
from node_app.dataplane.tus.headers import Checksum
from node_app.errors import ChecksumMismatch, NodeError, TooLarge
from node_app.node import Node
from node_app.turns import Turn
from node_app.uploadfile import UploadFile
from node_app.uploads import Upload

# What a crash may cost of an upload at most, but for what the disk is still busy with.
CHECKPOINT_BYTES: Final = 16 * 1024 * 1024


class UploadPipe(PipedWriter):
    """Feeds an upload's file off the event loop, and goes on after an interruption."""

    async def finish(self) -> None:
        """Wait until everything is written; none of it here, since all goes to a disk."""
        if self._piece:
            await self._flush()
        await self.settle()

    async def settle(self) -> None:
        """Wait for the piece that is being written; who is interrupted here can wait again.

        A piece that could not be written fails every time, so that none can follow it.
        """
        if self._writing is not None:
            await asyncio.shield(self._writing)
            self._writing = None


async def receive(
    request: Request, node: Node, turn: Turn, upload: Upload, checksum: Checksum | None
) -> Upload:
    """Append the request's body to `upload`, and return how far it is then, durably.

    What came is kept if the client goes, stalls, or another request takes over; with a checksum,
    nothing is kept unless all of it came and is right. TooLarge, Truncated, ChecksumMismatch,
    UploadLocked, StoreFull or StoreFailed say why it ended early.
    """
    room = _room(request, upload, node.settings.max_file_bytes)
    file = await node.run(node.uploads.open, upload)
    with file:
        reception = _Reception(request, node, upload, file, room)
        if checksum is None:
            return await reception.take_what_comes(turn)
        return await reception.take_all_or_nothing(turn, checksum)


async def receive_nothing(request: Request, turn: Turn) -> None:
    """Read the body of a request to an upload that is a blob already; TooLarge if it has one."""
    async with turn.receiving():
        if request.content_length() or await request.chunk():
            raise TooLarge("The upload is complete; it takes no more bytes.")


def _room(request: Request, upload: Upload, limit: int) -> int:
    """Return how many bytes the upload still takes; TooLarge when more are announced."""
    room = (limit if upload.length is None else upload.length) - upload.offset
    if (request.content_length() or 0) > room:
        raise TooLarge(f"The upload takes {room} more bytes, and the request announces more.")
    return room


class _Reception:
    """One body on its way into an upload's file."""

    def __init__(
        self, request: Request, node: Node, upload: Upload, file: UploadFile, room: int
    ) -> None:
        self._request = request
        self._node = node
        self._upload = upload
        self._file = file
        self._pipe = UploadPipe(file, node.run, room)
        self._checkpoint: asyncio.Future[Upload] | None = None
        self._durable = upload.offset

    async def take_what_comes(self, turn: Turn) -> Upload:
        try:
            async with turn.receiving():
                await self._read(self._make_durable_meanwhile)
        except (asyncio.CancelledError, Exception):
            # The reason counts, not what goes wrong with keeping: the row tells what is durable.
            with suppress(NodeError):
                await self._keep()
            raise
        return await self._keep()

    async def take_all_or_nothing(self, turn: Turn, checksum: Checksum) -> Upload:
        prefix = self._file.prefix and self._file.prefix.copy()
        self._file.observer = hashlib.new(checksum.algorithm, usedforsecurity=False)
        try:
            async with turn.receiving():
                await self._read(None)
            await self._pipe.finish()
            _check(self._file.observer.digest(), checksum)
        except (asyncio.CancelledError, Exception):
            with suppress(NodeError):
                await self._pipe.settle()
            await self._node.run(self._file.go_back, self._upload.offset, prefix)
            raise
        return await self._keep()

    async def _read(self, after_each: Callable[[], None] | None) -> None:
        announced = self._request.content_length()
        loop = asyncio.get_running_loop()

        def take(piece: bytearray) -> None:
            if self._checkpoint is not None and self._checkpoint.done():
                # What cannot be made durable is not added to.
                self._checkpoint.result()
            self._pipe.write_now(piece)
            if after_each is not None:
                loop.call_soon_threadsafe(after_each)

        if not await self._request.read_large_body(take):
            while chunk := await self._request.chunk():
                await self._pipe.write(chunk)
                if after_each is not None:
                    after_each()
                if self._checkpoint is not None and self._checkpoint.done():
                    self._checkpoint.result()
        check_complete(self._pipe.size, announced)

    def _make_durable_meanwhile(self) -> None:
        """Begin a checkpoint when enough has come since the last; it overlaps with receiving."""
        if self._checkpoint is not None:
            if not self._checkpoint.done() or self._checkpoint.exception() is not None:
                return
            self._durable = self._checkpoint.result().offset
            self._checkpoint = None
        if self._file.size - self._durable >= CHECKPOINT_BYTES:
            self._checkpoint = asyncio.ensure_future(self._run_checkpoint())

    async def _keep(self) -> Upload:
        """Write and make durable what came."""
        try:
            await self._pipe.finish()
        finally:
            # A checkpoint must not overlap with the next.
            if self._checkpoint is not None:
                await asyncio.gather(self._checkpoint, return_exceptions=True)
            # Also when the server's patience ends meanwhile: the file is closed after it.
            kept = await until_done(asyncio.ensure_future(self._run_checkpoint()))
        return kept

    async def _run_checkpoint(self) -> Upload:
        reached: Upload = await self._node.run(
            self._node.uploads.checkpoint, self._upload, self._file
        )
        return reached


def _check(digest: bytes, checksum: Checksum) -> None:
    if digest != checksum.digest:
        raise ChecksumMismatch("The bytes do not have this checksum; send them again.")
