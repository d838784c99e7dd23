"""Sends real files of this machine through a running cluster and checks every byte that comes back.

    python bench/real_files.py --master http://127.0.0.1:9000 \
        --nodes http://127.0.0.1:8001,http://127.0.0.1:8002 --data-dir data --files 2000

Files of all sizes and types go up through all nodes in parallel and come back from another node
than they went to. Then the master must list each of them, each blob must have its replicas on
disk, and the admin must find a file by its name. Exits with 1 when anything differs.
"""

import argparse
import hashlib
import html
import os
import re
import sys
import tempfile
import time
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import requests

T = TypeVar("T")

MAX_BYTES = 10 * 1024 * 1024
MIB = 2**20
TIME_LIMIT = 60
# At least every so many files has a space in its name, and as many a letter beyond ASCII.
UNUSUAL_NAME_EVERY = 20
# One of so many is among the largest that there are.
LARGEST_OF = 20


@dataclass(frozen=True)
class Sample:
    """A file to send; `name` is what the cluster should keep as its name."""

    path: Path
    size: int
    md5: str

    @property
    def name(self) -> str:
        return unicodedata.normalize("NFC", self.path.name).strip()


@dataclass
class Report:
    """What differs from what it should be."""

    problems: list[str] = field(default_factory=list)

    def expect(self, condition: bool, problem: str) -> None:  # noqa: FBT001  reads as an assert
        if not condition:
            self.problems.append(problem)


@dataclass(frozen=True)
class Cluster:
    """Where the cluster is, and a pooled session to it."""

    master: str
    nodes: list[str]
    session: requests.Session

    def get(self, url: str, **options: Any) -> requests.Response:
        return self.session.get(url, timeout=TIME_LIMIT, **options)


def main() -> int:
    options = parse_options()
    with (
        tempfile.TemporaryDirectory() as copies,
        requests.Session() as session,
        ThreadPoolExecutor(options.threads) as threads,
    ):
        session.mount("http://", requests.adapters.HTTPAdapter(pool_maxsize=options.threads))
        cluster = Cluster(options.master, options.nodes.split(","), session)
        samples = choose(Path(options.source), options.files, Path(copies))
        print_samples(samples)
        report = Report()
        report.expect(len(samples) >= options.files, f"only {len(samples)} files were found")

        def in_parallel(name: str, step: Callable[[int, Sample], T]) -> list[T]:
            began = time.monotonic()
            results = list(threads.map(step, range(len(samples)), samples))
            print_rate(name, samples, time.monotonic() - began)
            return results

        answers = in_parallel("uploaded", lambda n, s: upload(cluster, n, s, report))
        in_parallel("read from another node", lambda n, s: read_back(cluster, n, s, report))
        check_list(cluster, samples, report)
        if options.data_dir:
            check_replicas(cluster, Path(options.data_dir), samples, report)
            check_admin(cluster, Path(options.data_dir), samples, report)
        deduplicated = sum(bool(answer.get("deduplicated")) for answer in answers)
        print(f"{'of these deduplicated':<28}{deduplicated:>8} files")
    for problem in report.problems[:20]:
        print(f"WRONG: {problem}")
    print(f"{len(report.problems)} problems" if report.problems else "All is as it should be.")
    return 1 if report.problems else 0


def parse_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--master", default="http://127.0.0.1:9000")
    parser.add_argument("--nodes", default="http://127.0.0.1:8001,http://127.0.0.1:8002")
    parser.add_argument("--data-dir", help="the cluster's data, to look at disks and the admin")
    parser.add_argument("--files", type=int, default=2000)
    parser.add_argument("--source", default="/usr/share")
    parser.add_argument("--threads", type=int, default=8)
    return parser.parse_args()


def choose(source: Path, count: int, copies: Path) -> list[Sample]:
    """Return files of all sizes up to the limit, some of them copies under unusual names."""
    found = sorted(usable_files(source), key=lambda file: (file[1], file[0]))
    copied = count // UNUSUAL_NAME_EVERY
    plain = max(count - 2 * copied, 1)
    # Most files are small, so beside an even choice of all the largest have a place of their own.
    largest = plain // LARGEST_OF
    chosen = [path for path, _ in found[len(found) - largest :]]
    last, evenly = len(found) - largest - 1, plain - largest
    chosen += [found[round(n * last / max(evenly - 1, 1))][0] for n in range(evenly)]
    paths = list(dict.fromkeys(chosen))
    for number, path in enumerate(paths[:: max(len(paths) // max(copied, 1), 1)][:copied]):
        for name in (f"{number} with spaces {path.name}", f"{number}_Größe_文件_ñ_{path.name}"):
            target = copies / name
            target.write_bytes(path.read_bytes())
            paths.append(target)
    return [sample(path) for path in paths]


def usable_files(source: Path) -> Iterator[tuple[Path, int]]:
    for folder, _, names in os.walk(source):
        for name in names:
            path = Path(folder, name)
            if path.is_file() and not path.is_symlink() and is_usable_name(name):
                size = path.stat().st_size
                if size <= MAX_BYTES and os.access(path, os.R_OK):
                    yield path, size


def is_usable_name(name: str) -> bool:
    return "\\" not in name and not any(unicodedata.category(c) in {"Cc", "Cs"} for c in name)


def sample(path: Path) -> Sample:
    content = path.read_bytes()
    return Sample(path, len(content), hashlib.md5(content, usedforsecurity=False).hexdigest())


def upload(cluster: Cluster, number: int, sample: Sample, report: Report) -> dict[str, Any]:
    """Send a file to one of the nodes and check what is answered."""
    node = cluster.nodes[number % len(cluster.nodes)]
    with sample.path.open("rb") as file:
        answer = cluster.session.post(
            f"{node}/upload", files={"file": (sample.name, file)}, timeout=TIME_LIMIT
        )
    body: dict[str, Any] = answer.json() if answer.ok else {}
    said = (answer.status_code, body.get("hash"), body.get("size"), body.get("registered"))
    wanted = (200, sample.md5, sample.size, True)
    report.expect(said == wanted, f"upload of {sample.path}: {said} instead of {wanted}")
    return body


def read_back(cluster: Cluster, number: int, sample: Sample, report: Report) -> None:
    """Fetch a file from another node than the one it went to."""
    node = cluster.nodes[(number + 1) % len(cluster.nodes)]
    answer = cluster.get(f"{node}/retrieve", params={"hash": sample.md5})
    md5 = hashlib.md5(answer.content, usedforsecurity=False).hexdigest()
    said = (answer.status_code, md5)
    report.expect(said == (200, sample.md5), f"{sample.path} from {node}: {said}")


def check_list(cluster: Cluster, samples: Iterable[Sample], report: Report) -> None:
    began = time.monotonic()
    records = cluster.get(f"{cluster.master}/list").json()
    listed = {(record["hash"], record["name"], record["size"]) for record in records}
    for sample in samples:
        entry = (sample.md5, sample.name, sample.size)
        report.expect(entry in listed, f"/list does not have {entry}")
    print(f"{'listed':<28}{len(records):>8} files in {time.monotonic() - began:.2f} s")


def check_replicas(
    cluster: Cluster, data_dir: Path, samples: Iterable[Sample], report: Report
) -> None:
    """Count the copies on disk; each has to have the blob's size."""
    accept = {"Accept": "application/json"}
    health = cluster.get(f"{cluster.master}/health", headers=accept).json()
    wanted = min(health["replication_factor"], health["healthy_nodes"])
    blobs = {sample.md5: sample.size for sample in samples}
    replicas: Counter[int] = Counter()
    for md5, size in blobs.items():
        paths = list(data_dir.glob(f"node_*/blobs/{md5[:2]}/{md5[2:4]}/{md5}"))
        replicas[len(paths)] += 1
        whole = sum(path.stat().st_size == size for path in paths)
        report.expect(whole >= wanted, f"{md5} has {whole} whole copies instead of {wanted}")
    for copies, count in sorted(replicas.items()):
        print(f"{f'on disk in {copies} copies':<28}{count:>8} blobs")


def check_admin(
    cluster: Cluster, data_dir: Path, samples: Iterable[Sample], report: Report
) -> None:
    """Log in as a person would, and search for the file with the most unusual name."""
    password = (data_dir / "master" / "admin_password").read_text(encoding="ascii").strip()
    login = f"{cluster.master}/admin/login/"
    token = re.search(r'name="csrfmiddlewaretoken" value="([^"]+)"', cluster.get(login).text)
    if token is None:
        report.expect(False, "the admin has no form to log in with")
        return
    form = {"csrfmiddlewaretoken": token[1], "username": "admin", "password": password}
    cluster.session.post(login, data=form, headers={"Referer": login}, timeout=TIME_LIMIT)
    name = max((sample.name for sample in samples), key=lambda name: (not name.isascii(), name))
    found = cluster.get(f"{cluster.master}/admin/master_app/file/", params={"q": name})
    report.expect(found.ok and html.escape(name) in found.text, f"the admin does not find {name!r}")
    print(f"{'found in the admin':<28}{name}")


def print_samples(samples: list[Sample]) -> None:
    suffixes = {sample.path.suffix.lower() for sample in samples}
    spaces = sum(" " in sample.name for sample in samples)
    letters = sum(not sample.name.isascii() for sample in samples)
    sizes = sorted(sample.size for sample in samples)
    print(f"{'files':<28}{len(samples):>8} of {len(suffixes)} types")
    print(f"{'sizes':<28}{sizes[0]:>8} to {sizes[-1]} bytes, half below {sizes[len(sizes) // 2]}")
    print(f"{'names':<28}{spaces:>8} with spaces, {letters} beyond ASCII")


def print_rate(name: str, samples: list[Sample], seconds: float) -> None:
    total = sum(sample.size for sample in samples) / MIB
    rates = f"{len(samples) / seconds:.0f} files/s, {total / seconds:.1f} MiB/s"
    print(f"{name:<28}{len(samples):>8} files, {total:.1f} MiB in {seconds:.1f} s: {rates}")


if __name__ == "__main__":
    sys.exit(main())
