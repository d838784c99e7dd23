"""A data folder belongs to one process at a time, or to several that agree to share it."""

import contextlib
import time
from pathlib import Path
from typing import IO

from mini_dropbox.env import ConfigurationError

try:
    import fcntl
except ImportError:  # Windows has no flock; there, the listening port keeps a second process out.
    fcntl = None  # type: ignore[assignment]

POLL_SECONDS = 0.05


def lock_folder(
    folder: Path, owner: str, *, patience: float = 0.0, shared: bool = False
) -> IO[str]:
    """Lock `folder` until the returned file is closed; ConfigurationError when it is taken.

    `owner` is what holds it then, for the message. Blocks for up to `patience` seconds, which a
    process that is being replaced may need to end. Any number may hold it that are `shared`.
    """
    folder.mkdir(parents=True, exist_ok=True)
    lock = (folder / "lock").open("w", encoding="ascii")
    if fcntl is None:
        return lock
    deadline = time.monotonic() + patience
    while True:
        with contextlib.suppress(BlockingIOError):
            fcntl.flock(lock, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
            return lock
        if time.monotonic() >= deadline:
            break
        time.sleep(POLL_SECONDS)
    lock.close()
    message = f"{folder} is in use by another {owner}: stop that one, or use another data folder."
    raise ConfigurationError(message)
