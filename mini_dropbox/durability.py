"""Names, and whole file systems, that survive a power cut."""

import ctypes
import os
import platform
import re
import sys
from pathlib import Path
from typing import Final

# Before, syncfs(2) did not tell of bytes that could not be written.
FIRST_HONEST_SYNCFS: Final = (5, 8)


def _can_sync_file_system() -> bool:
    release = re.match(r"(\d+)\.(\d+)", platform.release())
    if sys.platform != "linux" or release is None:
        return False
    is_honest = tuple(map(int, release.groups())) >= FIRST_HONEST_SYNCFS
    return is_honest and hasattr(ctypes.CDLL(None), "syncfs")


CAN_SYNC_FILE_SYSTEM: Final = _can_sync_file_system()


def sync_file_system(path: Path) -> None:
    """Put on disk all that has been written to the file system of `path`; OSError if it fails.

    Python itself offers only the sync of all file systems, which does not tell of errors.
    """
    descriptor = os.open(path, os.O_RDONLY)
    try:
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.syncfs(descriptor):
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number))
    finally:
        os.close(descriptor)


def fsync_folder(path: Path | str) -> None:
    """Put a folder's entries on disk; where folders cannot be opened (Windows), do nothing."""
    if sys.platform == "win32":
        return
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
