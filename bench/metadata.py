"""Measures what a million files cost the master: the same work on a small and on a large database.

    python bench/metadata.py --files 1000,1000000 --rounds 5 --json metadata.json

A real master serves each database on a port of its own. The two take turns at every work of every
round, over one kept connection each, and what counts is the ratio of a round's two figures.
"""

import argparse
import contextlib
import json
import os
import platform
import random
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))


from bench.metadata_master import (
    NODE_IDS,
    PROJECT_DIR,
    BenchError,
    Master,
    environment,
    list_growth,
)
from mini_dropbox.wire import REGISTRATIONS_PATH, Registration

GROUPS: Final = (1, 4, 16, 64)
# A database connection keeps some thousand pages, and finds memory for each when it first reads it.
WARM_UP_REQUESTS: Final = 5000
LIST_GROWTH_MIB: Final = 20.0
GET_AT_LEAST: Final = 0.9
REGISTER_AT_LEAST: Final = 0.8
PAGE_AT_LEAST: Final = round(1 / 1.5, 3)


@dataclass(frozen=True)
class Work:
    """Something that both masters do in every round; `measure` returns a figure in `unit`."""

    name: str
    unit: str
    measure: Callable[[Master], float]
    at_least: float | None = None

    @property
    def more_is_better(self) -> bool:
        return self.unit.endswith("/s")


class Works:
    """The works, with the draws that make no two requests alike."""

    def __init__(self, *, requests: int, hashes: Mapping[Path, Sequence[str]]) -> None:
        self._requests = requests
        self._hashes = hashes
        # Not seeded: on databases that are kept, each run has to add rows of its own.
        self._draw = random.Random()  # noqa: S311  Which file is asked for needs no secrecy.

    def all(self) -> list[Work]:
        page = "/admin/master_app/file/"
        return [
            Work("GET /get", "/s", self.gets, GET_AT_LEAST),
            Work("POST /register", "/s", self.registers, REGISTER_AT_LEAST),
            *(
                Work(f"CPU of a group of {size} registrations", "ms", self.group_cpu(size))
                for size in GROUPS
            ),
            Work("CPU of a heartbeat", "ms", self.heartbeat_cpu),
            Work("first page of the admin's files", "ms", self.page(page), PAGE_AT_LEAST),
            Work("first page of /api/v1/files/", "ms", self.page("/api/v1/files/"), PAGE_AT_LEAST),
            Work("API, search for a rare name", "ms", self.page("/api/v1/files/?search=0000123")),
            Work("API, search for a common name", "ms", self.page("/api/v1/files/?search=.jpg")),
            Work("API, search for no name", "ms", self.page("/api/v1/files/?search=qqqxyz")),
            Work("admin, search for a rare name", "ms", self.page(f"{page}?q=0000123")),
            Work("admin, search for no name", "ms", self.page(f"{page}?q=qqqxyz")),
            Work("first page of /api/v1/blobs/", "ms", self.page("/api/v1/blobs/")),
            Work("admin's blobs", "ms", self.page("/admin/master_app/blob/")),
            Work("admin's replicas", "ms", self.page("/admin/master_app/replica/")),
            Work("admin's dashboard", "ms", self.page("/admin/")),
            Work("the first page", "ms", self.page("/")),
            Work("its polled cluster state", "ms", self.page("/fragments/cluster")),
        ]

    def gets(self, master: Master) -> float:
        hashes = self._draw.choices(self._hashes[master.data_dir], k=self._requests)
        return self._rate(lambda number: master.get(f"/get?hash={hashes[number]}"))

    def warm_up(self, master: Master) -> None:
        """Be at work for a while: of a large database the first thousands of reads are slower."""
        for blob_hash in self._draw.choices(self._hashes[master.data_dir], k=WARM_UP_REQUESTS):
            master.get(f"/get?hash={blob_hash}")

    def registers(self, master: Master) -> float:
        def register(_: int) -> None:
            key = f"{self._draw.getrandbits(128):032x}"
            record = {"hash": key, "name": f"new {key[:9]}.txt", "size": 7, "replicas": ["8001"]}
            master.post_json("/register", record)

        return self._rate(register)

    def _rate(self, act: Callable[[int], object]) -> float:
        began = time.perf_counter()
        for number in range(self._requests):
            act(number)
        return self._requests / (time.perf_counter() - began)

    def group_cpu(self, size: int) -> Callable[[Master], float]:
        """Return what measures the master's CPU milliseconds for one group of that size."""
        count = max(20, self._requests // size)

        def measure(master: Master) -> float:
            before = master.cpu_seconds()
            for _ in range(count):
                entries = [self._registration().to_json() for _ in range(size)]
                master.post_json(REGISTRATIONS_PATH, {"registrations": entries})
            return 1000 * (master.cpu_seconds() - before) / count

        return measure

    def _registration(self) -> Registration:
        key = f"{self._draw.getrandbits(128):032x}"
        return Registration(
            hash=key,
            sha256=key * 2,
            size=self._draw.randrange(10_000_000),
            name=f"holiday {key[:9]}.jpg",
            content_type="image/jpeg",
            replicas=NODE_IDS[:2],
            uploaded_at=time.time(),
        )

    def heartbeat_cpu(self, master: Master) -> float:
        count = self._requests // len(NODE_IDS) + 1
        before = master.cpu_seconds()
        for _ in range(count):
            master.beat()
        return 1000 * (master.cpu_seconds() - before) / (count * len(NODE_IDS))

    def page(self, path: str) -> Callable[[Master], float]:
        """Return what measures the median milliseconds of a page."""
        count = max(5, self._requests // 50)

        def measure(master: Master) -> float:
            times = []
            for _ in range(count):
                began = time.perf_counter()
                master.get(path)
                times.append(time.perf_counter() - began)
            return 1000 * statistics.median(times)

        return measure


def make_database(folder: Path, files: int) -> Sequence[str]:
    """Fill the database in `folder` unless it is there; return the hashes of some of its blobs."""
    database = folder / "master" / "db.sqlite3"
    if not database.exists():
        print(f"making {files:,} files in {folder} ...", flush=True)
        subprocess.run(
            # Nobody could make copies: the nodes of these books do not exist.
            [sys.executable, "bench/generate_metadata.py", "--files", str(files), "--whole"],
            cwd=PROJECT_DIR,
            env=environment(folder),
            check=True,
        )
    with contextlib.closing(sqlite3.connect(database)) as connection:
        draw = random.Random(3)  # noqa: S311  Which rows are asked for needs no secrecy.
        last = connection.execute("SELECT max(id) FROM master_app_blob").fetchone()[0]
        keys = draw.sample(range(1, last + 1), k=min(last, 5000))
        found = f"SELECT hash FROM master_app_blob WHERE id IN ({','.join(map(str, keys))})"  # noqa: S608
        return [row[0] for row in connection.execute(found)]


@contextlib.contextmanager
def masters(folders: Sequence[Path]) -> Iterator[list[Master]]:
    """Start a master over each database, signed in to, and end them all."""
    with contextlib.ExitStack() as stack:
        started = []
        for folder in folders:
            started.append(stack.enter_context(contextlib.closing(Master(folder))))
            started[-1].sign_in()
        yield started


Figures = dict[str, list[tuple[float, float]]]


def measure(works: Sequence[Work], pair: Sequence[Master], rounds: int) -> Figures:
    """Return each work's figures at few and at many files, a pair for every round."""
    figures: Figures = {work.name: [] for work in works}
    for number in range(rounds + 1):
        for master in pair:
            master.beat()
        for work in works:
            # Who begins changes from round to round, so that a drift of the machine evens out.
            order = pair if number % 2 else pair[::-1]
            found = {master.port: work.measure(master) for master in order}
            # The first round only warms up.
            if number:
                few, many = (found[master.port] for master in pair)
                figures[work.name].append((few, many))
        print(f"round {number} of {rounds} done", flush=True)
    return figures


def row_of(work: Work, pairs: Sequence[tuple[float, float]], few_files: int) -> dict[str, Any]:
    """Return a work's line: medians, spread, and the ratio, of which more is always better."""
    ratios = [
        many / few if work.more_is_better else few / many if many else 1.0 for few, many in pairs
    ]
    row: dict[str, Any] = {
        "work": work.name,
        "value": statistics.median(many for _, many in pairs),
        "unit": work.unit,
        "limit_name": f"the same at {few_files:,} files",
        "limit_value": statistics.median(few for few, _ in pairs),
        "ratio": statistics.median(ratios),
        "spread": [min(ratios), max(ratios)],
    }
    return row if work.at_least is None else {**row, "at_least": work.at_least}


def list_rows(master: Master, files: int) -> list[dict[str, Any]]:
    """Return what reading all of `/list` takes, of a master that has been at work for a while."""
    seconds, growth, records = list_growth(master)
    if records < files:
        raise BenchError(f"/list gave {records} records, and there are {files} files")
    memory = {"work": "memory that /list takes", "value": growth, "unit": "MiB"}
    limit = {"limit_name": "allowed", "limit_value": LIST_GROWTH_MIB, "at_least": 1.0}
    within = {"ratio": LIST_GROWTH_MIB / max(growth, 0.1)}
    rows = {"work": "GET /list", "value": records / seconds, "unit": "files/s"}
    return [{**memory, **limit, **within}, rows]


def show(rows: Sequence[Mapping[str, Any]]) -> None:
    print(f"{'work':42} {'few':>10} {'many':>10} {'unit':8} {'ratio':>6}  spread       at least")
    for row in rows:
        few = f"{row['limit_value']:.2f}" if "limit_value" in row else ""
        ratio = f"{row['ratio']:.2f}" if "ratio" in row else ""
        spread = "{:.2f} to {:.2f}".format(*row["spread"]) if "spread" in row else ""
        demand = f"{row['at_least']:.2f}" if "at_least" in row else ""
        line = f"{row['work']:42} {few:>10} {row['value']:>10.2f} {row['unit']:8}"
        print(f"{line} {ratio:>6}  {spread:12} {demand}")


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--files", default="1000,1000000", help="few and many (1000,1000000)")
    parser.add_argument("--rounds", type=int, default=5, help="that count, after one more (5)")
    parser.add_argument("--requests", type=int, default=500, help="of a kind in a round (500)")
    parser.add_argument("--json", type=Path, help="where to write the figures")
    parser.add_argument("--keep", type=Path, help="a folder for databases to make once and reuse")
    options = parser.parse_args(argv)
    try:
        options.few, options.many = map(int, options.files.split(","))
    except ValueError:
        parser.error("--files takes two numbers, such as 1000,1000000")
    if min(options.few, options.many, options.rounds, options.requests) < 1:
        parser.error("all numbers must be at least 1")
    return options


def main(argv: Sequence[str] | None = None) -> int:
    """Measure, print and write; 1 when a ratio is below what is demanded."""
    options = parse(argv)
    with tempfile.TemporaryDirectory(prefix="mini-dropbox-metadata-") as temporary:
        root = options.keep or Path(temporary)
        folders = [(root / f"{files}_files").resolve() for files in (options.few, options.many)]
        hashes = {}
        for folder, files in zip(folders, (options.few, options.many), strict=True):
            folder.mkdir(parents=True, exist_ok=True)
            hashes[folder] = make_database(folder, files)
        draws = Works(requests=options.requests, hashes=hashes)
        works = draws.all()
        with masters(folders) as pair:
            for master in pair:
                draws.warm_up(master)
            figures = measure(works, pair, options.rounds)
            listed = list_rows(pair[-1], options.many)
    rows = [row_of(work, figures[work.name], options.few) for work in works] + listed
    show(rows)
    if options.json:
        machine = {"cores": os.cpu_count(), "python": platform.python_version()}
        result = {
            "name": "metadata",
            "taken_at": datetime.now(UTC).isoformat(timespec="seconds"),
            "machine": {**machine, "system": platform.platform(), "sqlite": sqlite3.sqlite_version},
            "parameters": {name: str(value) for name, value in vars(options).items()},
            "rows": rows,
        }
        options.json.write_text(json.dumps(result, indent=1) + "\n")
    return int(any(row["ratio"] < row["at_least"] for row in rows if "at_least" in row))


if __name__ == "__main__":
    sys.exit(main())
