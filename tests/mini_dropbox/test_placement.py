"""Weighted rendezvous hashing: shares follow weights, and little moves."""

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from mini_dropbox.placement import blob_key, draw, node_seed, rank
from mini_dropbox.wire import NodeEntry
from tests.support.nodes import node_entry

hashes = st.from_regex(r"[0-9a-f]{32}", fullmatch=True)
weights = st.floats(min_value=0.01, max_value=1e6)


@st.composite
def node_lists(draw: st.DrawFn) -> list[NodeEntry]:
    ports = draw(st.lists(st.integers(1, 65535), unique=True, max_size=12))
    return [node_entry(port, weight=draw(weights)) for port in ports]


def blob_hashes(count: int) -> list[str]:
    return [f"{number:032x}" for number in range(count)]


@given(nodes=node_lists(), blob_hash=hashes)
def test_every_node_is_ranked_once_whatever_the_order_of_the_map(
    nodes: list[NodeEntry], blob_hash: str
) -> None:
    ranked = rank(nodes, blob_hash)

    assert sorted(ranked, key=repr) == sorted(nodes, key=repr)
    assert rank(reversed(nodes), blob_hash) == ranked


@given(nodes=node_lists(), blob_hash=hashes, data=st.data())
def test_when_a_node_leaves_the_others_keep_their_order(
    nodes: list[NodeEntry], blob_hash: str, data: st.DataObject
) -> None:
    leaving = data.draw(st.sampled_from(nodes)) if nodes else None
    ranked = rank(nodes, blob_hash)

    left = rank([node for node in nodes if node != leaving], blob_hash)

    assert left == [node for node in ranked if node != leaving]


@given(nodes=node_lists(), blob_hash=hashes, copies=st.integers(1, 4), weight=weights)
def test_when_a_node_joins_only_what_it_wins_moves(
    nodes: list[NodeEntry], blob_hash: str, copies: int, weight: float
) -> None:
    joining = node_entry(70_000, weight=weight)
    before = rank(nodes, blob_hash)[:copies]

    after = rank([*nodes, joining], blob_hash)[:copies]

    if joining in after:
        assert [node for node in after if node != joining] == before[: copies - 1]
    else:
        assert after == before


@given(nodes=node_lists(), blob_hash=hashes, data=st.data())
def test_a_node_that_gains_weight_never_loses_a_blob(
    nodes: list[NodeEntry], blob_hash: str, data: st.DataObject
) -> None:
    if not nodes:
        return
    growing = data.draw(st.sampled_from(nodes))
    place = rank(nodes, blob_hash).index(growing)
    grown = node_entry(int(growing.node_id), weight=growing.weight * 2)

    ranked = rank([*(node for node in nodes if node != growing), grown], blob_hash)

    assert ranked.index(grown) <= place


def test_a_nodes_share_of_first_places_is_its_share_of_the_weight() -> None:
    nodes = [node_entry(8001 + number, weight=weight) for number, weight in enumerate((1, 2, 5))]
    firsts = Counter(rank(nodes, blob_hash)[0].node_id for blob_hash in blob_hashes(20_000))

    for node in nodes:
        assert abs(firsts[node.node_id] / 20_000 - node.weight / 8) < 0.01


def test_a_nodes_share_of_second_places_is_its_share_of_what_the_first_leaves() -> None:
    nodes = [node_entry(8001 + number, weight=weight) for number, weight in enumerate((1, 2, 5))]
    seconds = Counter(rank(nodes, blob_hash)[1].node_id for blob_hash in blob_hashes(20_000))

    for node in nodes:
        others = [other.weight for other in nodes if other != node]
        chance = sum(weight / 8 * node.weight / (8 - weight) for weight in others)
        assert abs(seconds[node.node_id] / 20_000 - chance) < 0.015


@given(blob_hash=hashes, other=hashes, node_id=st.text(min_size=1))
def test_a_draw_lies_between_0_and_1_and_all_of_an_address_counts(
    blob_hash: str, other: str, node_id: str
) -> None:
    drawn = draw(blob_key(blob_hash), node_seed(node_id))

    assert 0 < drawn < 1
    for changed in (blob_hash[:16] + other[16:], other[:16] + blob_hash[16:]):
        assert (blob_key(changed) == blob_key(blob_hash)) == (changed == blob_hash)


def test_when_a_fourth_equal_node_joins_a_quarter_of_the_blobs_move_all_to_it() -> None:
    three = [node_entry(port) for port in (8001, 8002, 8003)]
    joining = node_entry(8004)
    moves = [
        (rank(three, blob_hash)[0], rank([*three, joining], blob_hash)[0])
        for blob_hash in blob_hashes(10_000)
    ]

    moved = [after for before, after in moves if before != after]
    assert set(moved) == {joining}
    assert abs(len(moved) / 10_000 - 0.25) < 0.02


def test_every_process_computes_the_same() -> None:
    nodes = [node_entry(port, weight=port - 8000) for port in (8001, 8002, 8003, 8004)]

    ranked = [node.node_id for node in rank(nodes, "d41d8cd98f00b204e9800998ecf8427e")]

    # A changed order would move every blob of every cluster.
    assert ranked == ["8004", "8003", "8001", "8002"]


def test_a_node_without_weight_comes_last() -> None:
    nodes = [node_entry(8001, weight=0.0), node_entry(8002)]

    assert all(rank(nodes, blob)[-1].node_id == "8001" for blob in blob_hashes(100))
