"""What compression at rest saves, what it costs, and how downloads fare with it.

    python -m bench.compression --json compression.json

Speeds of the codec are for a core's own time, so that a busy machine does not change them.
Downloads are of the same text, kept plain and compressed on the same nodes, by one client in turns:
as the content, as the stored frames, and ten bytes from the middle. Their limit is the plain blob
in the same run.
"""

import argparse
import hashlib
import http.client
import json
import random
import shutil
import statistics
import sysconfig
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Final

import requests

from bench import harness, report
from bench.cluster import HOST, Cluster, running, wait_until
from bench.harness import BenchError, Row
from node_app.blobindex import BlobIndex
from node_app.compression import FRAME_BYTES, CompressedReader, FrameEncoder
from node_app.compressor import Compressor
from node_app.database import NodeDatabase
from node_app.local_blobstore import LocalBlobStore

NAME: Final = "compression"
MIB: Final = 2**20
TYPES: Final = {"plain": "video/mp4", "compressed": "text/plain"}
RANGE_CALLS: Final = 100

Fetch = Callable[[http.client.HTTPConnection, str], int]


class InMemory:
    """Bytes that a reader takes for a file of the store."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self.size = len(data)

    def read_at(self, offset: int, length: int) -> bytes:
        return self._data[offset : offset + length]

    def close(self) -> None:
        """Do nothing: the bytes go with the object."""


def source_text(size: int) -> bytes:
    """Return program source: Python's own library, which every machine with Python has."""
    parts, there = [], 0
    for path in sorted(Path(sysconfig.get_path("stdlib")).glob("*.py")):
        parts.append(path.read_bytes())
        there += len(parts[-1])
    return (b"".join(parts) * (size // there + 1))[:size]


def json_lines(size: int) -> bytes:
    """Return records as programs log them."""
    chance, lines, there = random.Random(1), [], 0  # noqa: S311  no secret
    while there < size:
        record = {
            "id": len(lines),
            "user": f"user{chance.randrange(5000)}",
            "amount": round(chance.random() * 1000, 2),
            "state": chance.choice(["open", "closed", "held"]),
        }
        lines.append(json.dumps(record).encode() + b"\n")
        there += len(lines[-1])
    return b"".join(lines)[:size]


def compressed(content: bytes) -> bytes:
    encoder = FrameEncoder()
    steps = range(0, len(content), FRAME_BYTES)
    frames = [encoder.frame(content[offset : offset + FRAME_BYTES]) for offset in steps]
    return b"".join([*frames, encoder.table()])


def codec_rows(contents: Mapping[str, bytes], rounds: int) -> list[Row]:
    """Return ratio, and MB of content in a second of one core, for each content."""
    rows = []
    for name, content in contents.items():
        data = compressed(content)
        encode = [_core_seconds(partial(compressed, content)) for _ in range(rounds)]
        decode = [_core_seconds(partial(_read_all, data)) for _ in range(rounds)]
        rows.append(Row(work=f"ratio-{name}", value=len(content) / len(data), unit="times"))
        for act, seconds in (("compress", encode), ("decompress", decode)):
            rates = [len(content) / each / 1e6 for each in seconds]
            rows.append(_row(f"{act}-{name}", rates, "MB/s of a core"))
    return rows


def background_row(folder: Path, content: bytes) -> Row:
    """Return how fast a node at rest works a blob off, with hashing, reading back and rests."""
    folder.mkdir(parents=True)
    database = NodeDatabase(folder / "node.sqlite3")
    try:
        store = LocalBlobStore(folder, BlobIndex(database))
        with store.writer() as writer:
            writer.write(content)
            store.commit(writer, name="text", content_type="text/plain")
        background = Compressor(store, after_seconds=0, is_busy=lambda: False)
        seconds = _seconds(background.compress_due)
        if not store.totals().saved:
            raise BenchError("The text was not compressed.")
    finally:
        database.close()
    return Row(work="background", value=len(content) / seconds / 1e6, unit="MB/s")


def download_rows(folder: Path, content: bytes, rounds: int, downloads: int) -> list[Row]:
    with running(folder, nodes=2, COMPRESS_AFTER_SECONDS="0") as cluster:
        ways = {
            "get-identity": _downloads(content, downloads, "identity"),
            "get-zstd": _downloads(content, downloads, "zstd"),
            "get-10-bytes": _ranges,
        }
        hashes = _upload_both(cluster, content)
        rates: dict[str, list[float]] = {}
        for _ in range(rounds):
            for way, fetch in ways.items():
                for form, blob_hash in hashes.items():
                    rate = _rate(cluster, fetch, blob_hash)
                    rates.setdefault(f"{way}-{form}", []).append(rate)
    return [_download_row(way, rates) for way in ways]


def _download_row(way: str, rates: Mapping[str, Sequence[float]]) -> Row:
    own, plain = rates[f"{way}-compressed"], rates[f"{way}-plain"]
    unit, scale = ("/s", 1.0) if way == "get-10-bytes" else ("MB/s of content", 1e-6)
    ratios = [one / other for one, other in zip(own, plain, strict=True)]
    return Row(
        work=way,
        value=statistics.median(own) * scale,
        unit=unit,
        limit_name="the same blob, plain",
        limit_value=statistics.median(plain) * scale,
        ratio=statistics.median(ratios),
        spread=(min(own) * scale, max(own) * scale),
        ratio_spread=(min(ratios), max(ratios)),
    )


def _upload_both(cluster: Cluster, content: bytes) -> dict[str, str]:
    """Store the text twice, each with a byte of its own; return the hashes by form at rest."""
    hashes = {}
    for number, (form, content_type) in enumerate(TYPES.items()):
        body = content[:-1] + bytes([number])
        part = ("a.txt", body, content_type)
        answer = requests.post(
            f"http://{cluster.targets[0]}/upload", files={"file": part}, timeout=60
        )
        answer.raise_for_status()
        hashes[form] = hashlib.md5(body, usedforsecurity=False).hexdigest()
    pattern = f"node_*/blobs/*/*/{hashes['compressed']}.zst"
    wait_until(lambda: len(list(cluster.data_dir.glob(pattern))) == 2, 60, "both are compressed")
    wait_until(
        lambda: not list(cluster.data_dir.glob(pattern.removesuffix(".zst"))), 10, "plain ones gone"
    )
    return hashes


def _downloads(content: bytes, count: int, encoding: str) -> Fetch:
    def fetch(connection: http.client.HTTPConnection, blob_hash: str) -> int:
        buffer = bytearray(FRAME_BYTES)
        for _ in range(count):
            headers = {"Accept-Encoding": encoding}
            connection.request("GET", f"/retrieve?hash={blob_hash}", headers=headers)
            answer = connection.getresponse()
            received = 0
            while taken := answer.readinto(buffer):
                received += taken
            if answer.status != 200 or received != int(answer.headers["Content-Length"]):
                raise BenchError(f"A download ended with {answer.status} after {received} bytes.")
        return count * len(content)

    return fetch


def _ranges(connection: http.client.HTTPConnection, blob_hash: str) -> int:
    for number in range(RANGE_CALLS):
        first = number * 70_001
        headers = {"Range": f"bytes={first}-{first + 9}", "Accept-Encoding": "identity"}
        connection.request("GET", f"/retrieve?hash={blob_hash}", headers=headers)
        answer = connection.getresponse()
        if answer.status != 206 or len(answer.read()) != 10:
            raise BenchError(f"A range ended with {answer.status}.")
    return RANGE_CALLS


def _rate(cluster: Cluster, fetch: Fetch, blob_hash: str) -> float:
    connection = http.client.HTTPConnection(HOST, cluster.node_ports[0], timeout=60)
    try:
        began = time.perf_counter()
        return fetch(connection, blob_hash) / (time.perf_counter() - began)
    finally:
        connection.close()


def _read_all(data: bytes) -> None:
    reader = CompressedReader(InMemory(data))
    for offset in range(0, reader.size, FRAME_BYTES):
        reader.read_at(offset, FRAME_BYTES)


def _core_seconds(act: Callable[[], object]) -> float:
    """Return the time that this thread was at work, whatever else the machine did."""
    began = time.thread_time()
    act()
    return time.thread_time() - began


def _seconds(act: Callable[[], object]) -> float:
    began = time.perf_counter()
    act()
    return time.perf_counter() - began


def _row(work: str, values: Sequence[float], unit: str) -> Row:
    spread = (min(values), max(values))
    return Row(work=work, value=statistics.median(values), unit=unit, spread=spread)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--mib", type=int, default=8, help="size of each content, 8 at least")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--downloads", type=int, default=20, help="in each round")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args(arguments)
    size = max(8, options.mib) * MIB
    contents = {"source": source_text(size), "json": json_lines(size)}
    folder = Path(tempfile.mkdtemp(prefix="bench-compression-"))
    try:
        rows = codec_rows(contents, options.rounds)
        rows.append(background_row(folder / "node", contents["source"]))
        rows += download_rows(
            folder / "cluster", contents["source"], options.rounds, options.downloads
        )
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    parameters = {"mib": size // MIB, "rounds": options.rounds, "downloads": options.downloads}
    data = harness.results(rows, parameters, name=NAME)
    if options.json:
        harness.write_json(options.json, data)
    print(report.table(data["rows"]))


if __name__ == "__main__":
    main()
