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
            await sweep(uploads, turns, run, now - swept_at)
        except (NodeError, sqlite3.Error):
            logger.exception("Old uploads could not be looked through")
        else:
            swept_at = now


async def sweep(uploads: UploadStore, turns: Turns, run: RunBlocking, seconds: float) -> None:
    """Let `seconds` pass for all uploads, and remove the expired ones that nobody works on."""
    for upload_id in await run(uploads.age, seconds):
        if turns.is_busy(upload_id):
            continue
        async with turns.take(upload_id):
            try:
                upload = await run(uploads.get, upload_id)
            except UploadNotFound:
                continue
            # Whoever had the turn before may have gone on with it.
            if upload.idle_seconds >= EXPIRY_SECONDS:
                await run(uploads.remove, upload_id)
