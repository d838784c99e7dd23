"""Breaks a cluster at random, two things at a time, and counts what comes of it.

`python -m tests.faults.thrash --minutes 10 --seed 7 --nodes 5 --replicas 3`, or `make faults`.
Exits with 1 when an acknowledged upload is lost or wrong bytes were served.
"""

import argparse
import contextlib
import random
import statistics
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

import requests

from mini_dropbox.signing import Signer
from mini_dropbox.wire import SCRUB_PATH
from tests.faults.audit import (
    RESTORED_SECONDS,
    count_copies,
    damaged_replicas,
    listed,
    outboxes,
    short_of_copies,
    unreadable,
)
from tests.faults.journal import Acknowledged, Journal
from tests.faults.load import Load
from tests.support.cluster import Server
from tests.support.machines import SECRET, Machines
from tests.support.waiting import eventually

FAULT_SECONDS = (0.5, 4.0)
# Far enough apart for the last look at each upload through every node to stay short.
PAUSE_SECONDS = 0.1
REPAIR_GRACE_SECONDS = 2
COMPRESS_AFTER_SECONDS = 2
DAMAGED_AT_ONCE = 5
# A long run leaves many blobs to read again.
SCRUB_SECONDS = 600.0

# Findings of which there must be none.
BROKEN_PROMISES = ("lost", "unlisted", "strangers", "risen", "damaged", "wrong")

Fault = Callable[[Server], contextlib.AbstractContextManager[None]]


@dataclass
class Report:
    """What a run has done and found; times in seconds."""

    seed: int
    acknowledged: int = 0
    answers: Counter[int] = field(default_factory=Counter)
    reads: Counter[str] = field(default_factory=Counter)
    faults: Counter[str] = field(default_factory=Counter)
    damaged_copies: int = 0
    restored_after: list[float] = field(default_factory=list)
    not_restored: int = 0
    lost: list[str] = field(default_factory=list)
    unlisted: list[str] = field(default_factory=list)
    strangers: list[str] = field(default_factory=list)
    deleted: int = 0
    risen: list[str] = field(default_factory=list)
    damaged: list[str] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)
    short: list[str] = field(default_factory=list)

    @property
    def has_kept_its_promises(self) -> bool:
        return not any(getattr(self, name) for name in BROKEN_PROMISES)

    def lines(self) -> Iterator[str]:
        """Return the report for people."""
        yield f"seed                       {self.seed}"
        yield f"acknowledged uploads       {self.acknowledged}"
        yield f"answers to uploads         {_counted(self.answers)}"
        yield f"acknowledged deletions     {self.deleted}"
        yield f"reads                      {_counted(self.reads)}"
        yield f"faults                     {_counted(self.faults)}"
        yield f"copies damaged             {self.damaged_copies}"
        if self.restored_after:
            median, worst = statistics.median(self.restored_after), max(self.restored_after)
            yield f"full replication after     {median:.1f} s (median), {worst:.1f} s (worst)"
        yield f"not within {RESTORED_SECONDS:.0f} s            {self.not_restored} times"
        for name in (*BROKEN_PROMISES, "short"):
            found = getattr(self, name)
            yield f"{name:<27}{len(found)}"
            yield from (f"  {finding}" for finding in found[:20])


class Thrasher:
    """One run: a load, and faults on two servers at a time, never on more than R - 1 nodes."""

    def __init__(self, cluster: Machines, *, seed: int, replicas: int) -> None:
        self._cluster = cluster
        self._chance = random.Random(seed)
        self._replicas = replicas
        self._seed = seed
        self.journal = Journal()
        self.report = Report(seed)
        self._damaged: set[str] = set()

    def run(self, seconds: float) -> Report:
        """Break things for this long, then look at everything."""
        deadline = time.monotonic() + seconds
        load = Load(
            self._cluster.nodes,
            seed=self._seed,
            journal=self.journal,
            readers=2,
            pause_seconds=PAUSE_SECONDS,
            master=self._cluster.master,
        )
        with load:
            load.wait_for(20)
            while time.monotonic() < deadline:
                self._break_two()
                self._wait_until_restored()
        self.report.answers, self.report.reads = self.journal.answers, load.reads
        self.report.wrong = load.wrong
        self._audit()
        return self.report

    def _break_two(self) -> None:
        """Break two servers for a while, one of them a little later than the other."""
        nodes = self._chance.sample(self._cluster.nodes, min(2, self._replicas - 1))
        servers: list[Server] = [*nodes, self._cluster.master]
        victims = self._chance.sample(servers, min(2, len(servers)))
        with ExitStack() as faults:
            for victim in victims:
                kind, fault = self._chance.choice(self._kinds(victim))
                self.report.faults[kind] += 1
                faults.enter_context(fault(victim))
                # Nothing is waited for: this is how long it lasts.
                time.sleep(self._chance.uniform(*FAULT_SECONDS))

    def _kinds(self, victim: Server) -> list[tuple[str, Fault]]:
        if victim == self._cluster.master:
            return [
                ("master killed", self._kill),
                ("master restarted", self._restart),
                ("master frozen", self._freeze),
            ]
        return [
            ("node killed", self._kill),
            ("node restarted", self._restart),
            ("node frozen", self._freeze),
            ("node cut off", self._cut_off),
            ("node cut off silently", self._silence),
            ("copies damaged", self._damage),
        ]

    @contextlib.contextmanager
    def _kill(self, victim: Server) -> Iterator[None]:
        machine = self._cluster.machines[victim]
        machine.kill()
        yield
        machine.start()

    @contextlib.contextmanager
    def _restart(self, victim: Server) -> Iterator[None]:
        machine = self._cluster.machines[victim]
        machine.terminate()
        yield
        machine.start()

    @contextlib.contextmanager
    def _freeze(self, victim: Server) -> Iterator[None]:
        with self._cluster.machines[victim].frozen():
            yield

    @contextlib.contextmanager
    def _cut_off(self, victim: Server, *, silently: bool = False) -> Iterator[None]:
        """Cut a node's lines to the master and from its peers; clients still reach it."""
        lines = [self._cluster.to_master[victim], self._cluster.to_node[victim]]
        for line in lines:
            line.cut(silently=silently)
        yield
        for line in lines:
            line.heal()

    @contextlib.contextmanager
    def _silence(self, victim: Server) -> Iterator[None]:
        with self._cut_off(victim, silently=True):
            yield

    @contextlib.contextmanager
    def _damage(self, victim: Server) -> Iterator[None]:
        """Change, cut, empty or remove some of a node's copies; in the end it reads all it has."""
        entries = self.journal.entries
        for entry in self._chance.sample(entries, min(DAMAGED_AT_ONCE * 5, len(entries))):
            # One copy of a blob in a whole run, and only where all of them are there.
            path = self._copy_of(victim, entry)
            if entry.hash in self._damaged or not path.exists():
                continue
            if count_copies(self._cluster, entry) < self._replicas:
                continue
            self._damaged.add(entry.hash)
            damage(path, self._chance)
            self.report.damaged_copies += 1
            if len(self._damaged) % DAMAGED_AT_ONCE == 0:
                break
        yield
        self._scrub(victim)

    def _copy_of(self, node: Server, entry: Acknowledged) -> Path:
        folder = self._cluster.folder_of(node) / "blobs" / entry.hash[:2] / entry.hash[2:4]
        return folder / entry.hash

    def _scrub(self, node: Server) -> None:
        """Let a node read everything it has again."""
        headers = {"Authorization": Signer(SECRET, "master").sign("POST", SCRUB_PATH)}
        # One that is away reads it again in the end.
        with contextlib.suppress(requests.RequestException):
            node.post(SCRUB_PATH, headers=headers)

    def _wait_until_restored(self) -> None:
        """Wait until all that was acknowledged so far has all of its replicas again."""
        began = time.monotonic()
        entries = self.journal.entries
        try:
            eventually(self._cluster.is_whole, RESTORED_SECONDS)
            self._wait_for_copies(entries, began + RESTORED_SECONDS)
        except AssertionError:
            self.report.not_restored += 1
        else:
            self.report.restored_after.append(time.monotonic() - began)

    def _wait_for_copies(self, entries: Sequence[Acknowledged], deadline: float) -> None:
        short = list(entries)

        def none_is_short() -> bool:
            short[:] = short_of_copies(self._cluster, short, self._replicas)
            return not short

        eventually(none_is_short, max(0.0, deadline - time.monotonic()))

    def _none_scrubs(self) -> bool:
        progress = [node.health().get("scrub") or {} for node in self._cluster.nodes]
        return all(each.get("running") is False for each in progress)

    def _short(self, entries: Sequence[Acknowledged]) -> list[Acknowledged]:
        return short_of_copies(self._cluster, entries, self._replicas)

    def _audit(self) -> None:
        report, cluster, entries = self.report, self._cluster, self.journal.entries
        report.acknowledged = len(self.journal)
        eventually(cluster.is_whole, RESTORED_SECONDS, what="every node healthy")
        for node in cluster.nodes:
            self._scrub(node)
        eventually(self._none_scrubs, SCRUB_SECONDS, what="every node has read all it has")
        # What is still short then stands in the report.
        with contextlib.suppress(AssertionError):
            eventually(lambda: not self._short(entries), RESTORED_SECONDS)
        eventually(lambda: outboxes(cluster) == 0, RESTORED_SECONDS, what="empty outboxes")
        report.lost = unreadable(cluster.nodes, entries)
        names = listed(cluster)
        report.unlisted = sorted({entry.name for entry in entries} - names)
        report.strangers = sorted(names - self.journal.names_sent)
        report.deleted = len(self.journal.names_deleted)
        report.risen = sorted(names & self.journal.names_deleted)
        report.damaged = damaged_replicas(cluster)
        report.short = [entry.hash for entry in self._short(entries)]


def thrash(folder: Path, *, seconds: float, seed: int, nodes: int, replicas: int) -> Report:
    """Start a cluster in `folder`, break it for a while, and report."""
    cluster = Machines(
        folder,
        node_count=nodes,
        proxied=True,
        REPLICATION_FACTOR=str(replicas),
        HEARTBEAT_SECONDS="0.3",
        COMPRESS_AFTER_SECONDS=str(COMPRESS_AFTER_SECONDS),
        REPAIR_GRACE_SECONDS=str(REPAIR_GRACE_SECONDS),
    )
    try:
        cluster.start()
        cluster.wait_until_ready()
        return Thrasher(cluster, seed=seed, replicas=replicas).run(seconds)
    finally:
        cluster.stop()


def damage(path: Path, chance: random.Random) -> None:
    """Change one byte of a file, cut it short, empty it, fill it with zeros, or remove it."""
    content = bytearray(path.read_bytes())
    kind = chance.choice(("flip", "cut", "empty", "zero", "remove"))
    if kind == "remove" or not content:
        path.unlink()
    elif kind == "flip":
        content[chance.randrange(len(content))] ^= 1 << chance.randrange(8)
        path.write_bytes(content)
    else:
        kept = {"cut": content[: len(content) // 2], "empty": b"", "zero": bytes(len(content))}
        path.write_bytes(kept[kind])


def _counted(counts: Counter[str] | Counter[int]) -> str:
    return ", ".join(f"{count} {name}" for name, count in counts.most_common()) or "none"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--seed", type=int, default=random.randrange(10_000))
    parser.add_argument("--nodes", type=int, default=5)
    parser.add_argument("--replicas", type=int, default=3)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="thrash-") as folder:
        report = thrash(
            Path(folder),
            seconds=options.minutes * 60,
            seed=options.seed,
            nodes=options.nodes,
            replicas=options.replicas,
        )
    print("\n".join(report.lines()))  # noqa: T201  what it is run for
    return 0 if report.has_kept_its_promises else 1


if __name__ == "__main__":
    sys.exit(main())
