"""Names, and whole file systems, that survive a power cut."""

import ctypes
import os
import platform
import re
import sys
from contextlib import suppress
from pathlib import Path
from typing import Final

# Before, syncfs(2) did not tell of bytes that could not be written.
FIRST_HONEST_SYNCFS: Final = (5, 8)


def _has_honest_syncfs() -> bool:
    release = re.match(r"(\d+)\.(\d+)", platform.release())
    if sys.platform != "linux" or release is None:
        return False
    is_honest = tuple(map(int, release.groups())) >= FIRST_HONEST_SYNCFS
    return is_honest and hasattr(ctypes.CDLL(None), "syncfs")


HAS_HONEST_SYNCFS: Final = _has_honest_syncfs()


def can_sync_file_system(path: Path) -> bool:
    """Tell whether `sync_file_system` keeps its promise where `path` is.

    Most file systems in user space are never told of a syncfs.
    """
    return HAS_HONEST_SYNCFS and not _file_system_type(path).startswith(("fuse", "9p"))


def sync_file_system(descriptor: int) -> None:
    """Put on disk all that has been written to the file system of an open file.

    OSError if that failed for anything since the descriptor was opened, or since the last call:
    errors are told once for each descriptor, and bytes that could not be written may be lost.
    Python itself offers only the sync of all file systems, which does not tell of errors.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.syncfs(descriptor):
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def _file_system_type(path: Path) -> str:
    """Return what proc(5) calls it; empty where that is not found."""
    device = path.stat().st_dev
    wanted = f"{os.major(device)}:{os.minor(device)}"
    with suppress(OSError), Path("/proc/self/mountinfo").open(encoding="utf-8") as mounts:
        for line in mounts:
            fields, _, kind = line.partition(" - ")
            if fields.split()[2] == wanted:
                return kind.split()[0]
    return ""


def fsync_folder(path: Path | str) -> None:
    """Put a folder's entries on disk; where folders cannot be opened (Windows), do nothing."""
    if sys.platform == "win32":
        return
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
