"""Names that survive a power cut."""

import os
import sys
from pathlib import Path


def fsync_folder(path: Path | str) -> None:
    """Put a folder's entries on disk; where folders cannot be opened (Windows), do nothing."""
    if sys.platform == "win32":
        return
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
