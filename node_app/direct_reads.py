"""Reads of what the disk itself has, past the page cache.

They show what memory would hide, and leave alone what others have in the cache (open(2), O_DIRECT).
Where a file system has no direct reads, the cache is told to forget what was read (posix_fadvise).
"""

import errno
import os
from io import FileIO
from mmap import mmap
from typing import Final

from node_app.disk import positioned_read, set_direct

# What direct reads want of addresses, offsets and lengths: a page is enough everywhere.
ALIGNMENT: Final = 4096
BUFFER_BYTES: Final = 1024 * 1024


class DirectReads:
    """Reads an open file that nobody writes to, for one thread. OSError is the disk's own."""

    def __init__(self, file: FileIO) -> None:
        self._file = file
        self._is_direct = set_direct(file.fileno(), is_direct=True)
        self._buffer = mmap(-1, BUFFER_BYTES) if self._is_direct else None

    def read_at(self, offset: int, length: int) -> bytes:
        """Return up to `length` bytes from `offset` on; fewer only at the file's end."""
        pieces = []
        while length > 0:
            piece = self._read(offset, length)
            if not piece:
                break
            pieces.append(piece)
            offset += len(piece)
            length -= len(piece)
        return b"".join(pieces)

    def _read(self, offset: int, length: int) -> bytes:
        if self._buffer is None:
            return self._read_and_forget(offset, length)
        skipped = offset % ALIGNMENT
        begin = offset - skipped
        wanted = -(-(skipped + length) // ALIGNMENT) * ALIGNMENT
        try:
            with memoryview(self._buffer) as view, view[:wanted] as part:
                count = os.preadv(self._file.fileno(), [part], begin)
        except OSError as error:
            # Some file systems find out only now that they cannot do it.
            if error.errno != errno.EINVAL:
                raise
            set_direct(self._file.fileno(), is_direct=False)
            self._buffer = None
            return self._read_and_forget(offset, length)
        return self._buffer[skipped : min(count, skipped + length)]

    def _read_and_forget(self, offset: int, length: int) -> bytes:
        piece = positioned_read(self._file, offset, length)
        if hasattr(os, "posix_fadvise"):
            os.posix_fadvise(self._file.fileno(), offset, len(piece), os.POSIX_FADV_DONTNEED)
        return piece
