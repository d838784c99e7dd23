"""How long a blob has not been touched."""

import pytest

from node_app.touches import Touches

BLOB = "0123456789abcdef" * 2
NEIGHBOUR = "01234" + "f" * 27
OTHER = "fedcba9876543210" * 2


class Clock:
    """Seconds that pass when the test says so."""

    def __init__(self) -> None:
        self.now = 50.25

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def test_what_was_before_the_start_is_unknown(clock: Clock) -> None:
    touches = Touches(clock=clock)
    clock.now += 7

    assert touches.silence(BLOB) == 7


def test_silence_begins_with_the_last_touch_and_is_never_told_too_long(clock: Clock) -> None:
    touches = Touches(clock=clock)
    clock.now += 100.9
    touches.touch(BLOB)
    assert touches.silence(BLOB) <= 0
    clock.now += 10

    assert 9 <= touches.silence(BLOB) <= 10
    touches.touch(BLOB)
    assert touches.silence(BLOB) <= 0
    assert touches.silence(OTHER) == pytest.approx(110.9)


def test_blobs_that_share_a_place_are_touched_together(clock: Clock) -> None:
    touches = Touches(clock=clock)
    clock.now += 100
    touches.touch(NEIGHBOUR)

    assert touches.silence(BLOB) <= 0
