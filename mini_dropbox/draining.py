"""Reading on after a refusal: a client that is cut off while it sends never gets to read why."""

import asyncio
from contextlib import suppress
from typing import Final

from mini_dropbox.asgi_types import Receive
from mini_dropbox.large_bodies import BodyCutOff, ReadLargeBody

DRAIN_BYTES: Final = 64 * 1024 * 1024
DRAIN_SECONDS: Final = 10.0


async def drain(receive: Receive) -> None:
    """Drop the rest of a request's body, up to a number of bytes and seconds."""
    dropped = 0
    try:
        async with asyncio.timeout(DRAIN_SECONDS):
            while dropped < DRAIN_BYTES:
                message = await receive()
                dropped += len(message.get("body", b""))
                if not message.get("more_body", False):
                    return
    except TimeoutError:
        return


async def drain_large(read: ReadLargeBody) -> None:
    """Drop the rest of a large body that threads have begun to read, up to the same limits."""
    dropped = 0

    def drop(piece: bytearray) -> None:
        nonlocal dropped
        dropped += len(piece)
        if dropped >= DRAIN_BYTES:
            raise BodyCutOff

    with suppress(BodyCutOff, TimeoutError):
        async with asyncio.timeout(DRAIN_SECONDS):
            await read(drop)
