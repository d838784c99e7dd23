"""The file of one resumable upload while it is open: takes bytes, and is what a store keeps."""

import hashlib
import os
import shutil
from contextlib import suppress
from io import FileIO
from pathlib import Path
from typing import Final, Self

from node_app.blobwriter import BlobWriter, Digests
from node_app.disk import positioned_read, storage_errors, write_fully
from node_app.errors import StoreFailed

READ_BYTES: Final = 1024 * 1024
COPY_BYTES: Final = 64 * 1024 * 1024


class PrefixDigests:
    """The digests of an upload's first `size` bytes, which go on where they stopped."""

    def __init__(self) -> None:
        self.md5 = hashlib.md5(usedforsecurity=False)
        self.sha256 = hashlib.sha256()
        self.size = 0

    def update(self, data: bytes | bytearray | memoryview) -> None:
        self.md5.update(data)
        self.sha256.update(data)
        self.size += len(data)

    def copy(self) -> Self:
        """Return digests that go on from here by themselves."""
        twin = type(self)()
        twin.md5, twin.sha256, twin.size = self.md5.copy(), self.sha256.copy(), self.size
        return twin


class UploadFile(BlobWriter):
    """An upload's file, open behind its first `offset` bytes; what stands after them is dropped.

    It stays in its place until the upload is removed, also once a store has its bytes: the
    store's name is a second one. So an upload that could not be replicated is whole as before,
    wherever on the way it stopped. `prefix` is None where nobody will ask for digests. Every
    method may block.
    """

    def __init__(self, path: Path, offset: int, prefix: PrefixDigests | None) -> None:
        super().__init__(path.parent)
        with storage_errors():
            # Unbuffered: the caller's pieces are large, and a reader sees every byte at once.
            self._output = FileIO(path, "r+")
            self.path = path
            self.prefix = prefix
            # Hashes what is written from now on as well; for checksums of single requests.
            self.observer: hashlib._Hash | None = None
            self._has_gap = False
            if os.fstat(self._output.fileno()).st_size < offset:
                self._output.close()
                raise StoreFailed("The upload's file has lost its end; begin anew.")
            self._cut(offset)

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Append all of `data` or nothing of it; StoreFull or StoreFailed when it has no room."""
        with self.in_use(), storage_errors():
            if self._has_gap:
                raise StoreFailed("What comes before these bytes could not be written.")
            try:
                self._append(data)
            except OSError:
                self._has_gap = True
                self._cut(self.size)
                raise
            if self.observer is not None:
                self.observer.update(data)
            # Digests that are behind, as after a restart, catch up once: when all is there.
            if self.prefix is not None and self.prefix.size == self.size:
                self.prefix.update(data)
            self.size += len(data)

    def go_back(self, offset: int, prefix: PrefixDigests | None) -> None:
        """Drop what was written behind `offset`; `prefix` is a copy of the digests from then."""
        with self.in_use(), storage_errors():
            self._cut(offset)
            self.prefix = prefix

    def sync(self) -> int:
        """Put what has been written on disk, and return how many bytes that are.

        It takes no turn with `write`: what comes in meanwhile may, or may not, be on disk.
        """
        with self.in_use(), storage_errors():
            size = self.size
            getattr(os, "fdatasync", os.fsync)(self._output.fileno())
            return size

    def append_file(self, source: Path, length: int) -> None:
        """Append another file's first `length` bytes; FileNotFoundError when it has gone.

        StoreFailed from the next step on when this file has been closed meanwhile.
        """
        with FileIO(source) as part:
            for begin in range(0, length, COPY_BYTES):
                with self.in_use(), storage_errors():
                    step = min(COPY_BYTES, length - begin)
                    _copy(part, self._output, step)
                    self.size += step
                    if os.fstat(self._output.fileno()).st_size != self.size:
                        raise StoreFailed("A part of the upload is shorter than it was.")

    def catch_up(self) -> None:
        """Hash what is written and not hashed yet, so that `digests` can tell all of it."""
        prefix = self.prefix = self.prefix or PrefixDigests()
        with storage_errors():
            while prefix.size < self.size:
                piece = self.read_at(prefix.size, min(READ_BYTES, self.size - prefix.size))
                if not piece:
                    raise StoreFailed("The upload's file has lost its end.")
                prefix.update(piece)

    def digests(self) -> Digests:
        """Return what the upload is, after `catch_up`."""
        if self.prefix is None or self.prefix.size != self.size:
            raise StoreFailed("The upload has not been hashed to its end.")
        return Digests(self.prefix.md5.hexdigest(), self.prefix.sha256.hexdigest(), self.size)

    def read_at(self, offset: int, length: int) -> bytes:
        with self.in_use():
            return positioned_read(self._output, offset, length)

    def rename(self, target: str) -> None:
        """Give the file a second name; where the file system has no such thing, a copy."""
        path = self.path
        try:
            os.link(path, target)
        except (FileNotFoundError, FileExistsError):
            raise
        except OSError:
            _copy_under(path, Path(target))

    def _discard(self) -> None:
        """Close the file, which stays."""
        self._output.close()

    def write_out(self) -> FileIO:
        return self._output

    def _append(self, data: bytes | bytearray | memoryview) -> None:
        write_fully(self._output, data)

    def _cut(self, offset: int) -> None:
        """Make `offset` the end of the file, and the place where it goes on."""
        self._output.truncate(offset)
        self._output.seek(offset)
        self.size = offset


def _copy(source: FileIO, target: FileIO, length: int) -> None:
    """Copy up to `length` bytes from where `source` stands to where `target` does."""
    stop = source.tell() + length
    end = target.tell() + length
    if hasattr(os, "copy_file_range"):
        # The system copies by itself, or lets both files share what is on the disk.
        with suppress(OSError):
            while (left := end - target.tell()) > 0:
                if not os.copy_file_range(source.fileno(), target.fileno(), left):
                    return
    # Not every file system can do that.
    while (left := end - target.tell()) > 0:
        source.seek(stop - left)
        piece = source.read(min(READ_BYTES, left))
        if not piece:
            return
        target.write(piece)


def _copy_under(path: Path, target: Path) -> None:
    """Put a durable copy of `path` under the name `target`, all at once."""
    copy = path.with_suffix(".copy")
    shutil.copyfile(path, copy)
    with copy.open("rb+") as file:
        os.fsync(file.fileno())
    copy.replace(target)
