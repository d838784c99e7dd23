"""Compression in the background: what is tried, and what a crash or a race leaves."""

import errno
import os
import random
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from node_app import compressor, giving_way
from node_app.blobindex import BlobIndex, Totals
from node_app.compression import BLOCK_BYTES, FRAME_BYTES
from node_app.compressor import Compressor
from node_app.errors import BlobNotFound, StoreFailed, StoreFull
from node_app.giving_way import Stopped
from tests.support.blob_backends import LocalBackend, decompressed, md5, sha256
from tests.support.waiting import eventually

TEXT = b"".join(b"line %d of a text that repeats itself\n" % number for number in range(20_000))
NOISE = random.Random(1).randbytes(100_000)
SMALL = b"a" * BLOCK_BYTES


@pytest.fixture
def backend(tmp_path: Path) -> Iterator[LocalBackend]:
    opened = LocalBackend(tmp_path / "node_8001")
    yield opened
    opened.close()


def untried(backend: LocalBackend) -> list[str]:
    return [record.hash for record in backend.store.untried(min_age=0, limit=100)]


def assert_compressed(backend: LocalBackend, content: bytes = TEXT) -> None:
    """Hold that a content is there in its compressed form alone, and that the index knows."""
    address = md5(content)
    assert not backend.path(address).exists()
    assert decompressed(backend.compressed_path(address).read_bytes()) == content
    assert backend.get(address) == content
    assert backend.store.verify(address, sha256(content))
    record = backend.store.record(address)
    assert record is not None
    assert record.encoding == "zstd"
    assert record.stored_size == backend.compressed_path(address).stat().st_size
    assert address not in untried(backend)
    assert backend.temporary_files() == []
    assert backend.quarantined() == {}


def test_what_gains_is_compressed_and_what_it_saves_is_counted(backend: LocalBackend) -> None:
    backend.put(TEXT)

    assert backend.compress() == 1

    assert_compressed(backend)
    totals = backend.store.totals()
    stored = backend.compressed_path(md5(TEXT)).stat().st_size
    assert totals == Totals(1, len(TEXT), len(TEXT) - stored)
    assert totals.stored_size == stored < len(TEXT) / 2
    assert backend.compressed_path(md5(TEXT)).stat().st_mode & 0o777 == 0o644
    backend.reopen()
    assert backend.store.totals() == totals
    backend.store.delete(md5(TEXT), sha256=sha256(TEXT))
    assert backend.store.totals() == Totals(0, 0)
    assert backend.blobs() == []


def test_what_gains_nothing_stays_as_it_is_and_is_not_tried_again(
    backend: LocalBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    backend.put(NOISE)
    assert untried(backend) == [md5(NOISE)]

    assert backend.compress() == 0

    assert backend.planted(md5(NOISE)) == NOISE
    assert untried(backend) == []
    backend.reopen()
    assert untried(backend) == []
    assert backend.store.totals() == Totals(1, len(NOISE), 0)


def test_what_only_looked_promising_stays_as_it_is(backend: LocalBackend) -> None:
    content = TEXT[: 64 * 1024] + random.Random(2).randbytes(4_000_000)
    backend.put(content)

    assert backend.compress() == 0

    assert backend.blobs() == [md5(content)]
    assert untried(backend) == []
    assert backend.temporary_files() == []


def test_small_blobs_and_compressed_types_are_never_candidates(backend: LocalBackend) -> None:
    backend.put(SMALL)
    with backend.store.writer() as writer:
        writer.write(TEXT)
        backend.store.commit(writer, name="photo.jpg", content_type="image/jpeg")

    assert untried(backend) == []
    assert backend.compress() == 0


def test_rows_of_an_earlier_version_are_tried_only_if_they_may_gain(
    backend: LocalBackend,
) -> None:
    backend.put(SMALL)
    backend.put(TEXT)
    backend.database.write("UPDATE blob SET stored_size = NULL", ()).result()

    assert backend.compress() == 1

    assert backend.planted(md5(SMALL)) == SMALL
    assert_compressed(backend)
    assert untried(backend) == []


def test_a_blob_has_to_be_at_rest_first(backend: LocalBackend) -> None:
    backend.put(TEXT)
    young = Compressor(backend.store, after_seconds=3600, is_busy=lambda: False)

    assert young.compress_due() == 0

    assert backend.blobs() == [md5(TEXT)]
    assert untried(backend) == [md5(TEXT)]


def test_the_same_content_again_is_recognised_by_its_bytes(backend: LocalBackend) -> None:
    backend.put(TEXT)
    backend.compress()

    assert backend.put(TEXT)

    assert_compressed(backend)


def test_a_compressed_leftover_without_a_row_is_adopted(backend: LocalBackend) -> None:
    backend.put(TEXT)
    backend.compress()
    backend.database.write("DELETE FROM blob", ()).result()
    backend.reopen()
    assert backend.get(md5(TEXT)) == TEXT

    assert backend.put(TEXT)

    assert backend.compress() == 1
    assert_compressed(backend)


def test_a_source_that_is_damaged_is_left_to_whoever_mends_it(
    backend: LocalBackend, caplog: pytest.LogCaptureFixture
) -> None:
    backend.put(TEXT)
    damaged = TEXT[:-1] + b"?"
    backend.plant(md5(TEXT), damaged)

    assert backend.compress() == 0

    assert backend.planted(md5(TEXT)) == damaged
    assert "does not have its digests" in caplog.text
    assert untried(backend) == []
    assert not backend.put(TEXT), "the upload has mended it"
    assert backend.compress() == 1
    assert backend.get(md5(TEXT)) == TEXT


@pytest.mark.parametrize("lost", ["gone", "unreadable"])
def test_a_source_that_cannot_be_read_does_not_keep_the_others_waiting(
    backend: LocalBackend, caplog: pytest.LogCaptureFixture, lost: str
) -> None:
    backend.put(NOISE + TEXT)
    path = backend.path(md5(NOISE + TEXT))
    path.unlink()
    if lost == "unreadable":
        path.mkdir()
    backend.put(TEXT)

    assert backend.compress() == 1

    assert md5(NOISE + TEXT) in caplog.text
    assert untried(backend) == []


def test_frames_that_do_not_hold_the_content_are_thrown_away(
    backend: LocalBackend, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    backend.put(TEXT)
    monkeypatch.setattr(compressor.FrameEncoder, "frame", wrong_frame)

    assert backend.compress() == 0

    assert backend.planted(md5(TEXT)) == TEXT
    assert "do not hold its content" in caplog.text
    assert backend.temporary_files() == []


right_frame = compressor.FrameEncoder.frame


def wrong_frame(encoder: compressor.FrameEncoder, content: bytes) -> bytes:
    """Do what bad memory does before the frame has its checksum."""
    return right_frame(encoder, b"?" + content[1:])


def test_a_damaged_compressed_blob_is_not_served_and_mended_by_the_next_upload(
    backend: LocalBackend,
) -> None:
    backend.put(TEXT)
    backend.compress()
    path = backend.compressed_path(md5(TEXT))
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)

    with closing(backend.store.open(md5(TEXT))) as reader, pytest.raises(StoreFailed):
        reader.read_at(0, len(TEXT))
    assert not backend.store.verify(md5(TEXT), sha256(TEXT))

    assert not backend.put(TEXT)
    assert backend.get(md5(TEXT)) == TEXT
    assert list(backend.quarantined().values()) == [bytes(data)]
    assert backend.store.totals() == Totals(1, len(TEXT), 0)


def test_a_compressed_blob_of_another_size_is_not_served(backend: LocalBackend) -> None:
    backend.put(TEXT)
    backend.put(TEXT[:100_000])
    backend.compress()
    other = backend.compressed_path(md5(TEXT[:100_000])).read_bytes()
    backend.compressed_path(md5(TEXT)).write_bytes(other)

    with pytest.raises(StoreFailed):
        backend.store.open(md5(TEXT))


class Crash(BaseException):
    """The machine is off."""


class PowerCut:
    """Lets one act of the disk or the index be the last; what follows does not happen either."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, acts_left: int) -> None:
        self.acts_left = acts_left
        for owner, name in (
            (os, "fsync"),
            (Path, "replace"),
            (Path, "unlink"),
            (Path, "chmod"),
            (BlobIndex, "set_stored"),
        ):
            monkeypatch.setattr(owner, name, self._watched(getattr(owner, name)))

    @property
    def has_happened(self) -> bool:
        return self.acts_left < 0

    def _watched(self, act: Callable[..., Any]) -> Callable[..., Any]:
        def watched(*arguments: Any, **options: Any) -> Any:
            self.acts_left -= 1
            if self.has_happened:
                raise Crash
            return act(*arguments, **options)

        return watched


@pytest.mark.parametrize("acts", range(9))
def test_a_crash_at_any_step_leaves_the_blob_whole_and_the_rest_to_the_next_start(
    backend: LocalBackend, monkeypatch: pytest.MonkeyPatch, acts: int
) -> None:
    backend.put(TEXT)
    with monkeypatch.context() as patched:
        cut = PowerCut(patched, acts)
        if acts < 8:
            with pytest.raises(Crash):
                backend.compress()
        else:
            backend.compress()
        assert cut.has_happened == (acts < 8), "one test for each step"

    backend.reopen()

    assert backend.get(md5(TEXT)) == TEXT
    assert backend.store.verify(md5(TEXT), sha256(TEXT))
    assert backend.put(TEXT)
    backend.compress()
    assert_compressed(backend)
    saved = len(TEXT) - backend.compressed_path(md5(TEXT)).stat().st_size
    assert backend.store.totals() == Totals(1, len(TEXT), saved)


@pytest.mark.parametrize("acts", range(8))
def test_after_a_crash_at_any_step_the_blob_can_be_deleted(
    backend: LocalBackend, monkeypatch: pytest.MonkeyPatch, acts: int
) -> None:
    backend.put(TEXT)
    with monkeypatch.context() as patched:
        PowerCut(patched, acts)
        with pytest.raises(Crash):
            backend.compress()
    backend.reopen()

    assert backend.store.delete(md5(TEXT), sha256=sha256(TEXT))

    assert backend.blobs() == backend.rows() == []
    with pytest.raises(BlobNotFound):
        backend.store.open(md5(TEXT))
    assert backend.compress() == 0


def test_a_full_disk_leaves_the_blob_as_it_is_for_later(
    backend: LocalBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    backend.put(TEXT)

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", full)
        with pytest.raises(StoreFull):
            backend.compress()

    assert backend.planted(md5(TEXT)) == TEXT
    assert backend.temporary_files() == []
    assert backend.compress() == 1
    assert_compressed(backend)


def test_a_plain_form_that_cannot_be_removed_stays_and_nothing_beside_it(
    backend: LocalBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    backend.put(TEXT)
    unlink = Path.unlink

    def refuse(path: Path, **options: Any) -> None:
        # What Windows says of a file that is being read.
        if path == backend.path(md5(TEXT)):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
        unlink(path, **options)

    with monkeypatch.context() as patched:
        patched.setattr(Path, "unlink", refuse)
        assert backend.compress() == 0

    assert backend.blobs() == [md5(TEXT)]
    assert backend.get(md5(TEXT)) == TEXT
    assert untried(backend) == []
    assert backend.store.totals() == Totals(1, len(TEXT), 0)


def test_an_index_that_fails_once_finds_out_later(
    backend: LocalBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    backend.put(TEXT)
    failures = iter([StoreFailed("the index"), StoreFailed("the index")])
    set_stored = BlobIndex.set_stored

    def fail_first(index: BlobIndex, *arguments: Any, **options: Any) -> None:
        for failure in failures:
            raise failure
        set_stored(index, *arguments, **options)

    monkeypatch.setattr(BlobIndex, "set_stored", fail_first)
    with pytest.raises(StoreFailed):
        backend.compress()
    assert backend.get(md5(TEXT)) == TEXT

    assert backend.compress() == 1
    assert_compressed(backend)


@pytest.fixture
def at_the_swap(backend: LocalBackend, monkeypatch: pytest.MonkeyPatch) -> list[Callable[[], Any]]:
    """Return a list of what is to happen between the writing of the frames and their swap."""
    happenings: list[Callable[[], Any]] = []
    swap = backend.store.replace_by_compressed

    def happen_first(*arguments: Any) -> bool:
        for happening in happenings:
            happening()
        happenings.clear()
        return swap(*arguments)

    monkeypatch.setattr(backend.store, "replace_by_compressed", happen_first)
    return happenings


def test_a_blob_deleted_meanwhile_does_not_come_back(
    backend: LocalBackend, at_the_swap: list[Callable[[], Any]]
) -> None:
    backend.put(TEXT)
    at_the_swap.append(lambda: backend.store.delete(md5(TEXT), sha256=sha256(TEXT)))

    assert backend.compress() == 0

    assert backend.blobs() == backend.rows() == backend.temporary_files() == []


def test_a_blob_stored_anew_meanwhile_is_tried_for_itself(
    backend: LocalBackend, at_the_swap: list[Callable[[], Any]]
) -> None:
    backend.put(TEXT)
    at_the_swap.append(lambda: backend.store.delete(md5(TEXT), sha256=sha256(TEXT)))
    at_the_swap.append(lambda: backend.put(TEXT))

    assert backend.compress() == 1

    assert_compressed(backend)


def test_the_same_content_uploaded_meanwhile_is_recognised(
    backend: LocalBackend, at_the_swap: list[Callable[[], Any]]
) -> None:
    backend.put(TEXT)
    found = []
    at_the_swap.append(lambda: found.append(backend.put(TEXT)))

    assert backend.compress() == 1

    assert found == [True]
    assert_compressed(backend)


def test_an_open_reader_goes_on_while_its_blob_is_compressed(backend: LocalBackend) -> None:
    backend.put(TEXT)
    with closing(backend.store.open(md5(TEXT))) as reader:
        beginning = reader.read_at(0, 1000)
        backend.compress()
        assert beginning + reader.read_at(1000, len(TEXT)) == TEXT


def test_uploads_reads_and_deletes_go_on_while_all_is_compressed(backend: LocalBackend) -> None:
    contents = [TEXT[number * 1000 :] for number in range(12)]
    ends = threading.Event()

    def compress() -> None:
        while not ends.is_set():
            backend.compress()

    def use(content: bytes) -> None:
        for _ in range(5):
            backend.put(content)
            assert backend.get(md5(content)) == content
            assert backend.put(content)
            assert backend.store.delete(md5(content), sha256=sha256(content))
        backend.put(content)

    with ThreadPoolExecutor(5) as threads:
        compressing = threads.submit(compress)
        try:
            list(threads.map(use, contents))
        finally:
            ends.set()
        compressing.result()
    backend.compress()
    for content in contents:
        assert_compressed(backend, content)
    assert backend.store.totals() == BlobIndex(backend.database).totals()


def test_the_thread_compresses_what_comes_and_ends_when_told(backend: LocalBackend) -> None:
    background = Compressor(backend.store, after_seconds=0, is_busy=lambda: False)
    background.start()
    backend.put(TEXT)

    eventually(lambda: backend.compressed_path(md5(TEXT)).exists() and not untried(backend))
    background.stop()

    assert_compressed(backend)
    backend.put(TEXT + TEXT)
    assert untried(backend) == [md5(TEXT + TEXT)]


def test_a_thread_that_fails_goes_on_later(
    backend: LocalBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compressor, "RETRY_SECONDS", 0.05)
    failures: Iterator[Exception] = iter([StoreFull("full"), ValueError("a bug")])
    due = backend.store.untried

    def fail_first(**options: Any) -> Any:
        for failure in failures:
            raise failure
        return due(**options)

    monkeypatch.setattr(backend.store, "untried", fail_first)
    background = Compressor(backend.store, after_seconds=0, is_busy=lambda: False)
    backend.put(TEXT)
    background.start()
    eventually(lambda: backend.compressed_path(md5(TEXT)).exists())
    background.stop()


def test_uploads_go_first_and_compression_never_stops_for_good(
    backend: LocalBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(giving_way, "BUSY_SECONDS", 0.1)
    asked = []
    backend.put(TEXT)

    def is_busy() -> bool:
        asked.append(True)
        return True

    Compressor(backend.store, after_seconds=0, is_busy=is_busy).compress_due()

    assert_compressed(backend)
    pieces = 2 * -(-len(TEXT) // FRAME_BYTES)
    assert len(asked) >= 2 * pieces


def test_a_stop_does_not_wait_for_the_blob_that_is_under_way(backend: LocalBackend) -> None:
    backend.put(TEXT)
    stopping = Compressor(backend.store, after_seconds=0, is_busy=lambda: True)
    stopping._stopping.set()

    with pytest.raises(Stopped):
        stopping.compress_due()

    assert backend.planted(md5(TEXT)) == TEXT
    assert backend.temporary_files() == []
    assert untried(backend) == [md5(TEXT)]


def test_a_record_that_was_tried_is_not_marked_by_who_knew_it_before(
    backend: LocalBackend,
) -> None:
    backend.put(TEXT)
    (known,) = backend.store.untried(min_age=0, limit=1)
    backend.compress()

    backend.store.keep_plain(known)
    backend.store.keep_plain(replace(known, stored_at=0.0))

    assert_compressed(backend)
