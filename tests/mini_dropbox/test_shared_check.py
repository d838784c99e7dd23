"""A check that many ask for is made once in a while."""

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from mini_dropbox import shared_check
from mini_dropbox.shared_check import SharedCheck


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    own = Clock()
    monkeypatch.setattr(shared_check, "monotonic", own)
    return own


def test_it_is_made_anew_only_after_its_time(clock: Clock) -> None:
    made: list[int] = []
    check = SharedCheck(lambda: made.append(1), seconds=1)
    for _ in range(3):
        check()
    assert len(made) == 1
    clock.now += 1
    check()
    assert len(made) == 2


def test_a_failure_is_everybodys_until_the_next(clock: Clock) -> None:
    outcomes: list[Exception | None] = [OSError("broken"), None]

    def fail_once() -> None:
        outcome = outcomes.pop(0)
        if outcome is not None:
            raise outcome

    check = SharedCheck(fail_once, seconds=1)
    for _ in range(3):
        with pytest.raises(OSError, match="broken"):
            check()
    clock.now += 1
    check()
    assert outcomes == []


def test_who_asks_meanwhile_waits_for_it() -> None:
    made: list[int] = []
    may_end, all_ask = threading.Event(), threading.Barrier(5)

    def slow() -> None:
        made.append(1)
        assert may_end.wait(10)

    check = SharedCheck(slow, seconds=60)

    def ask() -> None:
        all_ask.wait(10)
        check()

    with ThreadPoolExecutor(4) as threads:
        asked = [threads.submit(ask) for _ in range(4)]
        all_ask.wait(10)
        assert not any(one.done() for one in asked)
        may_end.set()
        for one in asked:
            one.result(10)
    assert len(made) == 1
