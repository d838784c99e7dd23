"""Tells the master what this node has stored, many uploads at a time.

While one group is on its way the next gathers, so that a group is as large as the load asks
for. What cannot be delivered goes to the outbox, which is emptied when the master is back; what
the master does not take is kept beside it.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from http import HTTPStatus
from typing import Final

from mini_dropbox.wire import Registration
from node_app.blocking import RunBlocking
from node_app.errors import (
    HashCollision,
    MasterError,
    MasterRefused,
    RegistrationRefused,
    StoreAgain,
)
from node_app.master_client import HASH_COLLISION, REGISTERED, STORE_AGAIN, MasterClient
from node_app.outbox import Outbox

logger = logging.getLogger(__name__)

MAX_GROUP: Final = 500

# Finds out which nodes hold a content now, and returns a registration that says so; None when
# nobody does.
Renew = Callable[[Registration], Awaitable[Registration | None]]
GONE: Final = "no node has its bytes any more"

_Waiting = tuple[Registration, asyncio.Future[bool]]


class Registrar:
    """Delivers registrations; `run` carries blocking calls off the event loop."""

    def __init__(
        self, master: MasterClient, outbox: Outbox, run: RunBlocking, renew: Renew
    ) -> None:
        self._master = master
        self._outbox = outbox
        self._run = run
        self._renew = renew
        self._waiting: asyncio.Queue[_Waiting] = asyncio.Queue()
        self._master_is_back = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []
        # Until the master has failed once it counts as there, so that nothing is put off.
        self._master_is_there = True
        self._complaint = ""

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

        HashCollision when the master has another content under this MD5, RegistrationRefused when
        it will not take this registration, which is then kept. StoreAgain when the content was
        deleted meanwhile.
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
            outcomes = await self._tell([registration for registration, _ in group])
        except MasterError as error:
            self._note_absence(error)
            await self._put_off(group)
            return
        waiting = [
            (registration, future, outcome)
            for (registration, future), outcome in zip(group, outcomes, strict=True)
            if not future.done()
        ]
        refusals = [
            (registration, outcome)
            for registration, _, outcome in waiting
            if outcome not in {REGISTERED, HASH_COLLISION, STORE_AGAIN}
        ]
        await self._set_aside(refusals)
        for registration, future, outcome in waiting:
            if future.done():
                continue
            if outcome == REGISTERED:
                future.set_result(True)
            elif outcome == HASH_COLLISION:
                future.set_exception(_collision(registration))
            elif outcome == STORE_AGAIN:
                future.set_exception(StoreAgain())
            else:
                future.set_exception(_refusal(outcome))

    async def _tell(self, registrations: Sequence[Registration]) -> list[str]:
        """Return `REGISTERED`, `HASH_COLLISION` or why the master does not take it, for each.

        A group that is refused is told in halves, until what is wrong with it stands alone.
        """
        try:
            outcomes = await self._master.register(registrations)
        except MasterRefused as error:
            if not _is_about_content(error):
                raise
            if len(registrations) == 1:
                return [str(error)]
            middle = len(registrations) // 2
            return [
                *await self._tell(registrations[:middle]),
                *await self._tell(registrations[middle:]),
            ]
        self._complaint = ""
        return outcomes

    def _note_absence(self, error: MasterError) -> None:
        """Believe that the master is away until it answers a heartbeat; say why, once."""
        self._master_is_there = False
        reason = "The master is away"
        if isinstance(error, MasterRefused) and error.status == HTTPStatus.UNAUTHORIZED:
            reason = "The master does not accept this node's signature"
        elif isinstance(error, MasterRefused) and error.status == HTTPStatus.CONFLICT:
            reason = "The master does not let this node in"
        complaint = f"{reason}, registrations wait: {error}"
        if complaint != self._complaint:
            logger.warning("%s", complaint)
        self._complaint = complaint

    async def _set_aside(self, refusals: Sequence[tuple[Registration, str]]) -> None:
        """Keep what the master will never take, so that it holds up nothing and is not lost."""
        if not refusals:
            return
        await self._run(self._outbox.refuse, refusals)
        for registration, reason in refusals:
            logger.error("%s is not registered, but kept as refused: %s", registration.hash, reason)

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
                self._note_absence(error)
            except Exception:
                # The next answered heartbeat tries again.
                logger.exception("The outbox cannot be emptied")

    async def _empty_outbox(self) -> None:
        while True:
            registrations, last_id = await self._run(self._outbox.oldest)
            if not registrations:
                return
            outcomes = await self._tell_again(registrations, await self._tell(registrations))
            refusals = [
                (registration, outcome)
                for registration, outcome in zip(registrations, outcomes, strict=True)
                if outcome != REGISTERED
            ]
            await self._set_aside(refusals)
            await self._run(self._outbox.remove_up_to, last_id)
            count = len(registrations) - len(refusals)
            logger.info("%d uploads registered that had been put off", count)

    async def _tell_again(
        self, registrations: Sequence[Registration], outcomes: Sequence[str]
    ) -> list[str]:
        """Look for the copies of what was deleted meanwhile, and say who has them now."""
        settled = list(outcomes)
        for index, outcome in enumerate(outcomes):
            if outcome == STORE_AGAIN:
                renewed = await self._renew(registrations[index])
                settled[index] = (await self._tell([renewed]))[0] if renewed else GONE
        return settled


def _collision(registration: Registration) -> HashCollision:
    return HashCollision(
        f"Another content with the MD5 {registration.hash} is stored already; "
        "this one cannot be kept."
    )


def _refusal(reason: str) -> RegistrationRefused:
    return RegistrationRefused(
        f"The master does not take this file's record ({reason}). Its bytes are kept, but it "
        "is in no list."
    )


def _is_about_content(error: MasterRefused) -> bool:
    """Tell whether what was sent is at fault, rather than who sent it or where it went.

    A wrong host name, too, is answered with 400; `invalid` is the word on a registration alone.
    """
    return error.code == "invalid" or error.status == HTTPStatus.REQUEST_ENTITY_TOO_LARGE
