"""Waiting for work that must not be left alone."""

import asyncio
from asyncio import Future
from collections.abc import Callable
from contextlib import suppress
from typing import Any, TypeVar

Result = TypeVar("Result")


def nothing() -> None:
    """Do nothing."""


async def until_done(work: "Future[Result]", *, on_cancel: Callable[[], Any] = nothing) -> Result:
    """Return the work's result; cancelled, be it more than once, raise that when the work is done.

    A thread that is at work on a descriptor, for example, would go on with another file once the
    descriptor is closed and means that. `on_cancel` is called at once, and may hurry the work.
    """
    try:
        return await asyncio.shield(work)
    except asyncio.CancelledError:
        if not work.done():
            on_cancel()
        while not work.done():
            with suppress(asyncio.CancelledError):
                await asyncio.wait([work])
        if not work.cancelled():
            # It is nobody's any more.
            work.exception()
        raise
