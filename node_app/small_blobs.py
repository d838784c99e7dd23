"""The small blobs that are asked for most, in memory."""

import threading
from collections import OrderedDict
from typing import Final

# What one of them takes beside its bytes.
ENTRY_BYTES: Final = 256


class SmallBlobs:
    """Texts by key, the latest used ones, of `room` bytes at most; from any thread.

    `forget` may come while a text is being made of what it forgets: whoever makes one takes
    `moment` before, and it is not kept if anything was forgotten since.
    """

    def __init__(self, room: int) -> None:
        self.moment = 0
        self._room = room
        self._texts: OrderedDict[bytes, bytes] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, key: bytes) -> bytes | None:
        with self._lock:
            text = self._texts.get(key)
            if text is not None:
                self._texts.move_to_end(key)
            return text

    def keep(self, key: bytes, text: bytes, *, moment: int) -> None:
        with self._lock:
            if moment != self.moment or key in self._texts:
                return
            self._texts[key] = text
            self._room -= len(text) + ENTRY_BYTES
            while self._room < 0:
                self._give_back(self._texts.popitem(last=False)[1])

    def forget(self, key: bytes) -> None:
        with self._lock:
            self.moment += 1
            if key in self._texts:
                self._give_back(self._texts.pop(key))

    def _give_back(self, text: bytes) -> None:
        self._room += len(text) + ENTRY_BYTES
