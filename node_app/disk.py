"""Files and folders that survive a power cut, and what the disk's errors mean."""

import errno
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from io import FileIO
from pathlib import Path
from typing import Final

from mini_dropbox.durability import fsync_folder
from node_app.errors import StoreFailed, StoreFull

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


@contextmanager
def storage_errors() -> Iterator[None]:
    """Turn the operating system's errors into StoreFull and StoreFailed."""
    try:
        yield
    except OSError as error:
        if error.errno in NO_ROOM:
            raise StoreFull("The disk is full; free some space and try again.") from error
        raise StoreFailed(f"The disk failed: {error.strerror}.") from error


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
