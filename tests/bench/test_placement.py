"""The simulation of placement places as the product does, and its counts are right."""

import numpy as np
import pytest

from bench import placement as simulation
from mini_dropbox import placement
from mini_dropbox.wire import NodeEntry

NODES = 40


@pytest.fixture(scope="module")
def entries() -> list[NodeEntry]:
    weights = simulation.make_nodes(NODES).weights
    return [
        NodeEntry(f"node-{number}", "http://127.0.0.1", "healthy", float(weight), writable=True)
        for number, weight in enumerate(weights)
    ]


def test_whole_arrays_are_placed_as_the_product_places_one_blob(entries: list[NodeEntry]) -> None:
    random_keys = simulation.make_keys(1_500)
    keys = np.concatenate([random_keys, np.arange(500, dtype=np.uint64)])

    placed = simulation.place(keys, simulation.make_nodes(NODES))

    for number, key in enumerate(keys):
        ranked = placement.rank(entries, f"{int(key):032x}")[: simulation.RANKS]
        assert [f"node-{index}" for index in placed.nodes[:, number]] == [
            node.node_id for node in ranked
        ]


def test_blobs_beyond_a_chunk_are_placed_like_the_first_ones() -> None:
    keys, nodes = simulation.make_keys(simulation.CHUNK + 10), simulation.make_nodes(5)

    placed = simulation.place(keys, nodes)

    last = simulation.place(keys[-20:], nodes)
    assert (placed.nodes[:, -20:] == last.nodes).all()
    assert (placed.nodes >= 0).all()


def test_loads_follow_weights_and_little_moves() -> None:
    rows, loads = simulation.rows(10, 100_000)

    bounded = {row.work: row.ratio for row in rows if row.at_least is not None}
    assert set(bounded) == {"placement-load", "placement-join", "placement-loss"}
    assert all(ratio is not None and ratio >= 1 for ratio in bounded.values())
    assert len(loads) == 10


def test_a_lost_node_moves_what_it_held_and_nothing_else() -> None:
    counts = simulation.count_part(20, part=3, blob_count=5_000)

    assert counts.moved == counts.lost > 0
    assert counts.held.sum() == 5_000 * simulation.COPIES
