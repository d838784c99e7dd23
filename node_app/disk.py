"""Files and folders that survive a power cut, and what the disk's errors mean."""

import errno
import os
import sys
import threading
from io import FileIO
from pathlib import Path
from types import TracebackType
from typing import Final

from mini_dropbox.durability import fsync_folder
from node_app.errors import NodeError, StoreFailed, StoreFull

if sys.platform == "linux":
    import fcntl

FILE_MODE: Final = 0o644
FOLDER_MODE: Final = 0o755
NO_ROOM: Final = frozenset({errno.ENOSPC, errno.EDQUOT})

_seeking = threading.Lock()


def positioned_read(file: FileIO, offset: int, length: int) -> bytes:
    """Return up to `length` bytes from `offset`, without regard to the file's own position."""
    if hasattr(os, "pread"):
        return os.pread(file.fileno(), length, offset)
    with _seeking:  # Windows has no positioned read.
        file.seek(offset)
        return file.read(length) or b""


def set_direct(descriptor: int, *, is_direct: bool) -> bool:
    """Choose how a file is read and written; return whether that is past the page cache."""
    if sys.platform != "linux":
        return False
    flags = fcntl.fcntl(descriptor, fcntl.F_GETFL) & ~os.O_DIRECT
    try:
        fcntl.fcntl(descriptor, fcntl.F_SETFL, flags | os.O_DIRECT if is_direct else flags)
    except OSError:
        # Not every file system has that.
        return False
    return is_direct


def write_fully(file: FileIO, data: bytes | bytearray | memoryview) -> None:
    """Write all of `data`: a write may take a part only, for example of the last free block."""
    rest = memoryview(data)
    while rest:
        rest = rest[file.write(rest) :]


def as_node_error(error: OSError) -> NodeError:
    """Return what the operating system's error means for a client: StoreFull or StoreFailed."""
    if error.errno in NO_ROOM:
        return StoreFull("The disk is full; free some space and try again.")
    return StoreFailed(f"The disk failed: {error.strerror}.")


class _StorageErrors:
    """A context without a state: hot paths enter it several times a blob."""

    def __enter__(self) -> None:
        pass

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if isinstance(error, OSError):
            raise as_node_error(error) from error


_STORAGE_ERRORS: Final = _StorageErrors()


def storage_errors() -> _StorageErrors:
    """Turn the operating system's errors into StoreFull and StoreFailed."""
    return _STORAGE_ERRORS


def make_folder_durable(path: Path) -> None:
    """Make `path` and its missing parents so that a power cut cannot take them back."""
    for folder in make_folders(path):
        try:
            fsync_folder(folder.parent)
        except OSError:
            # Whoever finds the folder takes it as durable.
            path.rmdir()
            raise


def make_folders(path: Path) -> list[Path]:
    """Make `path` and its missing parents, whatever the umask; return what was missing."""
    missing = [folder for folder in (path, *path.parents) if not folder.exists()]
    for folder in reversed(missing):
        folder.mkdir(exist_ok=True)
        folder.chmod(FOLDER_MODE)
    return missing
