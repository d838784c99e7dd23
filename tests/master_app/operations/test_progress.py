"""Progress bars of commands."""

import io
import sys
from collections.abc import Callable, Iterator

import pytest

from master_app.management import progress


def shown(monkeypatch: pytest.MonkeyPatch, *, is_terminal: bool) -> io.StringIO:
    """Return where bars are drawn from now on."""
    output = io.StringIO()
    monkeypatch.setattr(output, "isatty", lambda: is_terminal)
    monkeypatch.setattr(sys, "stderr", output)
    monkeypatch.setattr(progress, "LOOK_SECONDS", 0.0)
    return output


def counting(*counts: int) -> Callable[[], int]:
    """Return what counts down like this, and is interrupted behind the last."""

    def each() -> Iterator[int]:
        yield from counts
        raise KeyboardInterrupt

    left = each()
    return lambda: next(left)


def test_a_terminal_shows_how_far_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    output = shown(monkeypatch, is_terminal=True)

    assert progress.watch(counting(40, 45, 9, 0)) == 0

    assert "45/45" in output.getvalue().rpartition("\r")[2]


def test_a_file_gets_no_bars(monkeypatch: pytest.MonkeyPatch) -> None:
    output = shown(monkeypatch, is_terminal=False)

    assert progress.watch(counting(40, 0)) == 0

    assert output.getvalue() == ""


def test_who_interrupts_it_is_told_what_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    shown(monkeypatch, is_terminal=True)

    assert progress.watch(counting(40, 10)) == 10
