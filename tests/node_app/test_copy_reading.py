"""Reading whole copies: here, and in a process of its own."""

import errno
import random
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from node_app.blobwriter import Digests
from node_app.copy_reading import Reading, ReadingHere, ReadingProcess
from node_app.errors import BlobDamaged, BlobNotFound, StoreFailed
from tests.support import damage
from tests.support.blob_backends import LocalBackend, md5, sha256
from tests.support.waiting import eventually

TEXT = b"".join(b"line %d of a text that repeats itself\n" % number for number in range(30_000))
NOISE = random.Random(2).randbytes(3_000_001)
CONTENTS = [b"", b"a few bytes", NOISE, TEXT]
EVERY = 1024 * 1024


@pytest.fixture
def backend(tmp_path: Path) -> Iterator[LocalBackend]:
    opened = LocalBackend(tmp_path / "node_8001")
    yield opened
    opened.close()


@pytest.fixture(params=[ReadingHere, ReadingProcess])
def reading(request: pytest.FixtureRequest) -> Iterator[Reading]:
    made: Reading = request.param()
    yield made
    made.end()


@pytest.fixture
def process() -> Iterator[ReadingProcess]:
    made = ReadingProcess()
    yield made
    made.end()


def stored(backend: LocalBackend, content: bytes) -> Path:
    """Store a content, compressed where it gains; return the path of its plain form."""
    backend.put(content)
    backend.compress()
    return backend.path(md5(content))


def nothing(_: int) -> None:
    """Take no rest."""


def child() -> psutil.Process:
    (found,) = [p for p in psutil.Process().children() if "copy_reading" in " ".join(p.cmdline())]
    return found


def test_it_finds_what_was_stored(backend: LocalBackend, reading: Reading) -> None:
    paths = [stored(backend, content) for content in CONTENTS]

    found = [reading.digests(path, nothing, every=EVERY) for path in paths]

    assert found == [Digests(md5(c), sha256(c), len(c)) for c in CONTENTS]
    assert backend.compressed_path(md5(TEXT)).exists()


def test_it_rests_as_often_as_it_is_told(backend: LocalBackend, reading: Reading) -> None:
    rests: list[int] = []

    for content in (NOISE, TEXT):
        reading.digests(stored(backend, content), rests.append, every=EVERY)

    on_disk = backend.compressed_path(md5(TEXT)).stat().st_size
    assert rests[:-2] == [EVERY, EVERY, len(NOISE) - 2 * EVERY]
    assert sum(rests[-2:]) == pytest.approx(on_disk, abs=2)


def test_what_is_wrong_with_a_copy(backend: LocalBackend, reading: Reading) -> None:
    missing, text, folder = (stored(backend, c) for c in (b"gone", TEXT, b"a folder"))
    missing.unlink()
    damage.flip(backend.compressed_path(md5(TEXT)))
    folder.unlink()
    folder.mkdir()

    with pytest.raises(BlobNotFound):
        reading.digests(missing, nothing, every=EVERY)
    with pytest.raises(BlobDamaged):
        reading.digests(text, nothing, every=EVERY)
    with pytest.raises(StoreFailed, match="directory") as failed:
        reading.digests(folder, nothing, every=EVERY)
    assert isinstance(failed.value.__cause__, OSError)
    assert failed.value.__cause__.errno == errno.EISDIR
    # None of that keeps it from the next one.
    assert reading.digests(stored(backend, NOISE), nothing, every=EVERY).md5 == md5(NOISE)


def test_what_a_rest_raises_ends_the_reading(backend: LocalBackend, reading: Reading) -> None:
    path = stored(backend, NOISE)

    def rest(_: int) -> None:
        raise LookupError

    with pytest.raises(LookupError):
        reading.digests(path, rest, every=1)

    assert reading.digests(path, nothing, every=EVERY).size == len(NOISE)


def test_one_process_reads_copy_after_copy_and_gives_way(
    backend: LocalBackend, process: ReadingProcess
) -> None:
    path = stored(backend, NOISE)
    process.digests(path, nothing, every=EVERY)
    first = child()
    process.digests(path, nothing, every=EVERY)

    assert (child(), first.nice()) == (first, 19)
    process.end()
    assert not first.is_running()


def test_a_process_that_was_killed_fails_one_reading(
    backend: LocalBackend, process: ReadingProcess
) -> None:
    path = stored(backend, NOISE)

    def kill(_: int) -> None:
        child().kill()

    with pytest.raises(StoreFailed, match="process that reads copies has ended"):
        process.digests(path, kill, every=1)

    assert process.digests(path, nothing, every=EVERY).size == len(NOISE)


def test_another_thread_can_end_a_reading(backend: LocalBackend, process: ReadingProcess) -> None:
    path, failures = stored(backend, NOISE), []
    began, go_on = threading.Event(), threading.Event()

    def rest(_: int) -> None:
        began.set()
        go_on.wait(10)

    def read() -> Any:
        try:
            process.digests(path, rest, every=1)
        except StoreFailed as error:
            failures.append(error)

    thread = threading.Thread(target=read)
    thread.start()
    began.wait(10)
    process.interrupt()
    go_on.set()
    thread.join(10)

    assert len(failures) == 1


def test_it_ends_when_nobody_is_left_to_ask(backend: LocalBackend, process: ReadingProcess) -> None:
    process.digests(stored(backend, NOISE), nothing, every=EVERY)
    orphan = child()
    assert process._process is not None
    assert process._process.stdin is not None

    process._process.stdin.close()

    eventually(lambda: orphan.status() == psutil.STATUS_ZOMBIE)
