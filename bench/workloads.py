"""The works: what is asked of a cluster, and which limit stands beside it."""

import contextlib
import os
import random
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final

from bench import limits, load
from bench.cluster import Cluster, running, wait_until
from bench.harness import BenchError, Limit, Reading, Work, observe
from bench.load import Load
from bench.sender import END_BYTES

KIB: Final = 2**10
MIB: Final = 2**20
SMALL: Final = KIB
LARGE: Final = 8 * MIB
# What a node takes without being told otherwise.
DEFAULT_LIMIT: Final = 10 * MIB
# A cluster that is slower than half of this would end no download of a round.
SLOW_BYTES_PER_SECOND: Final = 200 * MIB
SETTLE_SECONDS: Final = 20.0
SAMPLE: Final = 50


@dataclass(frozen=True, kw_only=True)
class Settings:
    """How much to do: `rounds` of `seconds` each. `folder` is on the disk that is measured."""

    folder: Path
    rounds: int
    seconds: float
    # What reads take turns with: a number of blobs, as long as they are not too many bytes.
    blobs: int = 1024
    blob_bytes: int = 128 * MIB
    memory_bytes: int = 1024 * MIB
    memory_way: str = "blob"
    nodes: int = 1_000
    placed_blobs: int = 10_000_000
    smoke: bool = False


class Unavailable(Exception):
    """The nodes do not offer what a work needs."""


def body_file(folder: Path, size: int) -> Path:
    """Write what all bodies of `size` bytes begin with; the sender gives each an end of its own."""
    path = folder / f"body-{size}"
    with path.open("wb") as file:
        remaining = size - END_BYTES
        while remaining:
            remaining -= file.write(os.urandom(min(remaining, MIB)))
    return path


class Books:
    """What was acknowledged, to be held against what is there in the end."""

    def __init__(self, cluster: Cluster, *, copies: int) -> None:
        self._cluster = cluster
        self._copies = copies
        self._acknowledged = 0
        # wrk hangs up at its end on requests under way, which the cluster may carry out yet.
        self._cut_off = 0

    def note(self, load: Load, *, cut_off: int = 0) -> Load:
        self._acknowledged += load.operations
        self._cut_off += cut_off
        return load

    def audit(self) -> None:
        """BenchError unless each acknowledged blob is on disk in all copies, and registered."""
        least = self._acknowledged * self._copies
        most = least + self._cut_off * self._copies
        wait_until(
            lambda: least <= len(self._cluster.blobs_on_disk()) <= most,
            SETTLE_SECONDS,
            f"{self._acknowledged} blobs on disk in {self._copies} copies "
            f"(there are {len(self._cluster.blobs_on_disk())} replicas)",
        )
        names = set(self._cluster.blobs_on_disk())
        for name in random.sample(sorted(names), min(SAMPLE, len(names))):
            record = self._cluster.master("/get", hash=name)
            if record["verified"] is not True or len(record["replicas"]) < self._copies:
                raise BenchError(f"The master says of {name}: {record}")


def get_small(settings: Settings) -> AbstractContextManager[Work]:
    return get(settings, "get-small", SMALL, 16, at_least=0.40, aim=0.60)


def get_large(settings: Settings) -> AbstractContextManager[Work]:
    return get(settings, "get-large", LARGE, 4, at_least=0.90, aim=1.0)


@contextlib.contextmanager
def get(
    settings: Settings,
    name: str,
    size: int,
    connections: int,
    *,
    nodes: int = 1,
    at_least: float | None = None,
    aim: float | None = None,
) -> Iterator[Work]:
    """Read different blobs of one size from any node, beside nginx with the same files.

    With more nodes than copies, those that have not got a blob pass it on from one that has.
    """
    folder = settings.folder
    scale, unit = _unit(size)
    options = cluster_settings(size, min(nodes, 2))
    with (
        limits.nginx(folder / "nginx") as nginx,
        running(folder / "cluster", nodes=nodes, **options) as cluster,
    ):
        names = _fill(settings, cluster, size)
        _publish(cluster, names, nginx.static)
        product_paths, nginx_paths = folder / "paths", folder / "paths-nginx"
        product_paths.write_text("".join(f"/retrieve?hash={name}\n" for name in names))
        nginx_paths.write_text("".join(f"/static/{name}\n" for name in names))
        # Downloads that are cut off at the end do not count, so that many have to fit in.
        seconds = max(settings.seconds, size * connections / SLOW_BYTES_PER_SECOND)
        ask = partial(load.get, size=size, connections=connections, seconds=seconds)

        def measure_nginx() -> Reading:
            return observe(lambda: ask([nginx.target], nginx_paths), nginx.roles, scale=scale)

        yield Work(
            name=name,
            unit=unit,
            measure=lambda: observe(
                lambda: ask(cluster.targets, product_paths), cluster.roles, scale=scale
            ),
            limits=[Limit(name="nginx static", measure=measure_nginx)],
            at_least=at_least,
            aim=aim,
        )


def put_large(settings: Settings) -> AbstractContextManager[Work]:
    return put_by_sender(
        settings, "put-large", LARGE, 4, way="form", copies=1, at_least=0.70, aim=0.90
    )


def put_large_blob(settings: Settings) -> AbstractContextManager[Work]:
    return put_by_sender(
        settings, "put-large-blob", LARGE, 4, way="blob", copies=1, at_least=0.70, aim=0.90
    )


def put_large_two(settings: Settings) -> AbstractContextManager[Work]:
    return put_by_sender(
        settings, "put-large-two", LARGE, 4, way="form", copies=2, at_least=0.35, aim=0.60
    )


@contextlib.contextmanager
def put_by_sender(
    settings: Settings,
    name: str,
    size: int,
    connections: int,
    *,
    way: str,
    copies: int,
    at_least: float | None = None,
    aim: float | None = None,
) -> Iterator[Work]:
    """Upload bodies of one size, beside what the disk and one core's digests can do, and nginx."""
    folder, seconds = settings.folder, settings.seconds
    scale, unit = _unit(size)
    body = body_file(folder, size)
    with (
        limits.nginx(folder / "nginx") as nginx,
        running(folder / "cluster", nodes=copies, **cluster_settings(size, copies)) as cluster,
    ):
        demand(cluster, way)
        books = Books(cluster, copies=copies)
        send = partial(load.send, body=body, connections=connections, seconds=seconds)

        def measure_nginx() -> Reading:
            sent = observe(lambda: send([nginx.target], way="plain"), nginx.roles, scale=scale)
            nginx.forget_uploads()
            return sent

        def measure_disk() -> Reading:
            writes = limits.disk_writes(folder, size=size, writers=connections, seconds=seconds)
            return writes.scaled(scale)

        def measure_digests() -> Reading:
            return limits.digests(size=size, seconds=min(seconds, 1)).scaled(scale)

        yield Work(
            name=name,
            unit=unit,
            measure=lambda: observe(
                lambda: books.note(send(cluster.targets, way=way)), cluster.roles, scale=scale
            ),
            limits=[
                Limit(name="disk, fsynced", measure=measure_disk),
                Limit(name="MD5 and SHA-256, one core", measure=measure_digests),
            ],
            beside=[Limit(name="nginx PUT, no fsync", measure=measure_nginx)],
            at_least=at_least,
            aim=aim,
        )
        books.audit()


def put_small(settings: Settings) -> AbstractContextManager[Work]:
    return put_forms(settings, "put-small", SMALL, 16, at_least=0.30, aim=0.50)


@contextlib.contextmanager
def put_forms(
    settings: Settings,
    name: str,
    size: int,
    connections: int,
    *,
    nodes: int = 2,
    at_least: float | None = None,
    aim: float | None = None,
) -> Iterator[Work]:
    """Upload small files to all nodes, in two replicas, beside half of the disk's commits."""
    folder, seconds, copies = settings.folder, settings.seconds, min(nodes, 2)
    with running(folder / "cluster", nodes=nodes) as cluster:
        books = Books(cluster, copies=copies)

        def upload() -> Load:
            done = load.post_forms(
                cluster.targets, size=size, connections=connections, seconds=seconds
            )
            return books.note(done, cut_off=connections)

        def measure_disk() -> Reading:
            commits = limits.disk_commits(folder, size=size, writers=connections, seconds=seconds)
            return commits.scaled(1 / copies)

        yield Work(
            name=name,
            unit="requests/s",
            measure=lambda: observe(upload, cluster.roles),
            limits=[
                Limit(name=f"the disk's commits / {copies} copies", measure=measure_disk),
            ],
            at_least=at_least,
            aim=aim,
        )
        books.audit()


WORKS: Final[Mapping[str, Callable[[Settings], AbstractContextManager[Work]]]] = {
    "get-small": get_small,
    "get-large": get_large,
    "put-large": put_large,
    "put-large-blob": put_large_blob,
    "put-large-two": put_large_two,
    "put-small": put_small,
}


def _unit(size: int) -> tuple[float, str]:
    """Return what a rate of requests is multiplied with, and the unit: bytes count when many."""
    return (1.0, "requests/s") if size < MIB // 4 else (size / MIB, "MiB/s")


def cluster_settings(size: int, copies: int) -> dict[str, str]:
    """Return what a cluster needs to be told to keep this many copies of files of a size."""
    settings = {"REPLICATION_FACTOR": str(copies)}
    if size > DEFAULT_LIMIT:
        settings["MAX_UPLOAD_BYTES"] = str(size)
    return settings


def _fill(settings: Settings, cluster: Cluster, size: int) -> list[str]:
    """Upload as many blobs as a read takes turns with, and return their addresses."""
    count = max(min(settings.blobs, settings.blob_bytes // size), 4)
    body = body_file(settings.folder, size)
    sent = load.send(cluster.targets, body, way="form", connections=4, seconds=0, count=count)
    if sent.failed or sent.operations != count:
        raise BenchError(f"Of {count} uploads {sent.operations} were stored: {sent.failure}")
    return sorted(set(cluster.blobs_on_disk()))


def _publish(cluster: Cluster, names: list[str], folder: Path) -> None:
    """Give nginx the same files."""
    for name in names:
        copies = cluster.data_dir.glob(f"node_*/blobs/{name[:2]}/{name[2:4]}/{name}")
        shutil.copyfile(next(copies), folder / name)


def demand(cluster: Cluster, way: str) -> None:
    """Unavailable unless the nodes offer a way to upload."""
    probes = {"blob": ("OPTIONS", f"/blobs/{'0' * 32}"), "tus": ("OPTIONS", "/uploads/")}
    if way in probes and not cluster.offers(*probes[way]):
        raise Unavailable(f"The nodes do not offer {probes[way][1]}.")
