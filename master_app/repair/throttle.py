"""Holds a stream of work to a rate."""

import threading
import time
from collections.abc import Callable


class Throttle:
    """Lets `rate` bytes a second pass on average; safe for threads."""

    def __init__(self, rate: float, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._rate = rate
        self._clock = clock
        self._lock = threading.Lock()
        self._free_at = clock()

    def wait_seconds(self, size: int) -> float:
        """Take the turn of `size` bytes, and return how long to wait for it."""
        with self._lock:
            now = self._clock()
            begins = max(self._free_at, now)
            self._free_at = begins + size / self._rate
            return begins - now
