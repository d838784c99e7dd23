"""Where replicas belong: weighted rendezvous hashing, a pure function of map and hash.

Each node draws a number `u` for each blob, uniform in (0, 1) and mixed from the pair's names; the
smallest of `-ln(u) / weight` win. Those are arrival times of exponential clocks: a node's chance
to win is its share of the weight, and when a node joins or leaves only the blobs that it wins or
held move. docs/adr/0012-placement-hash.md measures both at a thousand nodes.
Source: Schindelhauer and Schomaker, "Weighted Distributed Hash Tables" (SPAA 2005).
"""

import math
from collections.abc import Iterable
from functools import lru_cache
from hashlib import blake2b
from typing import Final

from mini_dropbox.wire import NodeEntry

MASK_64: Final = 2**64 - 1
# The multipliers of `draw`, which mixes as splitmix64 does. Source: Steele, Lea and Flood, "Fast
# Splittable Pseudorandom Number Generators" (OOPSLA 2014), and Stafford's variant 13.
FIRST_MULTIPLIER: Final = 0xBF58476D1CE4E5B9
SECOND_MULTIPLIER: Final = 0x94D049BB133111EB
# 52 bits and a half: every draw is exact in a double, and none is 0 or 1.
DRAW_SHIFT: Final = 12
DRAW_SCALE: Final = 2.0**-52
# A cluster's nodes and many that have left; a seed that is forgotten is made anew.
REMEMBERED_SEEDS: Final = 4096


def rank(nodes: Iterable[NodeEntry], blob_hash: str) -> list[NodeEntry]:
    """Return `nodes` in the order in which they should hold `blob_hash`, best first."""
    key = blob_key(blob_hash)
    return sorted(nodes, key=lambda node: (_negative_score(node, key), node.node_id))


def blob_key(blob_hash: str) -> int:
    """Return 64 bits of a blob's address that all of its 128 bits have a part in."""
    address = int(blob_hash, 16)
    return (address >> 64) ^ (address & MASK_64)


@lru_cache(maxsize=REMEMBERED_SEEDS)
def node_seed(node_id: str) -> int:
    """Return 64 bits that stand for a node in every draw."""
    return int.from_bytes(blake2b(node_id.encode(), digest_size=8).digest(), "big")


def draw(key: int, seed: int) -> float:
    """Return what a node of this seed draws for a blob of this key, uniform in (0, 1)."""
    bits = key ^ seed
    bits = ((bits ^ (bits >> 30)) * FIRST_MULTIPLIER) & MASK_64
    bits = ((bits ^ (bits >> 27)) * SECOND_MULTIPLIER) & MASK_64
    bits ^= bits >> 31
    return ((bits >> DRAW_SHIFT) + 0.5) * DRAW_SCALE


def _negative_score(node: NodeEntry, key: int) -> float:
    # The inverse of the arrival time: it is defined for a weight of 0, too, which comes last.
    return node.weight / math.log(draw(key, node_seed(node.node_id)))
