"""Clients that go on uploading, reading and deleting while something is done to the cluster."""

import contextlib
import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial
from types import TracebackType
from typing import Self

import requests

from tests.faults.journal import Acknowledged, Journal, content_of, md5, sha256
from tests.support.cluster import Server
from tests.support.waiting import eventually

# Nothing that a node does takes longer, whatever is wrong with the others.
ANSWER_SECONDS = 30.0
# Between two uploads of a writer: what matters is that there is always something under way, and
# all of it is read back through every node in the end.
PAUSE_SECONDS = 0.02
# One of many uploads is deleted.
PAUSES_BETWEEN_DELETIONS = 10


class Load:
    """Uploads seeded contents in threads, and reads what was acknowledged, until its end.

    With a `master` it deletes a file now and then as well.
    """

    def __init__(
        self,
        nodes: Sequence[Server],
        *,
        seed: int,
        journal: Journal | None = None,
        writers: int = 4,
        readers: int = 1,
        pause_seconds: float = PAUSE_SECONDS,
        master: Server | None = None,
    ) -> None:
        self.journal = Journal() if journal is None else journal
        self.reads: Counter[str] = Counter()
        self.wrong: list[str] = []
        self.slowest_read = 0.0
        self.failures: list[BaseException] = []
        self._nodes = list(nodes)
        self._pause_seconds = pause_seconds
        self._stopping = threading.Event()
        print(f"seed {seed}")  # noqa: T201  pytest shows it when the test fails
        loops = [self._write] * writers + [self._read] * readers
        if master is not None:
            loops.append(partial(self._delete, master))
        self._threads = [
            threading.Thread(target=self._run, args=(loop, f"{seed}-{number}"))
            for number, loop in enumerate(loops)
        ]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stopping.set()
        for thread in self._threads:
            thread.join()
        assert not self.failures, self.failures

    def wait_for(self, count: int, seconds: float = 30) -> None:
        """Return once this many more uploads have been acknowledged."""
        wanted = len(self.journal) + count
        eventually(lambda: len(self.journal) >= wanted, seconds, what=f"{count} more uploads")

    def _run(self, loop: Callable[[requests.Session, random.Random, str], None], name: str) -> None:
        try:
            with requests.Session() as session:
                loop(session, random.Random(name), name)
        except BaseException as error:  # noqa: BLE001  raised again where the load ends
            self.failures.append(error)

    def _write(self, session: requests.Session, chance: random.Random, prefix: str) -> None:
        number = 0
        while not self._stopping.wait(self._pause_seconds):
            number += 1
            self._upload(session, chance.choice(self._nodes), content_of(chance), prefix, number)

    def _upload(
        self, session: requests.Session, node: Server, content: bytes, prefix: str, number: int
    ) -> None:
        name = f"{prefix}-{number}.bin"
        self.journal.sending(name)
        began = time.monotonic()
        try:
            answer = session.post(
                f"{node.url}/upload", files={"file": (name, content)}, timeout=ANSWER_SECONDS
            )
        except requests.RequestException:
            self.journal.broke_off()
            return
        self.journal.answered(answer.status_code, time.monotonic() - began)
        if not answer.ok:
            return
        said = answer.json()
        assert (said["hash"], said["sha256"]) == (md5(content), sha256(content))
        self.journal.acknowledged(
            Acknowledged(
                hash=said["hash"],
                sha256=said["sha256"],
                size=len(content),
                name=name,
                replicas=tuple(said["replicas"]),
                registered=said["registered"],
                answered_at=time.monotonic(),
            )
        )

    def _delete(
        self, master: Server, session: requests.Session, chance: random.Random, _: str
    ) -> None:
        while not self._stopping.wait(self._pause_seconds * PAUSES_BETWEEN_DELETIONS):
            entry = self.journal.any_entry(chance)
            # What the master has not confirmed yet, it may be told of once more.
            if entry is not None and entry.registered:
                self.journal.deleting(entry.name)
                if delete(session, master, entry):
                    self.journal.deleted(entry.name)

    def _read(self, session: requests.Session, chance: random.Random, _: str) -> None:
        while not self._stopping.wait(self._pause_seconds):
            entry = self.journal.any_entry(chance)
            if entry is None:
                continue
            began = time.monotonic()
            outcome = read(session, chance.choice(self._nodes), entry)
            self.slowest_read = max(self.slowest_read, time.monotonic() - began)
            self.reads[outcome] += 1
            if outcome == "wrong":
                self.wrong.append(entry.hash)


def delete(session: requests.Session, master: Server, entry: Acknowledged) -> bool:
    """Delete the file of an upload; return whether that was acknowledged."""
    files = f"{master.url}/api/v1/files/"
    with contextlib.suppress(requests.RequestException, ValueError):
        found = session.get(files, params={"hash": entry.hash}, timeout=ANSWER_SECONDS).json()
        keys = [file["id"] for file in found.get("results", ()) if file["name"] == entry.name]
        answers = [session.delete(f"{files}{key}/", timeout=ANSWER_SECONDS) for key in keys]
        return [answer.status_code for answer in answers] == [204]
    return False


def read(session: requests.Session, node: Server, entry: Acknowledged) -> str:
    """Return `exact`, `wrong`, a status other than success, or `broken` for half an answer."""
    query = {"hash": entry.hash}
    with contextlib.suppress(requests.RequestException):
        answer = session.get(f"{node.url}/retrieve", params=query, timeout=ANSWER_SECONDS)
        if not answer.ok:
            return str(answer.status_code)
        return "exact" if sha256(answer.content) == entry.sha256 else "wrong"
    return "broken"
