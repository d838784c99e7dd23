"""What a client was told: what was acknowledged and what deleted, and nothing of what it hoped."""

import hashlib
import random
import threading
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

SMALL_BYTES = (1_024, 64 * 1_024)
LARGE_BYTES = (1_000_000, 3_000_000)
LARGE_SHARE = 0.06


@dataclass(frozen=True)
class Acknowledged:
    """An upload that was answered with success; `answered_at` in monotonic seconds."""

    hash: str
    sha256: str
    size: int
    name: str
    replicas: tuple[str, ...]
    registered: bool
    answered_at: float


class Journal:
    """Keeps what clients in many threads were told."""

    def __init__(self) -> None:
        self._guard = threading.Lock()
        self._entries: list[Acknowledged] = []
        self._sent: set[str] = set()
        # Asked to be deleted; nobody knows of them before the answer.
        self._doomed: set[str] = set()
        self._deleted: set[str] = set()
        self.answers: Counter[int] = Counter()
        self.broken = 0
        self.slowest = 0.0

    @property
    def entries(self) -> Sequence[Acknowledged]:
        """Return what was acknowledged and has to be there, in the order of the answers."""
        with self._guard:
            return tuple(entry for entry in self._entries if entry.name not in self._doomed)

    @property
    def names_deleted(self) -> set[str]:
        """Return every name whose deletion was acknowledged."""
        with self._guard:
            return set(self._deleted)

    @property
    def names_sent(self) -> set[str]:
        """Return every name that a client has sent, whatever the answer was."""
        with self._guard:
            return set(self._sent)

    def __len__(self) -> int:
        return len(self._entries)

    def sending(self, name: str) -> None:
        with self._guard:
            self._sent.add(name)

    def acknowledged(self, entry: Acknowledged) -> None:
        with self._guard:
            self._entries.append(entry)

    def answered(self, status: int, seconds: float) -> None:
        """Count an answer, and how long a client waited for it."""
        with self._guard:
            self.answers[status] += 1
            self.slowest = max(self.slowest, seconds)

    def broke_off(self) -> None:
        """Count a connection that ended, or was refused, without an answer."""
        with self._guard:
            self.broken += 1

    def deleting(self, name: str) -> None:
        """Expect no more that this file is there."""
        with self._guard:
            self._doomed.add(name)

    def deleted(self, name: str) -> None:
        with self._guard:
            self._deleted.add(name)

    def any_entry(self, chance: random.Random) -> Acknowledged | None:
        """Return one that has to be there, if a few looks find one."""
        with self._guard:
            found = [chance.choice(self._entries) for _ in range(5) if self._entries]
            return next((entry for entry in found if entry.name not in self._doomed), None)


def content_of(chance: random.Random) -> bytes:
    """Return a unique content, mostly small; every other one can be compressed."""
    bounds = LARGE_BYTES if chance.random() < LARGE_SHARE else SMALL_BYTES
    size = chance.randint(*bounds)
    if chance.random() < 0.5:
        return chance.randbytes(size)
    return chance.randbytes(size // 2).hex().encode()


def md5(content: bytes) -> str:
    return hashlib.md5(content, usedforsecurity=False).hexdigest()


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
