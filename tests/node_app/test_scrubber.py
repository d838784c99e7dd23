"""The scrubber: what it finds, in which order, and how it gives way."""

import errno
import os
import random
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from mini_dropbox.zerocopy import is_in_memory
from node_app import scrubber
from node_app.blobstore import Check
from node_app.blobwriter import Digests
from node_app.copy_reading import Reading, ReadingHere, ReadingProcess
from node_app.errors import StoreFailed
from node_app.giving_way import Rests, Stopped
from node_app.local_blobstore import LocalBlobStore
from node_app.losses import Losses
from node_app.scrubber import OPENING_BYTES, Scrubber
from tests.support import damage
from tests.support.blob_backends import LocalBackend, md5, sha256
from tests.support.damage import Damage
from tests.support.waiting import eventually

PERIOD = 3600.0
TEXT = b"".join(b"line %d of a text that repeats itself\n" % number for number in range(30_000))
CONTENTS = {
    "small": random.Random(1).randbytes(2_000),
    "large": random.Random(2).randbytes(3_000_001),
    "small, compressed": TEXT[:20_000],
    "compressed": TEXT,
    "empty": b"",
}
HARMED = [name for name in CONTENTS if name != "empty"]


@pytest.fixture
def backend(tmp_path: Path) -> Iterator[LocalBackend]:
    opened = LocalBackend(tmp_path / "node_8001")
    yield opened
    opened.close()


class NoRests(Rests):
    """Takes no rests, and notes those that it should have."""

    def __init__(self, stopping: threading.Event | None = None) -> None:
        super().__init__(stopping or threading.Event(), lambda: False)
        self.taken: list[float] = []

    def take(self, seconds: float) -> None:
        self.taken.append(seconds)


def scrubber_of(
    backend: LocalBackend,
    rests: Rests | None = None,
    *,
    rate: float = 1e12,
    reading: Reading | None = None,
) -> Scrubber:
    stopping = threading.Event()
    return Scrubber(
        backend.store,
        rests or NoRests(stopping),
        stopping,
        period=PERIOD,
        bytes_per_second=rate,
        reading=reading or ReadingHere(),
    )


def stored(backend: LocalBackend, content: bytes) -> Path:
    backend.put(content)
    backend.compress()
    path = backend.compressed_path(md5(content))
    return path if path.exists() else backend.path(md5(content))


def set_verified(backend: LocalBackend, content: bytes, seconds_ago: float | None) -> None:
    at = None if seconds_ago is None else time.time() - seconds_ago
    sql = "UPDATE blob SET verified_at = ? WHERE hash = ?"
    backend.database.write(sql, (at, md5(content))).result()


def verified_ago(backend: LocalBackend, content: bytes) -> float:
    record = backend.store.record(md5(content))
    assert record is not None
    assert record.verified_at is not None
    return time.time() - record.verified_at


@pytest.mark.parametrize("name", HARMED)
@pytest.mark.parametrize("harm", damage.IN_PLACE, ids=lambda harm: harm.__name__)
def test_silent_damage_is_found_and_set_aside(
    backend: LocalBackend, name: str, harm: Damage
) -> None:
    content = CONTENTS[name]
    path = stored(backend, content)
    harm(path)
    damage.silence(backend.folder / "node.sqlite3", md5(content), path)
    harmed = path.read_bytes()
    scrub = scrubber_of(backend)

    scrub.scrub_all()

    assert not path.exists()
    assert backend.store.record(md5(content)) is None
    (evidence,) = backend.evidence()
    assert (evidence["reason"], evidence["found_by"]) == ("damaged", "scrub")
    assert evidence["expected"]["sha256"] == sha256(content)
    (moved,) = [p for p in backend.folder.glob("quarantine/*") if p.suffix != ".json"]
    assert moved.read_bytes() == harmed
    (loss,), _ = Losses(backend.database).oldest()
    assert (loss.hash, loss.found_by) == (md5(content), "scrub")
    assert scrub.progress()["bad_found"] == 1


def test_what_is_whole_stays_and_is_counted(backend: LocalBackend) -> None:
    paths = [stored(backend, content) for content in CONTENTS.values()]
    set_verified(backend, CONTENTS["large"], None)
    scrub = scrubber_of(backend)

    scrub.scrub_all()

    assert all(path.exists() for path in paths)
    assert backend.quarantined() == {}
    progress = scrub.progress()
    assert progress["blobs_checked"] == len(CONTENTS)
    assert progress["bytes_checked"] == sum(path.stat().st_size for path in paths)
    assert (progress["bad_found"], progress["unreadable"]) == (0, 0)
    assert progress["ended_at"] >= progress["started_at"]
    assert progress["oldest_verified_at"] > time.time() - 60
    assert not progress["running"]
    assert verified_ago(backend, CONTENTS["large"]) < 60


def test_a_file_that_is_gone_is_noticed(backend: LocalBackend) -> None:
    content = CONTENTS["large"]
    stored(backend, content).unlink()
    scrub = scrubber_of(backend)

    scrub.scrub_all()

    assert backend.store.record(md5(content)) is None
    (loss,), _ = Losses(backend.database).oldest()
    assert (loss.hash, loss.reason, loss.found_by) == (md5(content), "missing", "scrub")
    assert scrub.progress()["bad_found"] == 1


def test_a_blob_that_is_due_is_checked_and_one_that_is_not_is_left(backend: LocalBackend) -> None:
    ages = {"small": PERIOD / 2 + 60, "large": PERIOD / 2 - 60, "compressed": None, "empty": -3600}
    for name in ages:
        stored(backend, CONTENTS[name])
    for name, age in ages.items():
        set_verified(backend, CONTENTS[name], age)
    scrub = scrubber_of(backend)

    scrub.scrub_due()

    assert scrub.progress()["blobs_checked"] == 3
    assert verified_ago(backend, CONTENTS["large"]) > 60
    assert all(0 <= verified_ago(backend, CONTENTS[n]) < 60 for n in ages if n != "large")
    assert backend.blobs()
    scrub.scrub_due()
    assert scrub.progress()["blobs_checked"] == 3


def test_the_oldest_come_first_and_a_restart_goes_on_where_it_was(
    backend: LocalBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    contents = [b"blob %d" % number for number in range(6)]
    for number, content in enumerate(contents):
        backend.put(content)
        set_verified(backend, content, PERIOD + 1000 * number)
    order: list[str] = []

    def watch(until: int) -> None:
        check = backend.store.check

        def checked(blob_hash: str, **options: Any) -> Any:
            if len(order) == until:
                raise Stopped
            order.append(blob_hash)
            return check(blob_hash, **options)

        monkeypatch.setattr(backend.store, "check", checked)

    watch(until=2)
    with pytest.raises(Stopped):
        scrubber_of(backend).scrub_due()
    backend.reopen()
    watch(until=100)
    scrubber_of(backend).scrub_due()

    assert order == [md5(content) for content in reversed(contents)]


def test_it_keeps_to_its_rate(backend: LocalBackend) -> None:
    content = CONTENTS["large"]
    stored(backend, content)
    backend.put(CONTENTS["empty"])
    rests = NoRests()
    rate = 1_000_000.0

    set_verified(backend, content, PERIOD)
    set_verified(backend, CONTENTS["empty"], PERIOD)
    began = time.monotonic()
    scrubber_of(backend, rests, rate=rate).scrub_due()
    worked = time.monotonic() - began

    expected = (len(content) + 2 * OPENING_BYTES) / rate
    assert expected - worked <= sum(rests.taken) <= expected + 0.001


def test_at_full_speed_it_keeps_to_no_rate(backend: LocalBackend) -> None:
    stored(backend, CONTENTS["large"])
    rests = NoRests()

    scrubber_of(backend, rests, rate=1.0).scrub_all()

    assert rests.taken == []


def test_uploads_go_first(backend: LocalBackend) -> None:
    asked: list[bool] = []

    def is_busy() -> bool:
        asked.append(True)
        return len(asked) < 5

    stored(backend, CONTENTS["small"])
    set_verified(backend, CONTENTS["small"], None)
    scrubber_of(backend, Rests(threading.Event(), is_busy)).scrub_due()

    assert len(asked) >= 5
    assert verified_ago(backend, CONTENTS["small"]) < 60


def test_a_request_starts_the_running_thread_on_all_blobs(backend: LocalBackend) -> None:
    content = CONTENTS["large"]
    path = stored(backend, content)
    scrub = scrubber_of(backend, rate=1.0, reading=ReadingProcess())
    scrub.start()
    damage.flip(path)

    scrub.begin_now()

    assert scrub.progress()["running"]
    eventually(lambda: scrub.progress()["bad_found"] == 1)
    eventually(lambda: not scrub.progress()["running"])
    scrub.stop()
    assert not path.exists()


def test_a_stop_does_not_wait_for_the_blob_that_is_under_way(backend: LocalBackend) -> None:
    stored(backend, CONTENTS["large"])
    set_verified(backend, CONTENTS["large"], None)
    stopping = threading.Event()
    scrub = Scrubber(
        backend.store,
        Rests(stopping, lambda: False),
        stopping,
        period=PERIOD,
        bytes_per_second=1.0,
    )
    scrub.start()
    eventually(lambda: scrub.progress()["running"])

    scrub.stop()

    assert backend.store.record(md5(CONTENTS["large"])) is not None


def failing(path: Path, number: int) -> Callable[..., Any]:
    """Return an `os.preadv`, or `os.pread`, that fails for one file."""
    inode = path.stat().st_ino

    def read(function: Callable[..., Any], descriptor: int, *arguments: Any) -> Any:
        if os.fstat(descriptor).st_ino == inode:
            raise OSError(number, os.strerror(number))
        return function(descriptor, *arguments)

    return read


def let_reads_fail(monkeypatch: pytest.MonkeyPatch, path: Path, number: int) -> None:
    read = failing(path, number)
    for name in ("preadv", "pread"):
        function = getattr(os, name)
        monkeypatch.setattr(os, name, lambda *a, f=function: read(f, *a))


def test_bytes_that_the_disk_cannot_read_are_set_aside(
    backend: LocalBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = CONTENTS["large"]
    let_reads_fail(monkeypatch, stored(backend, content), errno.EIO)

    scrubber_of(backend).scrub_all()

    (evidence,) = backend.evidence()
    assert (evidence["reason"], evidence["found"]) == ("unreadable", None)
    assert backend.store.record(md5(content)) is None


def test_of_a_disk_that_fails_as_a_whole_nothing_is_set_aside(
    backend: LocalBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = CONTENTS["large"]
    let_reads_fail(monkeypatch, stored(backend, content), errno.EIO)

    def probe(_: LocalBlobStore) -> None:
        raise StoreFailed("The disk failed.")

    monkeypatch.setattr(LocalBlobStore, "probe", probe)

    with pytest.raises(StoreFailed):
        scrubber_of(backend).scrub_all()

    assert backend.quarantined() == {}
    assert backend.store.record(md5(content)) is not None


def test_a_copy_that_cannot_be_opened_holds_up_no_other(
    backend: LocalBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scrubber, "BATCH", 1)
    contents = [b"one", b"two", b"three"]
    for number, content in enumerate(contents):
        backend.put(content)
        set_verified(backend, content, PERIOD + 1000 * number)
    path = backend.path(md5(contents[2]))
    path.unlink()
    path.mkdir()
    scrub = scrubber_of(backend)

    scrub.scrub_due()

    assert (scrub.progress()["blobs_checked"], scrub.progress()["unreadable"]) == (2, 1)
    assert path.exists()
    assert all(verified_ago(backend, content) < 60 for content in contents[:2])


def test_a_copy_that_is_replaced_while_it_is_read_stays(backend: LocalBackend) -> None:
    content = CONTENTS["large"]
    path = stored(backend, content)
    damage.flip(path)

    def read(blob_hash: str) -> Digests:
        found = backend.store.digests(blob_hash)
        backend.put(content)
        return found

    checked = backend.store.check(md5(content), found_by="scrub", read=read)

    assert checked.result is Check.CHANGED
    assert backend.get(md5(content)) == content


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells what is in memory")
def test_the_page_cache_stays_as_it_is(backend: LocalBackend) -> None:
    content = random.Random(3).randbytes(4_000_000)
    path = stored(backend, content)
    with path.open("rb") as file:
        os.fsync(file.fileno())
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        # To look there makes the system read what comes next: one look at each place.
        if is_in_memory(file.fileno(), len(content) - 1, 1):
            # A file system in memory has no cache to keep free.
            return

        scrubber_of(backend).scrub_all()

        assert not is_in_memory(file.fileno(), 0, 1)
        assert not is_in_memory(file.fileno(), 2_000_000, 1)
