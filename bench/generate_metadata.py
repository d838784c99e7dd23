"""Fills the master's database with made-up nodes, blobs, replicas and files, to measure with.

    MINI_DROPBOX_DATA_DIR=/tmp/demo python bench/generate_metadata.py --files 1000000

Only metadata: no node has the bytes. The same arguments make the same rows, up to the moment that
is taken for now.
"""

import argparse
import os
import random
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final, NamedTuple

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
os.environ.setdefault("DJANGO_SETTINGS_MODULE", "mini_dropbox.settings")

import django

django.setup()

# ruff: noqa: E402  Models can be imported only from here on.
from django.db import connection, transaction
from django.db.models import Model

from master_app import bootstrap, derived
from master_app.models import Blob, File, Node, Replica

BATCH_ROWS: Final = 20_000
NODE_IDS: Final = ("8001", "8002", "8003")
GIB: Final = 2**30
SECONDS_BETWEEN_FILES: Final = 30
CACHE_KIBIBYTES: Final = 512 * 1024
# Objects for all rows would take most of the time, so they are written as plain tuples.
COLUMNS: Final[dict[type[Model], tuple[str, ...]]] = {
    Blob: ("id", "hash", "sha256", "size", "verified", "claimed_replicas", "created_at"),
    Replica: ("blob_id", "node_id", "created_at"),
    File: ("blob_id", "name", "content_type", "created_at"),
}
PEOPLE: Final = (
    "Ada",
    "Ben",
    "Carla",
    "Deniz",
    "Émile",
    "Farida",
    "Günther",
    "Hana",
    "Igor",
    "Jürgen",
    "Kim",
    "Lucía",
)
PLACES: Final = (
    "Lisbon",
    "Oslo",
    "Kyoto",
    "Zürich",
    "Dakar",
    "Lima",
    "Hanoi",
    "Perth",
    "Boston",
    "Kraków",
)


class Kind(NamedTuple):
    """One kind of file; sizes are drawn around `typical_bytes`."""

    suffix: str
    content_type: str
    typical_bytes: int
    titles: tuple[str, ...]


KINDS = (
    Kind("jpg", "image/jpeg", 3_400_000, ("IMG", "holiday", "team photo", "whiteboard")),
    Kind("png", "image/png", 700_000, ("Screenshot", "logo draft", "floor plan", "diagram")),
    Kind("pdf", "application/pdf", 450_000, ("Invoice", "Contract", "Annual report", "Manual")),
    Kind("mp4", "video/mp4", 8_000_000, ("clip", "interview", "screen recording")),
    Kind("zip", "application/zip", 5_000_000, ("backup", "export", "release")),
    Kind("txt", "text/plain", 4_000, ("notes", "todo", "README")),
    Kind("csv", "text/csv", 90_000, ("sales", "measurements", "contacts")),
    Kind("docx", "", 60_000, ("Minutes", "Proposal", "Letter")),
)
WEIGHTS = (30, 15, 20, 5, 6, 12, 8, 4)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--files", type=int, default=100_000, help="how many (default: 100000)")
    parser.add_argument("--seed", type=int, default=1, help="for other rows (default: 1)")
    parser.add_argument("--whole", action="store_true", help="all blobs with all of their copies")
    options = parser.parse_args()
    bootstrap.prepare()
    if File.objects.exists():
        sys.exit("The database has files already; set MINI_DROPBOX_DATA_DIR to an empty folder.")
    started = time.perf_counter()
    generate(count=options.files, seed=options.seed, is_whole=options.whole)
    print(f"{options.files} files in {time.perf_counter() - started:.1f} s")


def generate(*, count: int, seed: int, is_whole: bool = False) -> None:
    """Write the rows: of 100 blobs 94 are whole, 3 lack a replica, 1 all, 2 are unverified.

    With `is_whole` those that are verified have all of their copies.
    """
    weights = (1, 0, 0) if is_whole else (96, 3, 1)
    if connection.vendor == "sqlite":
        with connection.cursor() as cursor:
            # A power cut may take what can be made again, and indexes grow in memory.
            cursor.execute("PRAGMA synchronous=OFF")
            cursor.execute(f"PRAGMA cache_size=-{CACHE_KIBIBYTES}")
    draw = random.Random(seed)  # noqa: S311  Made-up names need no secrecy.
    now = datetime.now(UTC)
    first_moment = now - timedelta(seconds=SECONDS_BETWEEN_FILES * count)
    with transaction.atomic():
        nodes = Node.objects.bulk_create(make_nodes(now, blobs_each=count * 2 // len(NODE_IDS)))
        keys = [node.pk for node in nodes]
        for first in range(0, count, BATCH_ROWS):
            numbers = range(first, min(first + BATCH_ROWS, count))
            make_batch(numbers, keys, first_moment, draw, weights)
        derived.index_new_names()


def make_nodes(now: datetime, blobs_each: int) -> Iterator[Node]:
    for number, node_id in enumerate(NODE_IDS):
        used = blobs_each * 2_000_000
        yield Node(
            node_id=node_id,
            url=f"http://127.0.0.1:{node_id}",
            version="1.0.0",
            capacity_bytes=500 * GIB,
            free_bytes=max(500 * GIB - used - (number + 1) * 40 * GIB, 0),
            used_bytes=used,
            blob_count=blobs_each,
            first_seen_at=now - timedelta(days=400),
            last_heartbeat_at=now,
        )


def make_batch(
    numbers: range,
    nodes: Sequence[int],
    first_moment: datetime,
    draw: random.Random,
    weights: Sequence[int],
) -> None:
    """Write some files, nine of ten with a blob of their own, and the replicas of the blobs."""
    blobs: list[tuple[Any, ...]] = []
    replicas: list[tuple[Any, ...]] = []
    files: list[tuple[Any, ...]] = []
    for number, kind in zip(numbers, draw.choices(KINDS, WEIGHTS, k=len(numbers)), strict=True):
        uploaded = first_moment + timedelta(
            seconds=SECONDS_BETWEEN_FILES * (number + draw.random())
        )
        moment = uploaded.strftime("%Y-%m-%d %H:%M:%S.%f")
        key = number + 1
        if number % 10 == 9:
            key = numbers.start + 1  # One more name for a blob that is there.
        else:
            blobs.append(make_blob(key, kind, moment, draw))
            if blobs[-1][2]:
                copies = draw.choices((2, 1, 0), weights)[0]
                replicas += ((key, node, moment) for node in draw.sample(nodes, k=copies))
        files.append((key, make_name(number, kind, draw), kind.content_type, moment))
    insert(Blob, blobs)
    insert(Replica, replicas)
    insert(File, files)


def make_blob(
    key: int, kind: Kind, moment: str, draw: random.Random
) -> tuple[int, str, str, int, bool, str, str]:
    size = int(kind.typical_bytes * draw.lognormvariate(0, 0.6))
    blob_hash = f"{draw.getrandbits(128):032x}"
    if draw.random() < 0.02:
        return key, blob_hash, "", size, False, '["8001"]', moment
    return key, blob_hash, f"{draw.getrandbits(256):064x}", size, True, "[]", moment


def make_name(number: int, kind: Kind, draw: random.Random) -> str:
    """Return a name as people and cameras give them, no two alike."""
    title, suffix = draw.choice(kind.titles), kind.suffix
    if number % 4:
        return f"{title} {draw.choice(PEOPLE)} {draw.choice(PLACES)} {number:07}.{suffix}"
    return f"{title}_{number:07}.{suffix}"


def insert(model: type[Model], rows: Iterable[tuple[Any, ...]]) -> None:
    columns = COLUMNS[model]
    places = ", ".join(["%s"] * len(columns))
    statement = f"INSERT INTO {model._meta.db_table} ({', '.join(columns)}) VALUES ({places})"  # noqa: S608  Our own names.
    with connection.cursor() as cursor:
        cursor.executemany(statement, rows)


if __name__ == "__main__":
    main()
