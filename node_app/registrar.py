"""Tells the master what this node has stored, many uploads at a time.

While one group is on its way the next gathers, so that a group is as large as the load asks
for. What cannot be delivered goes to the outbox, which is emptied when the master is back.
"""

import asyncio
import logging
from typing import Final

from mini_dropbox.wire import Registration
from node_app.blocking import RunBlocking
from node_app.errors import HashCollision, MasterError
from node_app.master_client import MasterClient
from node_app.outbox import Outbox

logger = logging.getLogger(__name__)

MAX_GROUP: Final = 500

_Waiting = tuple[Registration, asyncio.Future[bool]]


class Registrar:
    """Delivers registrations; `run` carries blocking calls off the event loop."""

    def __init__(self, master: MasterClient, outbox: Outbox, run: RunBlocking) -> None:
        self._master = master
        self._outbox = outbox
        self._run = run
        self._waiting: asyncio.Queue[_Waiting] = asyncio.Queue()
        self._master_is_back = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []
        # Until the master has failed once it counts as there, so that nothing is put off.
        self._master_is_there = True

    def start(self) -> None:
        self._tasks = [
            asyncio.create_task(self._deliver_loop()),
            asyncio.create_task(self._outbox_loop()),
        ]

    async def stop(self) -> None:
        """End; whoever still waits has its registration in the outbox."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._put_off([self._waiting.get_nowait() for _ in range(self._waiting.qsize())])

    async def register(self, registration: Registration) -> bool:
        """Return True once the master has recorded it, False once it is durably put off.

        HashCollision when the master has another content under this MD5.
        """
        future: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self._waiting.put_nowait((registration, future))
        return await future

    def master_answered(self) -> None:
        """Note a heartbeat that was answered; the outbox can be emptied now."""
        self._master_is_there = True
        self._master_is_back.set()

    def master_failed(self) -> None:
        """Note a heartbeat that was not answered; registrations go to the outbox at once."""
        self._master_is_there = False

    async def _deliver_loop(self) -> None:
        while True:
            group = [await self._waiting.get()]
            while len(group) < MAX_GROUP and not self._waiting.empty():
                group.append(self._waiting.get_nowait())
            try:
                await self._deliver(group)
            except asyncio.CancelledError:
                await asyncio.shield(self._put_off(group))
                raise
            except Exception:
                # Whoever comes next must still be heard.
                logger.exception("Registrations failed and are put off")
                await self._put_off(group)

    async def _deliver(self, group: list[_Waiting]) -> None:
        if not self._master_is_there:
            await self._put_off(group)
            return
        try:
            results = await self._master.register([registration for registration, _ in group])
        except MasterError as error:
            logger.warning("The master is away, registrations are put off: %s", error)
            self._master_is_there = False
            await self._put_off(group)
            return
        for (registration, future), result in zip(group, results, strict=True):
            if future.done():
                continue
            if result == "registered":
                future.set_result(True)
            else:
                future.set_exception(_collision(registration))

    async def _put_off(self, group: list[_Waiting]) -> None:
        undone = [(registration, future) for registration, future in group if not future.done()]
        if not undone:
            return
        try:
            await self._run(self._outbox.add, [registration for registration, _ in undone])
        except Exception as error:
            logger.exception("The outbox cannot be written")
            for _, future in undone:
                if not future.done():
                    future.set_exception(error)
            return
        for _, future in undone:
            if not future.done():
                future.set_result(False)

    async def _outbox_loop(self) -> None:
        while True:
            await self._master_is_back.wait()
            self._master_is_back.clear()
            try:
                await self._empty_outbox()
            except MasterError as error:
                logger.warning("The master is away again, the outbox waits: %s", error)
                self._master_is_there = False
            except Exception:
                # The next answered heartbeat tries again.
                logger.exception("The outbox cannot be emptied")

    async def _empty_outbox(self) -> None:
        while True:
            registrations, last_id = await self._run(self._outbox.oldest)
            if not registrations:
                return
            results = await self._master.register(registrations)
            for registration, result in zip(registrations, results, strict=True):
                if result != "registered":
                    logger.error("%s is not registered: %s", registration.hash, result)
            await self._run(self._outbox.remove_up_to, last_id)
            logger.info("%d uploads registered that had been put off", len(registrations))


def _collision(registration: Registration) -> HashCollision:
    return HashCollision(
        f"Another content with the MD5 {registration.hash} is stored already; "
        "this one cannot be kept."
    )
