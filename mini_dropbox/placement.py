"""Where replicas belong: weighted rendezvous hashing, a pure function of map and hash.

Each node draws a score for each blob, `-weight / ln(u)` with `u` uniform in (0, 1) and drawn
from the pair's digest; the highest scores win. A node's chance to win is its share of the
weight, and when a node joins or leaves only the blobs that it wins or held move.
Source: Schindelhauer and Schomaker, "Weighted Distributed Hash Tables" (SPAA 2005).
"""

import math
from collections.abc import Iterable
from hashlib import blake2b

from mini_dropbox.wire import NodeEntry

# Half a unit off zero, so that the logarithm below is always of a number within (0, 1).
_UNIFORM_SCALE = 2.0**-64


def rank(nodes: Iterable[NodeEntry], blob_hash: str) -> list[NodeEntry]:
    """Return `nodes` in the order in which they should hold `blob_hash`, best first."""
    return sorted(nodes, key=lambda node: (-_score(node, blob_hash), node.node_id))


def _score(node: NodeEntry, blob_hash: str) -> float:
    digest = blake2b(f"{node.node_id}:{blob_hash}".encode(), digest_size=8).digest()
    uniform = (int.from_bytes(digest, "big") + 0.5) * _UNIFORM_SCALE
    # Rounding can take the largest draws to exactly 1, whose logarithm is 0.
    return -node.weight / math.log(min(uniform, 1 - 2.0**-53))
