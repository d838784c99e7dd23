"""Receives one blob: counts, hashes, and holds its bytes until a store keeps them."""

import hashlib
import itertools
import os
import threading
from collections.abc import Iterable
from dataclasses import dataclass
from io import FileIO
from pathlib import Path
from types import TracebackType
from typing import Final, Self, cast

from node_app.disk import FILE_MODE, positioned_read, storage_errors, write_fully
from node_app.errors import StoreFailed
from node_app.spillfile import SpillFile

# Up to this size a blob stays in memory until it is written in one go.
MEMORY_BYTES: Final = 128 * 1024
CREATE_FLAGS: Final = (
    os.O_RDWR | os.O_CREAT | os.O_EXCL | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0)
)

_numbers = itertools.count()


@dataclass(frozen=True)
class Digests:
    """What a content is: its address, the SHA-256 beside it, and its size in bytes."""

    md5: str
    sha256: str
    size: int


class _Use:
    """The context of `in_use`; it has no state of its own, and may be entered by many at once."""

    def __init__(self, writer: "BlobWriter") -> None:
        self._writer = writer

    def __enter__(self) -> None:
        self._writer.begin_use()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._writer.end_use()


class BlobWriter:
    """Takes a blob's bytes and hashes them; what is over MEMORY_BYTES goes to a temporary file.

    Leaving the context discards whatever no store has committed. Threads that are at work on
    the writer at that moment (a commit, a read for a peer) finish first; none can begin later.

    With `computes_md5` off, `tell_md5` has to be called before the digests are asked for.
    """

    def __init__(self, folder: Path | str, *, computes_md5: bool = True) -> None:
        self._folder = folder
        self._guard = threading.Lock()
        self._users = 0
        self._closed = False
        self._use = _Use(self)
        self._md5 = hashlib.md5(usedforsecurity=False) if computes_md5 else None
        self._told_md5 = ""
        self._sha256 = hashlib.sha256()
        self._memory = bytearray()
        # One of these two, as soon as there is a file.
        self._file: FileIO | None = None
        self._large: SpillFile | None = None
        self._path: str | None = None
        self.size = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def in_use(self) -> "_Use":
        """Keep the writer open meanwhile; StoreFailed when it is closed already."""
        return self._use

    def begin_use(self) -> None:
        with self._guard:
            if self._closed:
                raise StoreFailed("The upload was given up.")
            self._users += 1

    def end_use(self) -> None:
        with self._guard:
            self._users -= 1
            given_up = self._closed and not self._users
        if given_up:
            self._discard()

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Append `data`; StoreFull or StoreFailed when the temporary file cannot take it."""
        with self.in_use(), storage_errors():
            if self._md5 is not None:
                self._md5.update(data)
            self._sha256.update(data)
            if self.size + len(data) <= MEMORY_BYTES:
                self._memory += data
            else:
                if self._large is None:
                    self._large = SpillFile(*self._create())
                    self._large.append(self._memory)
                self._large.append(data)
            self.size += len(data)

    def write_all(self, pieces: Iterable[bytes | bytearray]) -> None:
        """Append several."""
        for piece in pieces:
            self.write(piece)

    def tell_md5(self, md5: str) -> None:
        """Take the word of whoever has computed the MD5 of what has this SHA-256."""
        self._told_md5 = md5

    @property
    def sha256(self) -> str:
        return self._sha256.hexdigest()

    def digests(self) -> Digests:
        """Return what has been written so far."""
        md5 = self._told_md5 if self._md5 is None else self._md5.hexdigest()
        return Digests(md5, self.sha256, self.size)

    def read_at(self, offset: int, length: int) -> bytes:
        """Return written bytes back; from any thread, also while and after a store keeps them."""
        with self.in_use():
            if self.size <= MEMORY_BYTES:
                return bytes(self._memory[offset : offset + length])
            if self._large is not None:
                return self._large.read_at(offset, length)
            return positioned_read(self.write_out(), offset, length)

    def begin_writeback(self) -> None:
        """Send all bytes on their way to the disk, without waiting.

        Of many files that are then made durable one after another, the first waits for the file
        system's journal and the others find their part of it written.
        """
        with self.in_use(), storage_errors():
            descriptor = self.write_out().fileno()
            if hasattr(os, "posix_fadvise"):
                # On Linux it starts the write before it looks at what could be dropped.
                os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)

    def make_durable(self) -> None:
        """Put all bytes on disk, in the temporary file."""
        with storage_errors():
            descriptor = self.write_out().fileno()
            os.fsync(descriptor)
            if os.fstat(descriptor).st_size != self.size:
                raise StoreFailed("The temporary file does not hold what was written.")

    def rename(self, target: str) -> None:
        """Give the temporary file its final name; what was written can still be read back."""
        is_closed = os.name == "nt"  # Windows renames no open file.
        if is_closed:
            self._close_files()
        os.replace(cast("str", self._path), target)  # noqa: PTH105  no Path is made on hot paths
        self._path = None
        if is_closed:
            self._file = FileIO(target)

    def close(self) -> None:
        """Give up whatever no store has committed, as soon as nobody uses it; never waits."""
        with self._guard:
            unused = not self._users and not self._closed
            self._closed = True
        if unused:
            self._discard()

    def _discard(self) -> None:
        """Close, and remove the temporary file unless it has been renamed."""
        try:
            self._close_files()
        finally:
            if self._path is not None:
                Path(self._path).unlink(missing_ok=True)
                self._path = None

    def _close_files(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None
        if self._large is not None:
            self._large.close()
            self._large = None

    def write_out(self) -> FileIO:
        """Return the temporary file, with all bytes in it."""
        if self._large is not None:
            self._large.flush()
            return self._large.file
        if self._file is None:
            descriptor, _ = self._create()
            # Unbuffered, as all of it is there.
            self._file = FileIO(descriptor, "r+")
            write_fully(self._file, self._memory)
        return self._file

    def _create(self) -> tuple[int, str]:
        """Return a new temporary file's descriptor and path."""
        # No other process writes to this folder, so that a number is enough of a name.
        path = f"{self._folder}/upload-{next(_numbers)}"
        descriptor = os.open(path, CREATE_FLAGS, FILE_MODE)
        self._path = path
        if hasattr(os, "fchmod"):
            # Whatever the umask.
            os.fchmod(descriptor, FILE_MODE)
        return descriptor, path
