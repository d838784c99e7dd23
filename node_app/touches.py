"""When blobs were last stored or found, as far as it matters for whether one may be removed."""

import time
from collections.abc import Callable
from mmap import mmap
from typing import Final

# By the first hex digits of the hash. Blobs that share a place count as touched together, which
# at worst puts a removal off; memory is taken only for places that have been touched.
DIGITS: Final = 5
PLACES: Final = 16**DIGITS


class Touches:
    """Remembers for each blob's place when it was touched last, in 4 MiB at most.

    Threads may share it: a place is one number.
    """

    def __init__(self, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._began_at = clock()
        self._seconds = memoryview(mmap(-1, 4 * PLACES)).cast("I")

    def touch(self, blob_hash: str) -> None:
        """Note that a blob was stored, or found where it was to be stored."""
        self._seconds[int(blob_hash[:DIGITS], 16)] = int(self._clock() - self._began_at) + 1

    def silence(self, blob_hash: str) -> float:
        """Return for how many seconds a blob has surely not been touched.

        What was before this process nobody knows.
        """
        since = self._clock() - self._began_at
        touched = self._seconds[int(blob_hash[:DIGITS], 16)]
        return since - touched if touched else since
