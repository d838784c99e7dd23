"""Forgets resumable uploads that have made no progress for too long."""

import asyncio
import logging
import sqlite3
import time
from typing import Final

from node_app.blocking import RunBlocking
from node_app.errors import NodeError, UploadNotFound
from node_app.turns import Turns
from node_app.uploads import EXPIRY_SECONDS, UploadStore

logger = logging.getLogger(__name__)

SWEEP_SECONDS: Final = 60.0


async def sweep_loop(uploads: UploadStore, turns: Turns, run: RunBlocking) -> None:
    """Sweep every minute for ever."""
    swept_at = time.monotonic()
    while True:
        await asyncio.sleep(SWEEP_SECONDS)
        now = time.monotonic()
        try:
            await run(uploads.age, now - swept_at)
            # Whatever fails from here on, this time has been counted.
            swept_at = now
            await remove_expired(uploads, turns, run)
        except (NodeError, sqlite3.Error):
            logger.exception("Old uploads could not be looked through")


async def remove_expired(uploads: UploadStore, turns: Turns, run: RunBlocking) -> None:
    """Remove the expired uploads that nobody works on; one that stays keeps no other."""
    for upload_id in await run(uploads.expired):
        if turns.is_busy(upload_id):
            continue
        try:
            async with turns.take(upload_id):
                upload = await run(uploads.get, upload_id)
                # Whoever had the turn before may have gone on with it.
                if upload.idle_seconds >= EXPIRY_SECONDS:
                    await run(uploads.remove, upload_id)
        except UploadNotFound:
            continue
        except (NodeError, sqlite3.Error):
            logger.exception("The expired upload %s could not be removed", upload_id)
