"""Waiting for a condition instead of for a time."""

import asyncio
import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")

POLL_SECONDS = 0.05


def eventually(condition: Callable[[], T], seconds: float = 10.0, *, what: str = "") -> T:
    """Return the condition's first true value; AssertionError when there is none in time."""
    deadline = time.monotonic() + seconds
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {seconds} s: {what or condition}")
        time.sleep(POLL_SECONDS)


async def eventually_there(condition: Callable[[], T], seconds: float = 10.0) -> T:
    """Do what `eventually` does while the test's own event loop goes on."""
    async with asyncio.timeout(seconds):
        while not (value := condition()):  # noqa: ASYNC110  any condition may be asked for
            await asyncio.sleep(POLL_SECONDS / 10)
        return value
