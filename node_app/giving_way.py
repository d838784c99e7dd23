"""How background threads let everybody else go first."""

import os
import sys
import threading
from collections.abc import Callable
from typing import Final

# While uploads are under way a thread waits for up to this long: under a load that never ends, it
# goes on slowly.
BUSY_SECONDS: Final = 1.0
BUSY_STEP_SECONDS: Final = 0.05
LOWEST_PRIORITY: Final = 19


class Stopped(Exception):
    """The node ends; what was under way is begun anew after the next start."""


class Rests:
    """The pauses of one thread; `is_busy` tells whether uploads are under way."""

    def __init__(self, stopping: threading.Event, is_busy: Callable[[], bool]) -> None:
        self._stopping = stopping
        self._is_busy = is_busy

    def take(self, seconds: float) -> None:
        """Wait for so long, and then for uploads, but not for ever; Stopped in the end."""
        rested, wait = 0.0, seconds
        while not self._stopping.wait(wait):
            if rested >= BUSY_SECONDS or not self._is_busy():
                return
            rested += BUSY_STEP_SECONDS
            wait = BUSY_STEP_SECONDS
        raise Stopped


def take_lowest_priority() -> None:
    """Let every other thread go first; elsewhere than on Linux a priority is a whole process's."""
    if sys.platform == "linux":
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), LOWEST_PRIORITY)
