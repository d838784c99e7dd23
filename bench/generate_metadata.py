"""Fills the master's database with made-up nodes, blobs, replicas and files, to measure with.

    MINI_DROPBOX_DATA_DIR=/tmp/demo python bench/generate_metadata.py --files 100000

Only metadata: no node has the bytes. The same arguments make the same rows.
"""

import argparse
import os
import random
import sys
import time
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import NamedTuple

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
os.environ.setdefault("DJANGO_SETTINGS_MODULE", "mini_dropbox.settings")

import django

django.setup()

# ruff: noqa: E402  Models can be imported only from here on.
from django.core.management import call_command
from django.db import transaction
from django.utils import timezone

from master_app.models import Blob, File, Node, Replica

BATCH_ROWS = 5000
NODE_IDS = ("8001", "8002", "8003")
GIB = 2**30


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
    options = parser.parse_args()
    call_command("migrate", verbosity=0)
    if File.objects.exists():
        sys.exit("The database has files already; set MINI_DROPBOX_DATA_DIR to an empty folder.")
    started = time.perf_counter()
    generate(count=options.files, seed=options.seed)
    print(f"{options.files} files in {time.perf_counter() - started:.1f} s")


@transaction.atomic
def generate(*, count: int, seed: int) -> None:
    """Write the rows: of 100 blobs 94 are whole, 3 lack a replica, 1 all, 2 are unverified."""
    draw = random.Random(seed)  # noqa: S311  Made-up names need no secrecy.
    nodes = list(make_nodes(timezone.now(), blobs_each=count * 2 // len(NODE_IDS)))
    Node.objects.bulk_create(nodes)
    for first in range(0, count, BATCH_ROWS):
        make_batch(range(first, min(first + BATCH_ROWS, count)), nodes, draw)


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


def make_batch(numbers: range, nodes: list[Node], draw: random.Random) -> None:
    """Write some files, nine of ten with a blob of their own, and the replicas of the blobs."""
    kinds = draw.choices(KINDS, WEIGHTS, k=len(numbers))
    now = timezone.now()
    moments = [
        now - timedelta(minutes=5 * number, seconds=draw.randrange(60)) for number in numbers
    ]
    blobs = Blob.objects.bulk_create(
        make_blob(kind, moment, draw)
        for kind, moment, number in zip(kinds, moments, numbers, strict=True)
        if number % 10 != 9
    )
    Replica.objects.bulk_create(
        Replica(blob=blob, node=node, created_at=blob.created_at)
        for blob in blobs
        if blob.verified
        for node in draw.sample(nodes, k=draw.choices((2, 1, 0), (96, 3, 1))[0])
    )
    own = iter(blobs)
    owners = [next(own) if number % 10 != 9 else blobs[0] for number in numbers]
    File.objects.bulk_create(
        File(
            blob=blob,
            name=f"{draw.choice(kind.titles)} {number:06}.{kind.suffix}",
            content_type=kind.content_type,
            created_at=moment,
        )
        for blob, kind, moment, number in zip(owners, kinds, moments, numbers, strict=True)
    )


def make_blob(kind: Kind, moment: datetime, draw: random.Random) -> Blob:
    size = int(kind.typical_bytes * draw.lognormvariate(0, 0.6))
    blob_hash = f"{draw.getrandbits(128):032x}"
    if draw.random() < 0.02:
        return Blob(hash=blob_hash, size=size, claimed_replicas=["8001"], created_at=moment)
    sha256 = f"{draw.getrandbits(256):064x}"
    return Blob(hash=blob_hash, sha256=sha256, size=size, verified=True, created_at=moment)


if __name__ == "__main__":
    main()
