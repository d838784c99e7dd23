"""One process at a time."""

from collections.abc import Callable
from datetime import timedelta

import pytest
from django.utils import timezone

from master_app.leases import HeldLease
from master_app.models import Lease

pytestmark = pytest.mark.django_db


@pytest.fixture
def later(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """Let so many seconds pass, or set the clock back."""
    passed = timedelta()
    now = timezone.now

    def let_pass(seconds: float) -> None:
        nonlocal passed
        passed += timedelta(seconds=seconds)

    monkeypatch.setattr(timezone, "now", lambda: now() + passed)
    return let_pass


def test_one_holds_it_and_the_other_does_not() -> None:
    first, second = HeldLease("work"), HeldLease("work")

    assert first.hold({"done": 1})
    assert not second.hold({"done": 9})
    assert first.hold({"done": 2})
    assert Lease.objects.get().state == {"done": 2}


def test_leases_of_different_names_are_apart() -> None:
    assert HeldLease("one").hold({})
    assert HeldLease("another").hold({})


def test_what_is_released_is_free_at_once() -> None:
    first, second = HeldLease("work"), HeldLease("work")
    first.hold({})
    first.release()

    assert second.hold({})
    assert not first.hold({})


def test_what_nobody_keeps_is_free_after_a_while(later: Callable[[float], None]) -> None:
    first, second = HeldLease("work", seconds=30), HeldLease("work", seconds=30)
    first.hold({})
    later(29)
    assert not second.hold({})
    later(2)

    assert second.hold({})
    assert not first.hold({})


def test_a_clock_that_is_set_back_by_days_keeps_nobody_out(later: Callable[[float], None]) -> None:
    first, second = HeldLease("work", seconds=30), HeldLease("work", seconds=30)
    first.hold({})
    later(-2 * 24 * 3600)

    assert second.hold({})
