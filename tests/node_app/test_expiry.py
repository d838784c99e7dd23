"""Sweeps for expired uploads that fail: time counts once, and no upload is in another's way."""

import asyncio
import itertools
import sqlite3
from collections.abc import Callable
from contextlib import suppress
from types import SimpleNamespace
from typing import Any

import pytest

from node_app import expiry
from node_app.uploads import EXPIRY_SECONDS
from tests.support.tus_node import TusNode
from tests.support.waiting import eventually_there

# What the clock shows at each look is so much more than at the last.
STEP = 60.0


class Runner:
    """Runs what a sweep asks for, but for `failing` and its arguments; remembers the seconds."""

    def __init__(self, node: TusNode, failing: Callable[..., Any], *arguments: object) -> None:
        self._node = node
        self._failing = failing, arguments
        self.seconds: list[float] = []

    async def __call__(self, function: Callable[..., Any], *arguments: Any) -> Any:
        if (function, arguments) == self._failing:
            raise sqlite3.OperationalError("disk I/O error")
        if function == self._node.uploads.age:
            self.seconds.extend(arguments)
        return await self._node.run(function, *arguments)


async def sweep_until(node: TusNode, run: Runner, condition: Callable[[], bool]) -> None:
    """Let the loop go round until something is true."""
    task = asyncio.create_task(expiry.sweep_loop(node.uploads, node.turns, run))
    try:
        await eventually_there(condition)
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


@pytest.fixture(autouse=True)
def _quick_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = itertools.count(1_000.0, STEP)
    monkeypatch.setattr(expiry, "time", SimpleNamespace(monotonic=lambda: next(clock)))
    monkeypatch.setattr(expiry, "SWEEP_SECONDS", 0.0)


@pytest.mark.parametrize("step", ["get", "remove", "expired"])
async def test_time_counts_once_when_the_rest_of_a_sweep_fails(node: TusNode, step: str) -> None:
    upload = node.uploads.create(length=5)
    node.uploads.age(EXPIRY_SECONDS + 1)
    arguments = () if step == "expired" else (upload.id,)
    run = Runner(node, getattr(node.uploads, step), *arguments)

    await sweep_until(node, run, lambda: len(run.seconds) >= 4)

    assert set(run.seconds) == {STEP}


async def test_time_that_could_not_be_counted_is_counted_later(node: TusNode) -> None:
    node.uploads.create(length=5)
    run = Runner(node, node.uploads.age, STEP)

    await sweep_until(node, run, lambda: bool(run.seconds))

    assert run.seconds[0] == 2 * STEP


async def test_an_upload_that_cannot_be_removed_keeps_no_other(node: TusNode) -> None:
    for _ in range(3):
        node.uploads.create(length=5)
    node.uploads.age(EXPIRY_SECONDS + 1)
    stuck = node.uploads.expired()[0]
    run = Runner(node, node.uploads.remove, stuck)

    await sweep_until(node, run, lambda: len(node.upload_files()) == 1)

    assert node.uploads.expired() == [stuck]
