"""Places ten million blobs on a thousand nodes of unequal weight, and counts what moves.

    python -m bench.placement --nodes 1000 --blobs 10000000 --json placement.json

The draws of `mini_dropbox.placement` are made for whole arrays; tests hold the two equal. Blobs are
64-bit keys as MD5 would give them. Loads are compared with weights; then a node joins and a node is
lost, and what moves is compared with what has to: the joining node's share, or what the lost one
held.
"""

import argparse
import hashlib
import multiprocessing
import os
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from bench import harness, report
from bench.harness import Row, bounded
from mini_dropbox import placement
from mini_dropbox.wire import NodeEntry

NAME: Final = "placement"
COPIES: Final = 2
# One more than is stored: the next in line, which takes over what a lost node held.
RANKS: Final = COPIES + 1
# A chunk's arrays fit into a core's own cache.
CHUNK: Final = 2**15
# Disks in TB, a third of the largest to the largest.
DISKS: Final = (6, 8, 12, 16, 18)
KEY_SEED: Final = 20_261_123
# Blobs that one process holds at a time, and those of them that are placed anew after a loss.
PART: Final = 500_000
PART_SAMPLE: Final = 20_000
MOST_OFF: Final = 0.05
MOST_MOVED: Final = 1.05
RANK_CALLS: Final = 2_000

Keys = NDArray[np.uint64]


@dataclass(frozen=True)
class Nodes:
    """A cluster's nodes as arrays of equal length."""

    seeds: Keys
    weights: NDArray[np.float64]

    @property
    def shares(self) -> NDArray[np.float64]:
        return np.asarray(self.weights / self.weights.sum())

    def without(self, index: int) -> "Nodes":
        """Return the rest; the index stays, with a weight that never wins."""
        weights = self.weights.copy()
        weights[index] = 1e-300
        return Nodes(self.seeds, weights)


@dataclass(frozen=True)
class Counts:
    """What some blobs' places add up to; all are numbers of replicas.

    `held` has the shape (COPIES, nodes). `joined` moved to a node that came, for each of DISKS.
    In a sample that was placed anew without one node, `lost` had been on it and `moved` changed.
    """

    held: NDArray[np.int64]
    joined: NDArray[np.int64]
    lost: int
    moved: int

    def __add__(self, other: "Counts") -> "Counts":
        return Counts(
            self.held + other.held,
            self.joined + other.joined,
            self.lost + other.lost,
            self.moved + other.moved,
        )


@dataclass(frozen=True)
class Placed:
    """For each blob the first RANKS nodes, best first, as indices; and their arrival times.

    `nodes` has the shape (RANKS, blobs) of int16, `times` the same of float64.
    """

    nodes: NDArray[np.int16]
    times: NDArray[np.float64]


def make_nodes(count: int) -> Nodes:
    """Return nodes of unequal weight, the same ones each time."""
    seeds = [placement.node_seed(f"node-{number}") for number in range(count)]
    weights = [float(DISKS[number % len(DISKS)]) for number in range(count)]
    return Nodes(np.array(seeds, dtype=np.uint64), np.array(weights))


def make_keys(count: int, part: int = 0) -> Keys:
    """Return blobs' keys: uniform, as MD5's bits are, and the same ones each time."""
    return np.random.default_rng([KEY_SEED, part]).integers(0, 2**64, count, dtype=np.uint64)


def draw_bits(keys: Keys, seed: np.uint64, bits: Keys, scratch: Keys) -> None:
    """Fill `bits` with the 52 bits that `placement.draw` makes its draws of."""
    np.bitwise_xor(keys, seed, out=bits)
    for shift, multiplier in ((30, placement.FIRST_MULTIPLIER), (27, placement.SECOND_MULTIPLIER)):
        np.right_shift(bits, np.uint64(shift), out=scratch)
        np.bitwise_xor(bits, scratch, out=bits)
        np.multiply(bits, np.uint64(multiplier), out=bits)
    np.right_shift(bits, np.uint64(31), out=scratch)
    np.bitwise_xor(bits, scratch, out=bits)
    np.right_shift(bits, np.uint64(placement.DRAW_SHIFT), out=bits)


def arrival_times(bits: Keys, weight: float) -> NDArray[np.float64]:
    """Return `-ln(u) / weight` for the draws that these bits make."""
    return np.asarray(-np.log((bits + 0.5) * placement.DRAW_SCALE) / weight)


def place(keys: Keys, nodes: Nodes) -> Placed:
    """Return where every key belongs; the exact ranks of `placement.rank`.

    Logarithms are dear, and few are needed: as -ln(u) is at least 1 - u, a node can only be among
    the first of a blob where (1 - u) / weight is below the last of the times found so far.
    """
    found = Placed(
        np.full((RANKS, len(keys)), -1, dtype=np.int16), np.full((RANKS, len(keys)), np.inf)
    )
    # Heavy nodes first: the times to beat are short soon.
    order = np.argsort(-nodes.weights, kind="stable")
    for start in range(0, len(keys), CHUNK):
        chunk = slice(start, start + CHUNK)
        _place_chunk(
            keys[chunk], nodes, order, Placed(found.nodes[:, chunk], found.times[:, chunk])
        )
    return found


def _place_chunk(keys: Keys, nodes: Nodes, order: NDArray[np.intp], found: Placed) -> None:
    """Place some keys; `found` are views of their places, filled here."""
    bits, scratch = np.empty_like(keys), np.empty_like(keys)
    least = np.empty(len(keys))
    near = np.empty(len(keys), dtype=bool)
    # The fewest bits with which a node of weight 1 can be in time: 2**52 (1 - time), less one for
    # the half that a draw has beyond its bits and what rounding takes.
    full = 1.0 / placement.DRAW_SCALE
    for index in order:
        draw_bits(keys, nodes.seeds[index], bits, scratch)
        np.multiply(found.times[-1], -full * nodes.weights[index], out=least)
        np.add(least, full - 2, out=least)
        np.greater_equal(bits.view(np.int64), least, out=near)
        where = np.flatnonzero(near)
        if where.size:
            _insert(found, where, index, arrival_times(bits[where], nodes.weights[index]))


def _insert(found: Placed, where: NDArray[np.intp], index: int, times: NDArray[np.float64]) -> None:
    """Put a node into the ranks of the blobs at `where` that it arrives at in time."""
    moving_nodes = np.full(len(where), index, dtype=np.int16)
    moving_times = times
    for rank in range(RANKS):
        held_nodes, held_times = found.nodes[rank, where], found.times[rank, where]
        first = moving_times < held_times
        found.nodes[rank, where] = np.where(first, moving_nodes, held_nodes)
        found.times[rank, where] = np.where(first, moving_times, held_times)
        moving_nodes = np.where(first, held_nodes, moving_nodes)
        moving_times = np.where(first, held_times, moving_times)


def count_part(node_count: int, part: int, blob_count: int) -> Counts:
    """Place one part of the blobs and count: loads, a node that joins, a node that is lost."""
    nodes, keys = make_nodes(node_count), make_keys(blob_count, part)
    placed = place(keys, nodes)
    held = [np.bincount(placed.nodes[rank], minlength=node_count) for rank in range(COPIES)]
    lost, moved = _lose(keys[:PART_SAMPLE], placed.nodes[:COPIES, :PART_SAMPLE], nodes, part)
    joined = [_join(keys, placed.times[COPIES - 1], float(weight)) for weight in DISKS]
    return Counts(np.array(held), np.array(joined), lost, moved)


def _join(keys: Keys, times_to_beat: NDArray[np.float64], weight: float) -> int:
    """Return how many replicas move to a node that joins."""
    bits, scratch = np.empty_like(keys), np.empty_like(keys)
    draw_bits(keys, np.uint64(placement.node_seed("node that joins")), bits, scratch)
    return int(np.count_nonzero(arrival_times(bits, weight) < times_to_beat))


def _lose(keys: Keys, before: NDArray[np.int16], nodes: Nodes, part: int) -> tuple[int, int]:
    """Place anew without one node, another one each part; return what it held and what moved."""
    index = part % len(nodes.weights)
    after = place(keys, nodes.without(index)).nodes[:COPIES]
    kept = (after[:, None, :] == before[None, :, :]).any(axis=1)
    return int(np.count_nonzero(before == index)), int(np.count_nonzero(~kept))


def simulate(node_count: int, blob_count: int) -> Counts:
    """Place all blobs, on all cores."""
    parts = range(-(-blob_count // PART))
    sizes = [min(PART, blob_count - part * PART) for part in parts]
    # Forked processes would inherit the threads of whoever calls.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(os.cpu_count(), mp_context=context) as pool:
        counts = list(pool.map(partial(count_part, node_count), parts, sizes))
    return sum(counts[1:], start=counts[0])


def loads(counts: Counts, nodes: Nodes) -> NDArray[np.float64]:
    """Return each node's replicas over what its weight promises; 1 is exact."""
    held = counts.held.sum(axis=0)
    return np.asarray(held / (held.sum() * nodes.shares))


def scatter(counts: Counts, nodes: Nodes) -> tuple[float, float]:
    """Return, for first and second places, their scatter over that of ideal chance; 1 is ideal.

    It is chi-squared over its degrees of freedom, against each node's exact chance to come first,
    and to come second after every other one.
    """
    first = nodes.shares
    second = first * ((first / (1 - first)).sum() - first / (1 - first))
    found = []
    for held, chance in zip(counts.held, (first, second), strict=True):
        expected = chance * held.sum()
        found.append(float(((held - expected) ** 2 / expected).sum()) / (len(first) - 1))
    return found[0], found[1]


def rank_nanoseconds(node_count: int) -> float:
    """Return how long `placement.rank` takes, the quickest of some runs."""
    nodes = [
        NodeEntry(str(8001 + number), "http://127.0.0.1", "healthy", 100.0 + number, writable=True)
        for number in range(node_count)
    ]
    names = [hashlib.md5(str(number).encode()).hexdigest() for number in range(RANK_CALLS)]
    times = []
    for _ in range(5):
        began = time.perf_counter()
        for name in names:
            placement.rank(nodes, name)
        times.append(time.perf_counter() - began)
    return min(times) / RANK_CALLS * 1e9


def rows(node_count: int, blob_count: int) -> tuple[list[Row], list[tuple[float, float]]]:
    """Return what was measured, and weight and load of each node."""
    nodes = make_nodes(node_count)
    counts = simulate(node_count, blob_count)
    shares = np.array(DISKS) / (nodes.weights.sum() + np.array(DISKS))
    joined = counts.joined / (counts.held.sum() * shares)
    ratios = loads(counts, nodes)
    first, second = scatter(counts, nodes)
    found = [
        bounded("placement-load", float(np.abs(ratios - 1).max()), "off a share", MOST_OFF),
        bounded("placement-join", float(joined.max()), "of the minimum moved", MOST_MOVED),
        bounded(
            "placement-loss", counts.moved / max(counts.lost, 1), "of the minimum moved", MOST_MOVED
        ),
        Row(work="placement-scatter-first", value=first, unit="of ideal chance"),
        Row(work="placement-scatter-second", value=second, unit="of ideal chance"),
        *(
            Row(
                work=f"placement-rank-{count}",
                value=rank_nanoseconds(count) / 1000,
                unit="µs",
                series="rank",
                x=count,
            )
            for count in (2, 8, 50)
        ),
    ]
    pairs = zip(nodes.weights.tolist(), ratios.round(5).tolist(), strict=True)
    return found, sorted(pairs)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--nodes", type=int, default=1_000)
    parser.add_argument("--blobs", type=int, default=10_000_000)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args(arguments)
    began = time.monotonic()
    found, pairs = rows(options.nodes, options.blobs)
    parameters = {"nodes": options.nodes, "blobs": options.blobs, "copies": COPIES, "disks": DISKS}
    data = harness.results(found, parameters, name=NAME) | {"loads": pairs}
    if options.json:
        harness.write_json(options.json, data)
    print(report.table(data["rows"]))
    print(f"in {time.monotonic() - began:.0f} s")


if __name__ == "__main__":
    main()
