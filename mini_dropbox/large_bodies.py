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
import time
from asyncio import Future
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Final

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
        self._buffer = bytearray(max(PIECE_BYTES, len(begun)))
        self._buffer[: len(begun)] = begun
        self._filled = len(begun)
        self._left = left
        self._more: Future[None] | None = None
        self._is_read = False
        self._is_stopped = False
        self._is_behind = False
        # When the last bytes came, by the clock of event loops.
        self.last_data = time.monotonic()

    @property
    def waits_for_client(self) -> bool:
        return self._more is not None

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
        work = self._loop.run_in_executor(_threads, self._turn, take)
        try:
            return await asyncio.shield(work)
        except asyncio.CancelledError:
            # Until the thread has ended, what it works on must not be closed.
            self._is_stopped = True
            await asyncio.wait([work])
            raise

    async def _wait_for_more(self) -> None:
        self._more = self._loop.create_future()
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
        while True:
            if self._filled == len(self._buffer) or not self._left:
                self._hand_over(take)
            if not self._left:
                return True
            if self._is_stopped or not self._receive():
                self._is_stopped = True
                # What came is worth something to those who can go on from there.
                self._hand_over(take)
                raise BodyCutOff
            if self._is_behind or self.last_data > end:
                return False

    def _receive(self) -> bool:
        """Read some more, if it comes in time; return whether more can come."""
        stop = min(len(self._buffer), self._filled + self._left)
        try:
            with memoryview(self._buffer) as view:
                count = self._socket.recv_into(view[self._filled : stop])
        except TimeoutError:
            self._is_behind = True
            return True
        except ConnectionError:
            return False
        self._is_behind = False
        self._filled += count
        self._left -= count
        self.last_data = time.monotonic()
        return count > 0

    def _hand_over(self, take: Take) -> None:
        filled, self._filled = self._filled, 0
        if filled:
            take(self._buffer if filled == len(self._buffer) else self._buffer[:filled])
