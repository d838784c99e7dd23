"""Compares the ways to keep a SHA-256 beside a blob: not at all, a file beside it, grouped rows.

    python bench/blob_metadata.py [--folder FOLDER]

Sixteen threads store blobs of 1 KiB, each durable before the next; what counts are the ratios
to the blob alone, measured in turns on the same disk in the same run.
"""

import argparse
import hashlib
import os
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from mini_dropbox.durability import fsync_folder
from node_app.blobindex import BlobIndex, BlobRecord
from node_app.database import NodeDatabase

ROUNDS: Final = 5
THREADS: Final = 16
BLOBS: Final = 1600
FOLDERS: Final = 16

Store = Callable[[Path, str, bytes], None]


def put_durable(path: Path, data: bytes) -> None:
    """Write one file so that it survives a power cut."""
    temporary = path.with_suffix(".tmp")
    with temporary.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    temporary.rename(path)
    fsync_folder(path.parent)


def blob_alone(folder: Path, name: str, data: bytes) -> None:
    put_durable(folder / name, data)


def with_sidecar(folder: Path, name: str, data: bytes) -> None:
    put_durable(folder / name, data)
    put_durable(folder / f"{name}.sha256", hashlib.sha256(data).hexdigest().encode())


def with_index(index: BlobIndex) -> Store:
    def store(folder: Path, name: str, data: bytes) -> None:
        put_durable(folder / name, data)
        digest = hashlib.sha256(data).hexdigest()
        index.put(BlobRecord(name, digest, len(data), "name", "text/plain", time.time()))

    return store


def rate(store: Store, root: Path) -> float:
    """Return durable blobs per second."""
    folders = [root / str(number) for number in range(FOLDERS)]
    for folder in folders:
        folder.mkdir()
    bodies = [os.urandom(1024) for _ in range(BLOBS)]

    def put(number: int) -> None:
        body = bodies[number]
        digest = hashlib.md5(body, usedforsecurity=False).hexdigest()
        store(folders[number % FOLDERS], digest, body)

    began = time.perf_counter()
    with ThreadPoolExecutor(THREADS) as pool:
        list(pool.map(put, range(BLOBS)))
    return BLOBS / (time.perf_counter() - began)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", help="on the disk to measure (default: the temporary folder)")
    base = Path(tempfile.mkdtemp(dir=parser.parse_args().folder))
    database = NodeDatabase(base / "node.sqlite3")
    ways = {
        "blob alone": blob_alone,
        "and a file beside it": with_sidecar,
        "and a row in the index": with_index(BlobIndex(database)),
    }
    rates: dict[str, list[float]] = {name: [] for name in ways}
    try:
        for number in range(ROUNDS):
            for name, store in ways.items():
                root = base / f"{number}-{name.replace(' ', '-')}"
                root.mkdir()
                rates[name].append(rate(store, root))
    finally:
        database.close()
        shutil.rmtree(base)
    medians = {name: statistics.median(values) for name, values in rates.items()}
    for name, median in medians.items():
        spread = f"{min(rates[name]):.0f} to {max(rates[name]):.0f}"
        print(f"{name:24} {median:6.0f}/s ({spread})  {median / medians['blob alone']:.2f}")


if __name__ == "__main__":
    main()
