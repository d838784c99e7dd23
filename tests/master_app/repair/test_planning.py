"""Who copies what from whom."""

from collections.abc import Collection

from hypothesis import given
from hypothesis import strategies as st

from master_app.repair.census import Census
from master_app.repair.planning import BATCH_BYTES, Endangered, plan
from mini_dropbox import placement
from mini_dropbox.wire import MAX_COPIES, NodeEntry


def census(
    nodes: int,
    *,
    gone: Collection[int] = (),
    down: Collection[int] = (),
    full: Collection[int] = (),
) -> Census:
    """Return nodes with the keys 1 to `nodes` and the ids 8001 and on."""
    keys = range(1, nodes + 1)
    away = {*gone, *down}
    entries = {
        key: NodeEntry(
            str(8000 + key),
            f"http://node-{key}",
            "down" if key in away else "healthy",
            1.0,
            writable=key not in full,
        )
        for key in keys
    }
    return Census(
        counted=frozenset(keys) - frozenset(gone),
        reach=frozenset(keys) - away,
        takers=frozenset(keys) - away - frozenset(full),
        entries=entries,
    )


def blob(key: int, holders: Collection[int], size: int = 10) -> Endangered:
    return Endangered(
        key, f"{key:032x}", f"{key:064x}", size, f"{key}.txt", "text/plain", frozenset(holders)
    )


def test_the_best_placed_node_without_a_copy_takes_one() -> None:
    nodes = census(4)
    found = plan([blob(1, [2])], nodes, wanted=2)
    (batch,) = found.batches
    (order,) = batch.orders.values()

    others = [nodes.entries[key] for key in (1, 3, 4)]
    assert nodes.entries[batch.taker] == placement.rank(others, order.hash)[0]
    assert order.sources == ("8002",)
    assert (order.hash, order.size, order.name) == (f"{1:032x}", 10, "1.txt")


def test_all_missing_copies_are_made_at_once() -> None:
    found = plan([blob(1, [1])], census(4), wanted=3)

    assert len(found.batches) == 2
    assert 1 not in {batch.taker for batch in found.batches}


def test_what_has_enough_copies_is_done() -> None:
    found = plan([blob(1, [1, 2]), blob(2, [1, 2, 3])], census(3), wanted=2)

    assert found.done == [1, 2]
    assert not found.batches


def test_copies_on_nodes_that_are_gone_do_not_count_and_get_none() -> None:
    found = plan([blob(1, [1, 2])], census(3, gone=[2]), wanted=2)
    (batch,) = found.batches

    assert batch.taker == 3
    assert batch.orders[1].sources == ("8001",)


def test_without_a_copy_in_reach_it_is_lost_for_now() -> None:
    found = plan([blob(1, [1]), blob(2, [])], census(3, down=[1]), wanted=2)

    assert found.lost == [1, 2]
    assert not found.batches


def test_without_a_node_to_take_it_it_waits() -> None:
    found = plan([blob(1, [1])], census(2, full=[2]), wanted=2)

    assert found.waiting == [1]


def test_nodes_that_are_suspect_are_asked_last() -> None:
    nodes = census(3)
    slow = NodeEntry("8001", "http://node-1", "suspect", 1.0, writable=True)
    nodes = Census(nodes.counted, nodes.reach, frozenset({2, 3}), {**nodes.entries, 1: slow})
    for key in range(20):
        (batch,) = plan([blob(key, [1, 2])], nodes, wanted=3).batches
        assert batch.orders[key].sources == ("8002", "8001")


def test_batches_have_a_limit_of_bytes_and_of_orders() -> None:
    large = [blob(key, [1], BATCH_BYTES // 2 + 1) for key in range(3)]
    small = [blob(key, [1], 1) for key in range(3, MAX_COPIES + 4)]
    found = plan(large + small, census(2), wanted=2)

    assert [len(batch.orders) for batch in found.batches] == [1, 1, MAX_COPIES, 2]
    assert found.batches[0].size == BATCH_BYTES // 2 + 1


@given(
    holders=st.sets(st.integers(1, 6)),
    gone=st.sets(st.integers(1, 6)),
    full=st.sets(st.integers(1, 6)),
    wanted=st.integers(1, 4),
)
def test_a_plan_never_takes_from_or_gives_to_the_wrong_node(
    holders: set[int], gone: set[int], full: set[int], wanted: int
) -> None:
    nodes = census(6, gone=gone, full=full)
    found = plan([blob(1, holders)], nodes, wanted)
    takers = [batch.taker for batch in found.batches]

    assert len(takers) == len(set(takers))
    assert not set(takers) & (holders | gone | full)
    assert len(takers) <= max(0, wanted - len(holders - gone))
    outcomes = [*found.done, *found.lost, *found.waiting]
    assert len(outcomes) == (0 if takers else 1)
    for batch in found.batches:
        sources = {int(source) - 8000 for source in batch.orders[1].sources}
        assert sources == holders - gone
