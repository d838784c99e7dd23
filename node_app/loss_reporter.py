"""Tells the master which copies this node has lost, until it has heard."""

import asyncio
import logging
from collections.abc import Sequence
from typing import Final

from mini_dropbox.wire import Loss, Registration
from node_app.blobindex import BlobRecord
from node_app.blobstore import BlobStore
from node_app.blocking import RunBlocking
from node_app.errors import MasterError
from node_app.losses import Losses
from node_app.master_client import MasterClient
from node_app.outbox import Outbox

logger = logging.getLogger(__name__)

FIRST_PAUSE_SECONDS: Final = 1.0
LONGEST_PAUSE_SECONDS: Final = 60.0


class LossReporter:
    """Empties the table of losses; `run` carries blocking calls off the event loop.

    A copy that is here again is no loss: whatever the master would forget because of an old
    message stands on disk by now, and has been registered.
    """

    def __init__(
        self,
        node_id: str,
        *,
        master: MasterClient,
        losses: Losses,
        outbox: Outbox,
        store: BlobStore,
        run: RunBlocking,
    ) -> None:
        self._node_id = node_id
        self._master = master
        self._losses = losses
        self._outbox = outbox
        self._store = store
        self._run = run
        self._work = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        self._task = asyncio.create_task(self._loop())
        loop = asyncio.get_running_loop()

        def on_loss() -> None:
            loop.call_soon_threadsafe(self._work.set)

        self._store.on_loss = on_loss

    async def stop(self) -> None:
        """End; what was not heard is on disk."""
        self._store.on_loss = lambda: None
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    def master_answered(self) -> None:
        """Note a heartbeat that was answered; what waits can be told now."""
        self._work.set()

    async def _loop(self) -> None:
        pause = FIRST_PAUSE_SECONDS
        while True:
            await self._work.wait()
            self._work.clear()
            try:
                await self._tell_all()
            except MasterError as error:
                logger.warning("The master has not heard of lost copies: %s", error)
            except Exception:
                logger.exception("The master has not heard of lost copies")
            else:
                pause = FIRST_PAUSE_SECONDS
                continue
            await asyncio.sleep(pause)
            pause = min(2 * pause, LONGEST_PAUSE_SECONDS)

    async def _tell_all(self) -> None:
        while True:
            losses, last_id = await self._run(self._losses.oldest)
            # A registration that still waits may name a copy that was lost since.
            if not losses or await self._run(len, self._outbox):
                return
            held = {record.hash for record in await self._held(losses)}
            lost = [loss for loss in losses if loss.hash not in held]
            if lost:
                await self._master.lose(lost)
                await self._register_again(await self._held(lost))
            await self._run(self._losses.remove_up_to, last_id)

    async def _held(self, losses: Sequence[Loss]) -> list[BlobRecord]:
        """Return the records of those that are here after all."""

        def find() -> list[BlobRecord]:
            records = map(self._store.record, {loss.hash for loss in losses})
            return [record for record in records if record is not None]

        found: list[BlobRecord] = await self._run(find)
        return found

    async def _register_again(self, records: Sequence[BlobRecord]) -> None:
        """Tell of copies that were stored anew while the master heard that they were lost."""
        registrations = [
            Registration(
                hash=record.hash,
                sha256=record.sha256,
                size=record.size,
                name=record.name,
                content_type=record.content_type,
                replicas=(self._node_id,),
                uploaded_at=record.stored_at,
            )
            for record in records
        ]
        await self._run(self._outbox.add, registrations)
