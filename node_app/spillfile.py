"""The temporary file of a large blob, written past the page cache where the system lets us.

A blob is written once, and mostly read much later. Through the page cache its bytes are copied once
more, into memory that has to be found for them first, which can cost more than to hash them; the
disk begins late, and an fsync then waits for most of it. Direct writes (open(2), O_DIRECT) have
none of this. They want aligned memory, so what comes is gathered in a ring of slots, of which the
latest stay readable for peers that follow the upload.
"""

import errno
import threading
from io import FileIO
from mmap import mmap
from typing import Final

from node_app.disk import positioned_read, set_direct, write_fully

SLOT_BYTES: Final = 512 * 1024
RING_BYTES: Final = 6 * SLOT_BYTES
# What direct writes want of addresses, offsets and lengths: a page is enough everywhere.
ALIGNMENT: Final = 4096
# Rings that wait to be used again: their memory has been found already.
KEPT_RINGS: Final = 4
MAX_RINGS: Final = 24


class Rings:
    """The rings of a process, of which only so many can be in use."""

    def __init__(self) -> None:
        self._guard = threading.Lock()
        self._free: list[mmap] = []
        self._made = 0

    def take(self) -> mmap | None:
        """Return a ring with anything in it, or None when there are too many."""
        with self._guard:
            if self._free:
                return self._free.pop()
            if self._made == MAX_RINGS:
                return None
            ring = mmap(-1, RING_BYTES)
            self._made += 1
            return ring

    def give_back(self, ring: mmap) -> None:
        with self._guard:
            if len(self._free) < KEPT_RINGS:
                self._free.append(ring)
            else:
                # Its memory goes with the last view of it, which an error's traceback may have.
                self._made -= 1


_rings: Final = Rings()


class SpillFile:
    """A new file, appended to by one thread at a time and read by any.

    `file` is not to be written to by others, and complete only after `flush`.
    """

    def __init__(self, descriptor: int, path: str) -> None:
        self.file = FileIO(descriptor, "r+")
        self.size = 0
        # Reads need no alignment, so they have a descriptor of their own.
        self._reader = FileIO(path)
        self._written = 0
        self._ring = _rings.take()
        self._view = memoryview(self._ring or b"")
        self._is_direct = self._ring is not None and set_direct(descriptor, is_direct=True)
        self._guard = threading.Lock()

    def append(self, data: bytes | bytearray | memoryview) -> None:
        """Take bytes in, and write each slot that is full; OSError if the disk cannot take it."""
        if self._ring is None:
            write_fully(self.file, data)
            self._written += len(data)
            self.size = self._written
            return
        rest = memoryview(data)
        while rest:
            begin = self.size % RING_BYTES
            room = SLOT_BYTES - begin % SLOT_BYTES
            taken, rest = rest[:room], rest[room:]
            # Nobody may be reading what the ring held here before.
            with self._guard:
                self._view[begin : begin + len(taken)] = taken
                self.size += len(taken)
            if len(taken) == room:
                self._write(SLOT_BYTES)

    def read_at(self, offset: int, length: int) -> bytes:
        """Return up to `length` bytes of what has been appended."""
        with self._guard:
            end = min(offset + length, self.size)
            oldest = self.size if self._ring is None else max(0, self.size - RING_BYTES)
            if offset >= oldest:
                return self._from_ring(offset, max(offset, end))
        # The ring has room for more than what is not written yet.
        piece = positioned_read(self._reader, offset, min(end, oldest) - offset)
        following = offset + len(piece)
        return piece + self.read_at(following, end - following) if piece else piece

    def flush(self) -> None:
        """Write what is left, so that the file has all of it; OSError if the disk cannot."""
        left = self.size - self._written
        self._write(left - left % ALIGNMENT)
        if self.size > self._written:
            self._write_through_cache()
            self._write(self.size - self._written)

    def close(self) -> None:
        self.file.close()
        self._reader.close()
        self._view.release()
        if self._ring is not None:
            _rings.give_back(self._ring)
            self._ring = None

    def _from_ring(self, offset: int, end: int) -> bytes:
        begin, stop = offset % RING_BYTES, end % RING_BYTES
        if begin < stop or offset == end:
            return bytes(self._view[begin:stop])
        return bytes(self._view[begin:]) + bytes(self._view[:stop])

    def _write(self, length: int) -> None:
        """Write the next bytes of one slot."""
        begin = self._written % RING_BYTES
        rest = self._view[begin : begin + length]
        while rest:
            try:
                count = self.file.write(rest)
            except OSError as error:
                # Some file systems find out only now that they cannot do it.
                if not self._is_direct or error.errno != errno.EINVAL:
                    raise
                self._write_through_cache()
                continue
            self._written += count
            rest = rest[count:]
            if rest and count % ALIGNMENT:
                # It took a part only, for example of the last free block.
                self._write_through_cache()

    def _write_through_cache(self) -> None:
        if self._is_direct:
            self._is_direct = set_direct(self.file.fileno(), is_direct=False)
