"""Large request bodies, read from the socket by the threads that also work on them.

On the event loop every few dozen KiB cost a task that wakes up, some copies and a hand-over to a
thread. A body whose length is known needs no parsing, so a thread can read it, for as long as the
client keeps up, and the event loop hears of it again when it has to be waited for.

ASGI applications find `LargeBodies.read` in the scope's extensions.
"""

import asyncio
import os
import socket
import sys
import threading
import time
from asyncio import Future
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Final

from mini_dropbox.until_done import until_done

EXTENSION: Final = "mini_dropbox.large_body"
# Windows' event loop cannot wait for a socket that a thread reads.
IS_SUPPORTED: Final = sys.platform != "win32"
# A body with less than this to come is not worth a thread.
LARGE_BYTES: Final = 256 * 1024
# What is read before it is worked on.
PIECE_BYTES: Final = 1024 * 1024
# Threads work on what is there, and wait for a client no longer than PATIENCE_SECONDS.
THREADS: Final = 8
TURN_SECONDS: Final = 0.25
PATIENCE_SECONDS: Final = 0.005

Take = Callable[[bytearray], None]
# Gives a whole body to `take`, called in threads with one piece after the other; returns False,
# and has not begun, where the body is not large. BodyCutOff when the client leaves, and whatever
# `take` raises: another call then goes on behind what has been read.
ReadLargeBody = Callable[[Take], Awaitable[bool]]

_threads = ThreadPoolExecutor(THREADS, thread_name_prefix="receive")
_buffers = threading.local()


class BodyCutOff(Exception):
    """Nobody sends the rest."""


class LargeBody:
    """Reads the rest of a body from a connection's socket, whose transport does not read.

    `begun` came already, `left` bytes are to come. The socket's descriptor is a copy: an event
    loop keeps that of a transport to itself.
    """

    def __init__(self, descriptor: int, begun: bytearray, left: int) -> None:
        self._loop = asyncio.get_running_loop()
        self._socket = socket.socket(fileno=os.dup(descriptor))
        self._socket.settimeout(PATIENCE_SECONDS)
        self._begun = begun
        self._left = left
        self._more: Future[None] | None = None
        self._is_read = False
        # Nobody will send, or read, the rest.
        self._is_stopped = False
        # The thread is to come back as soon as it can.
        self._is_hurried = False
        self._waits_since = 0.0

    @property
    def waits_since(self) -> float | None:
        """Since when it waits for the client, by event loops' clock; None when it does not."""
        return None if self._more is None else self._waits_since

    async def read(self, take: Take) -> None:
        """Give the rest to `take`, in threads; BodyCutOff, or whatever `take` raises.

        Only after the latter can it be called again.
        """
        self._is_read = True
        try:
            while not await self._in_thread(take):
                await self._wait_for_more()
            self._is_stopped = True
        finally:
            self._is_read = False
            if self._is_stopped:
                self._socket.close()

    def stop(self) -> None:
        """Raise BodyCutOff where the body is read; nobody will read the rest."""
        self._is_stopped = True
        if not self._is_read:
            self._socket.close()
        self._wake()

    async def _in_thread(self, take: Take) -> bool:
        """Read what is there; return whether that was all of it."""
        self._is_hurried = False
        work = self._loop.run_in_executor(_threads, self._turn, take)
        return await until_done(work, on_cancel=self._hurry)

    def _hurry(self) -> None:
        self._is_hurried = True

    async def _wait_for_more(self) -> None:
        if self._is_stopped:
            raise BodyCutOff
        self._more = self._loop.create_future()
        # Only now it is the client's turn, however long ago it was the last time.
        self._waits_since = self._loop.time()
        self._loop.add_reader(self._socket, self._wake)
        try:
            await self._more
        finally:
            self._loop.remove_reader(self._socket)
            self._more = None

    def _wake(self) -> None:
        if self._more is not None and not self._more.done():
            self._more.set_result(None)

    def _turn(self, take: Take) -> bool:
        """Read and work as long as the client keeps up; return whether that was all of it."""
        end = time.monotonic() + TURN_SECONDS
        buffer = _own_buffer()
        if self._begun:
            begun, self._begun = self._begun, bytearray()
            take(begun)
        is_behind = False
        while self._left and not is_behind and not self._is_hurried and time.monotonic() < end:
            count, is_behind = self._fill(buffer)
            if count:
                take(buffer if count == len(buffer) else buffer[:count])
            # What came is worth something to those who can go on from there.
            if self._is_stopped:
                raise BodyCutOff
        return not self._left

    def _fill(self, buffer: bytearray) -> tuple[int, bool]:
        """Fill the buffer with what comes in time; return how much that is, and if it was late."""
        count, stop = 0, min(len(buffer), self._left)
        with memoryview(buffer) as view:
            while count < stop and not self._is_stopped and not self._is_hurried:
                try:
                    received = self._socket.recv_into(view[count:stop])
                except TimeoutError:
                    return count, True
                except ConnectionError:
                    received = 0
                if not received:
                    self._is_stopped = True
                self._left -= received
                count += received
        return count, False


def _own_buffer() -> bytearray:
    """Return this thread's buffer: what waits for a client needs none."""
    if not hasattr(_buffers, "own"):
        _buffers.own = bytearray(PIECE_BYTES)
    buffer: bytearray = _buffers.own
    return buffer
