"""Copies that are lost: kept on disk until the master has heard, and not said of what is back."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from pathlib import Path

import pytest

from mini_dropbox.wire import Loss
from node_app import loss_reporter
from node_app.blobstore import Check
from node_app.errors import MasterError
from node_app.loss_reporter import LossReporter
from node_app.losses import BATCH, Losses, statement
from node_app.outbox import Outbox
from tests.support.blob_backends import LocalBackend, md5
from tests.support.registrations import registration
from tests.support.waiting import eventually_there


def loss(number: int) -> Loss:
    return Loss(hash=f"{number:032x}", reason="damaged", found_by="read", at=1.5 + number)


class FakeMaster:
    """Hears of losses, unless it is away."""

    def __init__(self) -> None:
        self.heard: list[Loss] = []
        self.is_away = False
        self.calls = 0
        self.meanwhile: Callable[[], object] = lambda: None

    async def lose(self, losses: Sequence[Loss]) -> None:
        self.calls += 1
        if self.is_away:
            raise MasterError("POST: the master is away")
        self.heard += losses
        await asyncio.to_thread(self.meanwhile)


@pytest.fixture
def backend(tmp_path: Path) -> Iterator[LocalBackend]:
    opened = LocalBackend(tmp_path / "node_8001")
    yield opened
    opened.close()


@pytest.fixture
def master(monkeypatch: pytest.MonkeyPatch) -> FakeMaster:
    monkeypatch.setattr(loss_reporter, "FIRST_PAUSE_SECONDS", 0.05)
    return FakeMaster()


@pytest.fixture
async def reporter(backend: LocalBackend, master: FakeMaster) -> AsyncIterator[LossReporter]:
    started = LossReporter(
        "8001",
        master=master,  # type: ignore[arg-type]
        losses=Losses(backend.database),
        outbox=Outbox(backend.database),
        store=backend.store,
        run=asyncio.to_thread,
    )
    started.start()
    yield started
    await started.stop()


def keep(backend: LocalBackend, *losses: Loss) -> None:
    backend.database.write_all([statement(each) for each in losses]).result()


def lose(backend: LocalBackend, content: bytes) -> None:
    """Store a content and have its damage found."""
    backend.put(content)
    backend.plant(md5(content), b"rubbish")
    assert backend.store.check(md5(content), found_by="read").result is Check.BAD


def test_losses_come_out_as_they_went_in_also_after_a_restart(backend: LocalBackend) -> None:
    keep(backend, *map(loss, range(BATCH + 3)))
    backend.reopen()
    losses = Losses(backend.database)

    batch, last_id = losses.oldest()
    losses.remove_up_to(last_id)

    assert batch == [loss(number) for number in range(BATCH)]
    assert losses.oldest()[0] == [loss(number) for number in range(BATCH, BATCH + 3)]


async def test_the_master_hears_at_once_and_the_loss_is_forgotten(
    backend: LocalBackend, master: FakeMaster, reporter: LossReporter
) -> None:
    await asyncio.to_thread(lose, backend, b"content")

    await eventually_there(lambda: not len(Losses(backend.database)))

    (heard,) = master.heard
    assert (heard.hash, heard.reason, heard.found_by) == (md5(b"content"), "damaged", "read")


async def test_a_master_that_is_away_is_told_again(
    backend: LocalBackend, master: FakeMaster, reporter: LossReporter
) -> None:
    master.is_away = True
    await asyncio.to_thread(lose, backend, b"content")
    await eventually_there(lambda: master.calls)
    assert len(Losses(backend.database)) == 1

    master.is_away = False
    reporter.master_answered()

    await eventually_there(lambda: not len(Losses(backend.database)))
    assert [each.hash for each in master.heard] == [md5(b"content")]


async def test_what_waited_through_a_restart_is_told_once_the_master_answers(
    backend: LocalBackend, master: FakeMaster, reporter: LossReporter
) -> None:
    keep(backend, *map(loss, range(BATCH + 3)))

    reporter.master_answered()

    await eventually_there(lambda: not len(Losses(backend.database)))
    assert master.heard == [loss(number) for number in range(BATCH + 3)]


async def test_a_copy_that_was_stored_anew_is_not_said_to_be_lost(
    backend: LocalBackend, master: FakeMaster, reporter: LossReporter
) -> None:
    master.is_away = True
    await asyncio.to_thread(lose, backend, b"content")
    await eventually_there(lambda: master.calls)
    backend.put(b"content")
    master.is_away = False
    reporter.master_answered()

    await eventually_there(lambda: not len(Losses(backend.database)))

    assert master.heard == []


async def test_a_copy_that_is_stored_while_the_master_hears_is_registered_again(
    backend: LocalBackend, master: FakeMaster, reporter: LossReporter
) -> None:
    master.meanwhile = lambda: backend.put(b"content", "again.txt")
    await asyncio.to_thread(lose, backend, b"content")

    await eventually_there(lambda: not len(Losses(backend.database)))

    ((again,), _) = Outbox(backend.database).oldest()
    assert (again.hash, again.name, again.replicas) == (md5(b"content"), "again.txt", ("8001",))


async def test_registrations_that_wait_are_told_first(
    backend: LocalBackend, master: FakeMaster, reporter: LossReporter
) -> None:
    outbox = Outbox(backend.database)
    outbox.add([registration(1)])
    keep(backend, loss(1))
    reporter.master_answered()
    await eventually_there(lambda: not reporter._work.is_set())
    assert master.heard == []

    outbox.remove_up_to(outbox.oldest()[1])
    reporter.master_answered()

    await eventually_there(lambda: master.heard == [loss(1)])


def test_an_upload_that_finds_damage_keeps_the_loss_too(backend: LocalBackend) -> None:
    backend.put(b"content")
    backend.plant(md5(b"content"), b"rubbish")

    backend.put(b"content")

    (kept,), _ = Losses(backend.database).oldest()
    assert (kept.hash, kept.reason, kept.found_by) == (md5(b"content"), "damaged", "upload")
