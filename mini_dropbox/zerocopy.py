"""Files sent by the kernel itself, with no copy through the process.

ASGI's extension `http.response.zerocopysend` for uvicorn
(https://asgi.readthedocs.io/en/stable/extensions.html#zero-copy-send); a message's `offset` and
`count` are needed here, and so is a Content-Length in the answer's head. `report` may be a function
to be told, on the event loop, how many bytes have gone.
"""

import asyncio
import os
import sys
from asyncio import Future
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Final

from mini_dropbox.until_done import until_done

EXTENSION: Final = "http.response.zerocopysend"
# Windows sends files in another way.
IS_SUPPORTED: Final = hasattr(os, "sendfile")
# What is in memory is sent on the event loop, so much before others have their turn: a fraction of
# a millisecond. What has to come from the disk is sent in a thread.
LOOP_TURN_BYTES: Final = 2 * 1024 * 1024
THREAD_TURN_BYTES: Final = 8 * 1024 * 1024
# One sample in so many bytes: files are read, and forgotten, in long stretches.
PROBE_BYTES: Final = 256 * 1024
# Threads wait for the disk alone, never for a reader; a disk serves a few at once.
THREADS: Final = 8

_threads = ThreadPoolExecutor(THREADS, thread_name_prefix="sendfile")


class FileCutShort(Exception):
    """The file ends before the part that was to be sent: only half of the answer is out."""


class ReaderGone(Exception):
    """Nobody takes the rest."""


class FileSending:
    """Sends part of a file over a connection's socket, whose transport has nothing to write.

    `sent` counts the bytes that the kernel has taken, and `report` is told of them, turn by turn.
    The socket's descriptor is a copy: an event loop keeps that of a transport to itself.
    """

    def __init__(self, descriptor: int, report: Callable[[int], None] | None = None) -> None:
        self.sent = 0
        self._report = report
        self._loop = asyncio.get_running_loop()
        self._socket = os.dup(descriptor)
        self._room: Future[None] | None = None
        self._abandoned = False

    @property
    def waits_for_reader(self) -> bool:
        return self._room is not None

    async def send(self, file: int, offset: int, count: int) -> None:
        """Send `count` bytes from `offset` on, to be called once; FileCutShort, ReaderGone."""
        try:
            while self.sent < count:
                await self._send_turn(file, offset + self.sent, count - self.sent)
                if self._abandoned:
                    raise ReaderGone
        finally:
            os.close(self._socket)

    def abandon(self) -> None:
        """Raise ReaderGone where the file is sent: the connection is no more."""
        self._abandoned = True
        self._wake()

    async def _send_turn(self, file: int, offset: int, rest: int) -> None:
        turn = min(rest, LOOP_TURN_BYTES)
        if is_in_memory(file, offset, turn):
            taken = _send_some(self._socket, file, offset, turn)
        else:
            turn = min(rest, THREAD_TURN_BYTES)
            taken = await self._in_thread(file, offset, turn)
        self.sent += taken
        if self._report is not None:
            self._report(taken)
        if taken < turn:
            await self._wait_for_room()
        elif taken < rest:
            await asyncio.sleep(0)

    async def _in_thread(self, file: int, offset: int, count: int) -> int:
        work = self._loop.run_in_executor(_threads, _send_some, self._socket, file, offset, count)
        # Until the thread has ended, neither descriptor may come to mean anything else.
        return await until_done(work)

    async def _wait_for_room(self) -> None:
        if self._abandoned:
            # It was while a thread sent; nobody would end the waiting.
            raise ReaderGone
        self._room = self._loop.create_future()
        self._loop.add_writer(self._socket, self._wake)
        try:
            await self._room
        finally:
            self._loop.remove_writer(self._socket)
            self._room = None

    def _wake(self) -> None:
        if self._room is not None and not self._room.done():
            self._room.set_result(None)


def is_in_memory(file: int, offset: int, count: int) -> bool:
    """Tell, as far as samples can, whether reading these bytes will not wait for the disk.

    Never where the system does not say: only Linux has reads that would rather fail than wait.
    """
    if sys.platform != "linux":
        return False
    # Python has neither where it was built for an older system or C library.
    no_wait = getattr(os, "RWF_NOWAIT", None)
    if no_wait is None or not hasattr(os, "preadv"):
        return False
    try:
        for probe in (*range(offset, offset + count, PROBE_BYTES), offset + count - 1):
            os.preadv(file, [bytearray(1)], probe, no_wait)
    except (OSError, NotImplementedError):
        # Python raises the latter where the C library has no preadv2.
        return False
    return True


def _send_some(descriptor: int, file: int, offset: int, count: int) -> int:
    """Send until the socket is full; return the number of bytes."""
    try:
        sent = os.sendfile(descriptor, file, offset, count)
    except BlockingIOError:
        return 0
    except (ConnectionError, TimeoutError) as error:
        raise ReaderGone from error
    if sent == 0:
        raise FileCutShort
    return sent
