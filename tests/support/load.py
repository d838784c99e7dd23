"""A client that goes on uploading while something is done to the cluster."""

import contextlib
import itertools
import secrets
import threading
import time
from dataclasses import dataclass
from types import TracebackType
from typing import Self

import requests

from tests.support.cluster import Server
from tests.support.waiting import eventually


@dataclass(frozen=True)
class Outcome:
    """One upload: what it was answered, and after how many seconds."""

    content: bytes
    answer: requests.Response
    seconds: float


class Uploads:
    """Uploads small files one after another, in a thread, while the context is open.

    It takes the nodes in turn; one that hangs up is passed over, as a client would do.
    """

    def __init__(self, *nodes: Server) -> None:
        self.outcomes: list[Outcome] = []
        self._nodes = itertools.cycle(nodes)
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> Self:
        self._thread.start()
        self.wait_for(3)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stopping.set()
        self._thread.join()

    def wait_for(self, count: int) -> None:
        """Return once this many more uploads have been answered."""
        wanted = len(self.outcomes) + count
        eventually(lambda: len(self.outcomes) >= wanted, 20, what=f"{count} more uploads")

    def stored(self) -> list[tuple[str, bytes]]:
        """Return hash and content of every upload that was answered with success."""
        return [
            (outcome.answer.json()["hash"], outcome.content)
            for outcome in self.outcomes
            if outcome.answer.ok
        ]

    def _run(self) -> None:
        while not self._stopping.is_set():
            content = secrets.token_bytes(2_000)
            began = time.monotonic()
            with contextlib.suppress(requests.ConnectionError):
                answer = next(self._nodes).upload(content, f"{content[:8].hex()}.bin")
                self.outcomes.append(Outcome(content, answer, time.monotonic() - began))
