"""Telling the master: in groups, through its outages, and what it refuses."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from mini_dropbox.wire import Registration
from node_app.database import NodeDatabase
from node_app.errors import (
    HashCollision,
    MasterError,
    MasterRefused,
    RegistrationRefused,
    StoreAgain,
)
from node_app.outbox import Outbox
from node_app.registrar import MAX_GROUP, Registrar
from tests.support.registrations import registration
from tests.support.waiting import eventually

SECONDS = 10


def refusal(status: int, code: str) -> MasterRefused:
    return MasterRefused(f"POST: {status} {code}", status=status, code=code)


class FakeMaster:
    """Records registrations as the master does, when it is there and lets them through."""

    def __init__(self) -> None:
        self.groups: list[list[Registration]] = []
        self.failure: Exception | None = None
        self.collisions: set[str] = set()
        # These were deleted meanwhile; after one answer that says so they are taken.
        self.deleted: set[str] = set()
        # A group with one of these is refused as a whole.
        self.invalid: set[str] = set()
        self.largest_group = MAX_GROUP
        self.gate = asyncio.Event()
        self.gate.set()
        self.calls = 0

    @property
    def recorded(self) -> list[Registration]:
        return [entry for group in self.groups for entry in group]

    async def register(self, registrations: Sequence[Registration]) -> list[str]:
        self.calls += 1
        await self.gate.wait()
        if self.failure is not None:
            raise self.failure
        if len(registrations) > self.largest_group:
            raise refusal(413, "too_large")
        if self.invalid & {entry.hash for entry in registrations}:
            raise refusal(400, "invalid")
        self.groups.append(list(registrations))
        return [self._outcome(entry) for entry in registrations]

    def _outcome(self, entry: Registration) -> str:
        if entry.hash in self.deleted:
            self.deleted.remove(entry.hash)
            return "store_again"
        return "hash_collision" if entry.hash in self.collisions else "registered"


@pytest.fixture
def outbox(tmp_path: Path) -> Iterator[Outbox]:
    database = NodeDatabase(tmp_path / "node.sqlite3")
    yield Outbox(database)
    database.close()


@pytest.fixture
async def master() -> FakeMaster:
    return FakeMaster()


async def nothing_renewed(_: Registration) -> Registration | None:
    """Stand for a cluster of which no node holds the content."""
    return None


@pytest.fixture
async def registrar(master: FakeMaster, outbox: Outbox) -> AsyncIterator[Registrar]:
    started = Registrar(master, outbox, asyncio.to_thread, nothing_renewed)  # type: ignore[arg-type]
    started.start()
    yield started
    await started.stop()


async def until(condition: Callable[[], bool]) -> None:
    await asyncio.to_thread(eventually, condition, SECONDS)


async def register_all(registrar: Registrar, numbers: Sequence[int]) -> list[bool]:
    async with asyncio.timeout(SECONDS):
        return await asyncio.gather(*(registrar.register(registration(n)) for n in numbers))


async def test_a_registration_is_true_once_the_master_has_it(
    registrar: Registrar, master: FakeMaster, outbox: Outbox
) -> None:
    assert await registrar.register(registration(1)) is True

    assert master.groups == [[registration(1)]]
    assert len(outbox) == 0


async def test_what_gathers_while_a_group_is_under_way_goes_together(
    registrar: Registrar, master: FakeMaster
) -> None:
    master.gate.clear()
    first = asyncio.create_task(registrar.register(registration(0)))
    await until(lambda: master.calls == 1)
    rest = asyncio.create_task(register_all(registrar, range(1, 41)))
    await until(lambda: registrar._waiting.qsize() == 40)

    master.gate.set()

    assert await first
    assert all(await rest)
    assert [len(group) for group in master.groups] == [1, 40]
    assert master.recorded == [registration(number) for number in range(41)]


async def test_a_group_is_bounded(registrar: Registrar, master: FakeMaster) -> None:
    await register_all(registrar, range(MAX_GROUP + 1))

    assert [len(group) for group in master.groups] == [MAX_GROUP, 1]


async def test_while_the_master_is_away_registrations_are_put_off(
    registrar: Registrar, master: FakeMaster, outbox: Outbox
) -> None:
    master.failure = MasterError("POST: refused")

    assert await register_all(registrar, [1]) == [False]
    assert await register_all(registrar, [2, 3]) == [False, False]

    assert outbox.oldest()[0] == [registration(1), registration(2), registration(3)]
    # Once it has failed it is not asked again before it answers a heartbeat.
    assert master.calls == 1


async def test_a_heartbeat_without_an_answer_puts_registrations_off_at_once(
    registrar: Registrar, master: FakeMaster, outbox: Outbox
) -> None:
    registrar.master_failed()

    assert await registrar.register(registration(1)) is False

    assert master.calls == 0
    assert len(outbox) == 1


async def test_when_the_master_is_back_it_gets_what_was_put_off(
    registrar: Registrar, master: FakeMaster, outbox: Outbox
) -> None:
    registrar.master_failed()
    await register_all(registrar, range(1200))

    registrar.master_answered()
    await until(lambda: len(outbox) == 0)

    assert master.recorded == [registration(number) for number in range(1200)]
    assert await registrar.register(registration(5000)) is True


async def test_an_outage_while_the_outbox_is_emptied_loses_nothing(
    registrar: Registrar, master: FakeMaster, outbox: Outbox
) -> None:
    registrar.master_failed()
    await register_all(registrar, range(3))
    master.failure = MasterError("POST: refused")
    registrar.master_answered()
    await until(lambda: master.calls == 1)
    await until(lambda: not registrar._master_is_there)
    assert len(outbox) == 3

    master.failure = None
    registrar.master_answered()

    await until(lambda: len(outbox) == 0)
    assert master.recorded == [registration(number) for number in range(3)]


async def test_a_collision_reaches_the_upload_that_has_it_and_no_other(
    registrar: Registrar, master: FakeMaster
) -> None:
    master.collisions = {registration(2).hash}
    uploads = [registrar.register(registration(number)) for number in (1, 2, 3)]

    results = await asyncio.gather(*uploads, return_exceptions=True)

    assert results[0] is results[2] is True
    assert isinstance(results[1], HashCollision)


async def test_a_collision_found_late_does_not_hold_up_the_outbox(
    registrar: Registrar, master: FakeMaster, outbox: Outbox
) -> None:
    registrar.master_failed()
    await register_all(registrar, [1, 2, 3])
    master.collisions = {registration(2).hash}

    registrar.master_answered()

    await until(lambda: len(outbox) == 0)
    assert len(master.recorded) == 3
    assert outbox.refused_count() == 1


async def test_one_that_is_refused_fails_alone_and_is_kept(
    registrar: Registrar, master: FakeMaster, outbox: Outbox, caplog: pytest.LogCaptureFixture
) -> None:
    master.invalid = {registration(number).hash for number in (7, 8, 30)}
    master.gate.clear()
    uploads = [
        asyncio.create_task(registrar.register(registration(number))) for number in range(40)
    ]
    await until(lambda: master.calls == 1)
    master.gate.set()

    results = await asyncio.gather(*uploads, return_exceptions=True)

    refused = [number for number, result in enumerate(results) if result is not True]
    assert refused == [7, 8, 30]
    assert all(isinstance(results[number], RegistrationRefused) for number in refused)
    assert "400 invalid" in str(results[7])
    assert outbox.refused_count() == 3
    assert len(outbox) == 0
    assert "The master is away" not in caplog.text
    # Halving finds three of forty with fewer requests than one for each.
    assert master.calls < 40


async def test_one_that_is_refused_late_does_not_hold_up_the_outbox(
    registrar: Registrar, master: FakeMaster, outbox: Outbox, caplog: pytest.LogCaptureFixture
) -> None:
    registrar.master_failed()
    await register_all(registrar, range(10))
    master.invalid = {registration(0).hash}

    registrar.master_answered()

    await until(lambda: len(outbox) == 0)
    assert master.recorded == [registration(number) for number in range(1, 10)]
    assert outbox.refused_count() == 1
    errors = [record for record in caplog.records if record.levelname == "ERROR"]
    assert [registration(0).hash in record.getMessage() for record in errors] == [True]


async def test_a_group_that_is_too_large_for_the_master_goes_in_parts(
    registrar: Registrar, master: FakeMaster, outbox: Outbox
) -> None:
    registrar.master_failed()
    await register_all(registrar, range(100))
    master.largest_group = 30

    registrar.master_answered()

    await until(lambda: len(outbox) == 0)
    assert master.recorded == [registration(number) for number in range(100)]
    assert outbox.refused_count() == 0


@pytest.mark.parametrize(
    ("failure", "words"),
    [
        (refusal(401, "not_signed"), "does not accept this node's signature"),
        (refusal(400, "bad_request"), "The master is away"),
        (refusal(503, "database_unavailable"), "The master is away"),
        (refusal(502, ""), "The master is away"),
    ],
)
async def test_a_refusal_that_is_not_about_the_registration_puts_it_off_and_is_said_once(
    registrar: Registrar,
    master: FakeMaster,
    outbox: Outbox,
    caplog: pytest.LogCaptureFixture,
    *,
    failure: MasterRefused,
    words: str,
) -> None:
    master.failure = failure

    assert await register_all(registrar, [1, 2]) == [False, False]
    for calls in (2, 3):
        registrar.master_answered()
        await until(lambda calls=calls: master.calls == calls)  # type: ignore[misc]
        await until(lambda: not registrar._master_is_there)

    assert (len(outbox), outbox.refused_count()) == (2, 0)
    assert caplog.text.count(words) == 1


async def test_a_refusal_that_cannot_be_kept_is_put_off(master: FakeMaster, tmp_path: Path) -> None:
    database = NodeDatabase(tmp_path / "node.sqlite3")
    database.write("DROP TABLE refused", ()).result(SECONDS)
    outbox = Outbox(database)
    registrar = Registrar(master, outbox, asyncio.to_thread, nothing_renewed)  # type: ignore[arg-type]
    registrar.start()
    master.invalid = {registration(1).hash}

    assert await registrar.register(registration(1)) is False

    assert len(outbox) == 1
    await registrar.stop()
    database.close()


@pytest.mark.parametrize("failure", [RuntimeError("a bug"), KeyError("results")])
async def test_an_answer_that_nobody_expected_stops_no_registrations(
    registrar: Registrar, master: FakeMaster, outbox: Outbox, failure: Exception
) -> None:
    master.failure = failure
    assert await register_all(registrar, [1, 2]) == [False, False]
    assert len(outbox) == 2

    master.failure = None
    registrar.master_answered()

    await until(lambda: len(outbox) == 0)
    assert await register_all(registrar, [3]) == [True]


async def test_at_the_end_whoever_waits_is_put_off(
    registrar: Registrar, master: FakeMaster, outbox: Outbox
) -> None:
    master.gate.clear()
    waiting = asyncio.create_task(register_all(registrar, [1]))
    await until(lambda: master.calls == 1)
    queued = asyncio.create_task(register_all(registrar, [2, 3]))
    await until(lambda: registrar._waiting.qsize() == 2)

    await registrar.stop()

    assert await waiting == [False]
    assert await queued == [False, False]
    assert len(outbox) == 3


async def test_an_upload_that_was_given_up_is_not_put_off(
    registrar: Registrar, master: FakeMaster, outbox: Outbox
) -> None:
    master.gate.clear()
    first = asyncio.create_task(registrar.register(registration(1)))
    await until(lambda: master.calls == 1)
    given_up = asyncio.create_task(registrar.register(registration(2)))
    await until(lambda: registrar._waiting.qsize() == 1)
    given_up.cancel()
    await until(given_up.done)
    registrar.master_failed()

    master.gate.set()

    assert await first
    assert await registrar.register(registration(3)) is False
    assert outbox.oldest()[0] == [registration(3)]


async def test_an_outbox_that_cannot_be_written_is_the_uploads_error(
    master: FakeMaster, tmp_path: Path
) -> None:
    database = NodeDatabase(tmp_path / "node.sqlite3")
    database.write("DROP TABLE outbox", ()).result(SECONDS)
    registrar = Registrar(master, Outbox(database), asyncio.to_thread, nothing_renewed)  # type: ignore[arg-type]
    registrar.start()
    registrar.master_failed()

    with pytest.raises(Exception, match="no such table"):
        await registrar.register(registration(1))

    await registrar.stop()
    database.close()


async def test_what_was_deleted_meanwhile_has_to_be_stored_again(
    registrar: Registrar, master: FakeMaster, outbox: Outbox
) -> None:
    master.deleted = {registration(2).hash}
    first, second = registrar.register(registration(1)), registrar.register(registration(2))

    assert await asyncio.wait_for(first, SECONDS)
    with pytest.raises(StoreAgain):
        await asyncio.wait_for(second, SECONDS)
    assert outbox.refused_count() == 0


@pytest.mark.parametrize("holders", [("8002",), ()])
async def test_what_waited_and_was_deleted_meanwhile_is_looked_for(
    master: FakeMaster, outbox: Outbox, holders: tuple[str, ...]
) -> None:
    async def renew(entry: Registration) -> Registration | None:
        return replace(entry, replicas=holders) if holders else None

    outbox.add([registration(1), registration(2)])
    master.deleted = {registration(2).hash}
    registrar = Registrar(master, outbox, asyncio.to_thread, renew)  # type: ignore[arg-type]
    registrar.start()
    registrar.master_answered()
    await until(lambda: not len(outbox))
    await registrar.stop()

    if holders:
        assert master.recorded[-1].replicas == ("8002",)
        assert outbox.refused_count() == 0
    else:
        assert outbox.refused_count() == 1
