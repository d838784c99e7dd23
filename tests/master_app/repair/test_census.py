"""Whose copies count."""

from datetime import timedelta

import pytest
from django.utils import timezone

from master_app.models import Node
from master_app.repair.census import CensusTaker
from tests.support.records import add_node

pytestmark = pytest.mark.django_db

GRACE = 600.0


class Clock:
    """Seconds that pass when the test says so."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def taker(clock: Clock) -> CensusTaker:
    return CensusTaker(GRACE, clock=clock)


def test_a_healthy_node_counts_and_takes(taker: CensusTaker) -> None:
    node = add_node("8001")
    census = taker.take()

    assert census.counted == census.reach == census.takers == {node.pk}
    assert census.keys() == {"8001": node.pk}


def test_a_full_node_counts_and_takes_nothing(taker: CensusTaker) -> None:
    node = add_node("8001", writable=False)
    census = taker.take()

    assert census.counted == census.reach == {node.pk}
    assert not census.takers


def test_a_node_that_is_down_counts_until_the_grace_period_is_over(
    taker: CensusTaker, clock: Clock
) -> None:
    node = add_node("8001", silent_seconds=3600)

    assert taker.take().counted == {node.pk}
    clock.now += GRACE - 1
    census = taker.take()
    assert census.counted == {node.pk}
    assert not census.reach
    clock.now += 1
    assert not taker.take().counted


def test_a_node_that_comes_back_counts_at_once(taker: CensusTaker, clock: Clock) -> None:
    node = add_node("8001", silent_seconds=3600)
    taker.take()
    clock.now += GRACE
    assert not taker.take().counted
    Node.objects.update(last_heartbeat_at=timezone.now())

    assert taker.take().counted == {node.pk}


def test_a_clock_that_is_set_on_by_days_makes_nobody_dead(
    taker: CensusTaker, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    nodes = {add_node(node_id).pk for node_id in ("8001", "8002")}
    taker.take()
    clock.now += 2
    now = timezone.now()
    monkeypatch.setattr(timezone, "now", lambda: now + timedelta(days=2))
    census = taker.take()

    assert census.counted == nodes
    assert not census.reach


def test_a_clock_that_is_set_back_by_days_keeps_no_dead_node_alive(
    taker: CensusTaker, clock: Clock
) -> None:
    # As it was heard of before the clock was set back.
    add_node("8001", silent_seconds=-2 * 24 * 3600)

    assert taker.take().reach
    heard_at = Node.objects.get().last_heartbeat_at
    assert abs(timezone.now() - heard_at) < timedelta(minutes=1)
    Node.objects.update(last_heartbeat_at=heard_at - timedelta(hours=1))
    taker.take()
    clock.now += GRACE
    assert not taker.take().counted


def test_a_node_that_is_slow_to_speak_is_not_given_up_while_it_is_not_down(
    taker: CensusTaker, clock: Clock
) -> None:
    # As with a grace period that is shorter than what makes a node count as down.
    node = add_node("8001", silent_seconds=3)
    taker.take()
    clock.now += GRACE

    assert taker.take().counted == {node.pk}
