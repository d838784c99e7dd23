"""A node's folder belongs to one process at a time."""

import contextlib
import time
from pathlib import Path
from typing import IO, Final

from mini_dropbox.env import ConfigurationError

try:
    import fcntl
except ImportError:  # Windows has no flock; there, the listening port keeps a second node out.
    fcntl = None  # type: ignore[assignment]

# A process that is being replaced may need this long to end.
PATIENCE_SECONDS: Final = 10.0


def lock_folder(folder: Path) -> IO[str]:
    """Lock `folder` until the returned file is closed; ConfigurationError when it is taken.

    Blocks for up to `PATIENCE_SECONDS`, also the event loop of a node that starts: there is
    nothing that it could do before.
    """
    folder.mkdir(parents=True, exist_ok=True)
    lock = (folder / "lock").open("w", encoding="ascii")
    if fcntl is None:
        return lock
    deadline = time.monotonic() + PATIENCE_SECONDS
    while time.monotonic() < deadline:
        with contextlib.suppress(BlockingIOError):
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return lock
        time.sleep(0.05)
    lock.close()
    message = f"{folder} is in use by another node process: stop it, or choose another port."
    raise ConfigurationError(message)
