"""Reading on after a refusal: a client that is cut off while it sends never gets to read why."""

import asyncio
from typing import Final

from mini_dropbox.asgi_types import Receive

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
