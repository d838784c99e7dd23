"""What reads lose while a node reads all of its blobs again at full speed."""

import contextlib
import threading
from collections.abc import Iterator
from functools import partial
from typing import Final

import requests

from bench import load
from bench.cluster import Cluster, running, wait_until
from bench.harness import BenchError, Limit, Measurement, Reading, Work, observe
from bench.workloads import (
    LARGE,
    MIB,
    SLOW_BYTES_PER_SECOND,
    SMALL,
    Settings,
    body_file,
    cluster_settings,
)
from mini_dropbox import secret_files
from mini_dropbox.signing import Signer
from mini_dropbox.wire import SCRUB_PATH

# What is read again meanwhile, beside the blobs that are asked for.
BALLAST_BLOBS: Final = 40
LEAST: Final = 0.80
LOOK_SECONDS: Final = 0.1
SCRUB_SECONDS: Final = 120.0


def get_small(settings: Settings) -> contextlib.AbstractContextManager[Work]:
    return get(settings, "get-small-scrub", SMALL, 16)


def get_large(settings: Settings) -> contextlib.AbstractContextManager[Work]:
    return get(settings, "get-large-scrub", LARGE, 4)


@contextlib.contextmanager
def get(settings: Settings, name: str, size: int, connections: int) -> Iterator[Work]:
    """Read blobs from one node while it scrubs, beside the same while it does not."""
    folder = settings.folder
    scale, unit = (1.0, "requests/s") if size == SMALL else (size / MIB, "MiB/s")
    with running(folder / "cluster", nodes=1, **cluster_settings(LARGE, 1)) as cluster:
        names = _fill(settings, cluster, size)
        if size != LARGE:
            _fill(settings, cluster, LARGE, count=2 if settings.smoke else BALLAST_BLOBS)
        paths = folder / "paths"
        paths.write_text("".join(f"/retrieve?hash={each}\n" for each in names))
        seconds = max(settings.seconds, size * connections / SLOW_BYTES_PER_SECOND)
        ask = partial(load.get, cluster.targets, paths, size=size, connections=connections)
        observed = partial(observe, lambda: ask(seconds=seconds), cluster.roles, scale=scale)

        def measure() -> Measurement:
            with scrubbing(cluster):
                return observed()

        def without() -> Reading:
            return observed()

        yield Work(
            name=name,
            unit=unit,
            measure=measure,
            limits=[Limit(name="the same without a scrub", measure=without)],
            at_least=LEAST,
        )


def _fill(
    settings: Settings, cluster: Cluster, size: int, *, count: int | None = None
) -> list[str]:
    """Upload different blobs of one size, and return the addresses of all that are there."""
    wanted = count or max(min(settings.blobs, settings.blob_bytes // size), 4)
    body = body_file(settings.folder, size)
    sent = load.send(cluster.targets, body, way="form", connections=4, seconds=0, count=wanted)
    if sent.failed:
        raise BenchError(f"Not every upload was stored: {sent.failure}")
    return sorted(set(cluster.blobs_on_disk()))


@contextlib.contextmanager
def scrubbing(cluster: Cluster) -> Iterator[None]:
    """Keep the node reading everything again, at full speed, and let it end with the block."""
    secret = secret_files.cluster_secret_path(cluster.data_dir).read_text(encoding="ascii").strip()
    signer, ended = Signer(secret, "bench"), threading.Event()

    def keep_going() -> None:
        while not ended.wait(LOOK_SECONDS):
            headers = {"Authorization": signer.sign("POST", SCRUB_PATH)}
            url = f"http://{cluster.targets[0]}{SCRUB_PATH}"
            requests.post(url, headers=headers, timeout=30).raise_for_status()

    thread = threading.Thread(target=keep_going)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
        wait_until(lambda: not _is_scrubbing(cluster), SCRUB_SECONDS, "the scrub has ended")


def _is_scrubbing(cluster: Cluster) -> bool:
    headers = {"Accept": "application/json"}
    answer = requests.get(f"http://{cluster.targets[0]}/health", headers=headers, timeout=30)
    return bool(answer.json()["scrub"]["running"])
