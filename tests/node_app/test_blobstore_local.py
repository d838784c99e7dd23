"""The local blob store: what a power cut, a full disk and a failing disk leave of an upload."""

import errno
import os
import resource
import stat
from collections.abc import Iterator
from pathlib import Path
from threading import Event, Thread
from typing import Any

import pytest

from node_app.blobwriter import MEMORY_BYTES, BlobWriter
from node_app.errors import StoreFailed, StoreFull
from tests.support.blob_backends import LocalBackend, md5, sha256
from tests.support.waiting import eventually

SMALL = b"small content"
LARGE = bytes(MEMORY_BYTES) + b"large content"
NAMED = {"name": "name", "content_type": ""}
SIZES = pytest.mark.parametrize("content", [SMALL, LARGE], ids=["small", "large"])


@pytest.fixture
def backend(tmp_path: Path) -> Iterator[LocalBackend]:
    opened = LocalBackend(tmp_path / "node_8001")
    yield opened
    opened.close()


class DiskTrace:
    """Records what is made durable and renamed, in order, and can make one kind of fsync fail."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.events: list[tuple[str, int | str]] = []
        self._failing = lambda _: False
        self._fsync, self._replace = os.fsync, os.replace
        monkeypatch.setattr(os, "fsync", self._record_fsync)
        monkeypatch.setattr(os, "replace", self._record_replace)

    def fail_on(self, failing: Any) -> None:
        """Let fsync fail with EIO where `failing` says so of a file's status."""
        self._failing = failing

    def position(self, kind: str, what: int | str) -> int:
        return self.events.index((kind, what))

    def _record_fsync(self, descriptor: int) -> None:
        status = os.fstat(descriptor)
        if self._failing(status):
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        self._fsync(descriptor)
        self.events.append(("fsync", status.st_ino))

    def _record_replace(self, source: Path | str, target: Path | str) -> None:
        self._replace(source, target)
        self.events.append(("rename", str(target)))


@pytest.fixture
def trace(monkeypatch: pytest.MonkeyPatch, backend: LocalBackend) -> DiskTrace:
    return DiskTrace(monkeypatch)


def inode(path: Path) -> int:
    return path.stat().st_ino


@SIZES
def test_the_file_is_durable_before_its_name_and_the_name_before_the_answer(
    backend: LocalBackend, trace: DiskTrace, content: bytes
) -> None:
    backend.put(content)

    path = backend.path(md5(content))
    file = trace.position("fsync", inode(path))
    rename = trace.position("rename", str(path))
    folder = trace.position("fsync", inode(path.parent))
    assert file < rename < folder


@pytest.mark.parametrize("there", [False, True])
def test_the_folders_that_lead_to_a_name_are_durable_before_the_answer(
    backend: LocalBackend, trace: DiskTrace, *, there: bool
) -> None:
    path = backend.path(md5(SMALL))
    if there:
        # A process that ended early may have made them and put nothing on disk.
        path.parent.mkdir(parents=True)
    backend.put(SMALL)

    renamed = trace.position("rename", str(path))
    for folder in path.parents[:3]:
        assert ("fsync", inode(folder)) in trace.events[renamed:]


def test_known_folders_are_not_settled_again(backend: LocalBackend, trace: DiskTrace) -> None:
    backend.put(SMALL)
    backend.store.delete(md5(SMALL), sha256=sha256(SMALL))
    trace.events.clear()

    backend.put(SMALL)

    root = inode(backend.path(md5(SMALL)).parents[2])
    assert ("fsync", root) not in trace.events


def test_a_folder_that_has_gone_is_made_again(backend: LocalBackend, trace: DiskTrace) -> None:
    backend.put(SMALL)
    backend.store.delete(md5(SMALL), sha256=sha256(SMALL))
    backend.path(md5(SMALL)).parent.rmdir()
    trace.events.clear()

    backend.put(SMALL)

    assert backend.get(md5(SMALL)) == SMALL
    assert ("fsync", inode(backend.path(md5(SMALL)).parents[1])) in trace.events


def test_an_adopted_leftover_is_made_durable_with_its_folders(
    backend: LocalBackend, trace: DiskTrace
) -> None:
    path = backend.path(md5(SMALL))
    backend.plant(md5(SMALL), SMALL)

    assert backend.put(SMALL)

    assert trace.position("fsync", inode(path)) < trace.position("fsync", inode(path.parent))
    assert ("fsync", inode(path.parents[1])) in trace.events
    assert ("fsync", inode(path.parents[2])) in trace.events


def test_what_is_set_aside_is_durable_there(backend: LocalBackend, trace: DiskTrace) -> None:
    backend.put(SMALL)
    backend.plant(md5(SMALL), b"torn")

    backend.put(SMALL)

    quarantine = backend.folder / "quarantine"
    moved, beside = sorted(quarantine.iterdir())
    assert ("fsync", inode(beside)) in trace.events
    renamed = trace.position("rename", str(moved))
    assert ("fsync", inode(quarantine)) in trace.events[renamed:]


def test_a_removal_is_durable(backend: LocalBackend, trace: DiskTrace) -> None:
    backend.put(SMALL)
    folder = backend.path(md5(SMALL)).parent
    trace.events.clear()

    backend.store.delete(md5(SMALL), sha256=sha256(SMALL))

    assert ("fsync", inode(folder)) in trace.events


@SIZES
def test_when_the_file_cannot_be_made_durable_nothing_is_kept(
    backend: LocalBackend, trace: DiskTrace, content: bytes
) -> None:
    trace.fail_on(lambda status: stat.S_ISREG(status.st_mode))

    with pytest.raises(StoreFailed):
        backend.put(content)

    assert_nothing_is_kept(backend)
    trace.fail_on(lambda _: False)
    assert_next_upload_works(backend, content)


@SIZES
def test_when_the_name_cannot_be_made_durable_nothing_is_kept(
    backend: LocalBackend, trace: DiskTrace, content: bytes
) -> None:
    path = backend.path(md5(content))
    path.parent.mkdir(parents=True)
    folder = inode(path.parent)
    trace.fail_on(lambda status: status.st_ino == folder)

    with pytest.raises(StoreFailed):
        backend.put(content)

    assert_nothing_is_kept(backend)
    trace.fail_on(lambda _: False)
    assert_next_upload_works(backend, content)


def test_when_a_new_folder_cannot_be_made_durable_the_next_upload_does_not_rely_on_it(
    backend: LocalBackend, trace: DiskTrace
) -> None:
    path = backend.path(md5(SMALL))
    root = inode(path.parents[2])
    trace.fail_on(lambda status: status.st_ino == root)
    with pytest.raises(StoreFailed):
        backend.put(SMALL)
    assert_nothing_is_kept(backend)

    trace.fail_on(lambda _: False)
    backend.put(SMALL)

    assert ("fsync", root) in trace.events


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="the system has no full device")
@SIZES
def test_when_the_disk_is_full_nothing_is_kept(
    backend: LocalBackend, monkeypatch: pytest.MonkeyPatch, content: bytes
) -> None:
    really_open = os.open

    def open_full(path: str, flags: int, *mode: int) -> int:
        descriptor = really_open(path, flags, *mode)
        if flags & os.O_CREAT:
            full = really_open("/dev/full", os.O_RDWR)
            os.dup2(full, descriptor)
            os.close(full)
        return descriptor

    with monkeypatch.context() as patched:
        patched.setattr(os, "open", open_full)
        with pytest.raises(StoreFull):
            backend.put(content)
        with pytest.raises(StoreFull):
            backend.store.probe()

    assert_nothing_is_kept(backend)
    backend.store.probe()
    assert_next_upload_works(backend, content)


def test_a_write_that_the_disk_takes_in_part_is_not_taken_for_whole(
    backend: LocalBackend,
) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    with backend.store.writer() as writer:
        writer.write(LARGE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (writer.size - 100, hard))
        try:
            with pytest.raises(StoreFailed):
                backend.store.commit(writer, name="part.bin", content_type="")
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))

    assert_nothing_is_kept(backend)


@SIZES
def test_when_the_index_is_full_the_blob_is_not_kept_without_its_row(
    backend: LocalBackend, content: bytes
) -> None:
    database = backend.database._writer
    ((pages,),) = database.execute("PRAGMA page_count").fetchall()
    database.execute(f"PRAGMA max_page_count={pages}").fetchall()

    with pytest.raises(StoreFull):
        backend.put(content, name="n" * 100_000)

    assert_nothing_is_kept(backend)
    database.execute("PRAGMA max_page_count=1000000").fetchall()
    assert_next_upload_works(backend, content)


@pytest.mark.parametrize("umask", [0o022, 0o000, 0o077])
@SIZES
def test_files_and_folders_have_their_modes(tmp_path: Path, content: bytes, umask: int) -> None:
    before = os.umask(umask)
    try:
        backend = LocalBackend(tmp_path / "node_8001")
        backend.put(content)
    finally:
        os.umask(before)
    backend.close()

    path = backend.path(md5(content))
    assert stat.S_IMODE(path.stat().st_mode) == 0o644
    for folder in (path.parent, path.parents[1], path.parents[2], backend.folder / "tmp"):
        assert stat.S_IMODE(folder.stat().st_mode) == 0o755, folder


def test_an_open_reader_stays_usable_after_the_blob_is_deleted(backend: LocalBackend) -> None:
    backend.put(LARGE)
    reader = backend.store.open(md5(LARGE))

    backend.store.delete(md5(LARGE), sha256=sha256(LARGE))

    assert reader.read_at(0, len(LARGE)) == LARGE
    reader.close()


def test_a_blob_that_the_disk_cannot_read_is_a_failure_and_not_unknown(
    backend: LocalBackend,
) -> None:
    backend.put(SMALL)
    path = backend.path(md5(SMALL))
    path.unlink()
    path.mkdir()

    with pytest.raises(StoreFailed):
        backend.store.open(md5(SMALL))
    with pytest.raises(StoreFailed):
        backend.put(SMALL)


def test_a_small_upload_can_be_read_back_while_a_store_moves_it_to_disk(
    backend: LocalBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = []
    chmod = os.fchmod
    with backend.store.writer() as writer:
        writer.write(SMALL)

        def read_and_chmod(descriptor: int, mode: int) -> None:
            # The temporary file exists by now, and is empty.
            seen.append(writer.read_at(0, len(SMALL)))
            chmod(descriptor, mode)

        monkeypatch.setattr(os, "fchmod", read_and_chmod)
        backend.store.commit(writer, name="name", content_type="")

    assert SMALL in seen
    assert set(seen) == {SMALL}


@pytest.mark.parametrize("content", [SMALL, LARGE])
def test_a_writer_given_up_amid_a_commit_is_whole_or_not_there(
    backend: LocalBackend, content: bytes
) -> None:
    writer = backend.store.writer()
    writer.write(content)
    lock = backend.store._locks[int(md5(content)[:2], 16)]
    lock.acquire()
    commit = Thread(target=backend.store.commit, args=(writer,), kwargs=NAMED)
    commit.start()
    eventually(lambda: writer._users == 1)

    writer.close()
    lock.release()
    commit.join()

    assert backend.get(md5(content)) == content
    assert backend.temporary_files() == []


def test_nobody_begins_with_a_writer_that_was_given_up(backend: LocalBackend) -> None:
    writer = backend.store.writer()
    writer.write(LARGE)
    writer.close()

    with pytest.raises(StoreFailed):
        backend.store.commit(writer, **NAMED)
    with pytest.raises(StoreFailed):
        writer.write(SMALL)
    with pytest.raises(StoreFailed):
        writer.read_at(0, 1)
    assert_nothing_is_kept(backend)


@pytest.mark.parametrize("left", [0, 10, len(LARGE) + 1])
def test_a_copy_that_has_lost_its_size_is_not_served(backend: LocalBackend, left: int) -> None:
    backend.put(LARGE)
    os.truncate(backend.path(md5(LARGE)), left)

    with pytest.raises(StoreFailed):
        backend.store.open(md5(LARGE))


def test_the_space_is_the_disks(backend: LocalBackend) -> None:
    space = backend.store.space()

    assert space.capacity is not None
    assert space.free is not None
    assert 0 < space.free <= space.capacity


def test_a_writer_can_be_closed_twice(tmp_path: Path) -> None:
    writer = BlobWriter(tmp_path)
    writer.write(LARGE)

    writer.close()
    writer.close()

    assert list(tmp_path.iterdir()) == []


def assert_nothing_is_kept(backend: LocalBackend) -> None:
    assert backend.blobs() == []
    assert backend.rows() == []
    assert backend.temporary_files() == []
    assert backend.store.totals().count == 0


def assert_next_upload_works(backend: LocalBackend, content: bytes) -> None:
    assert not backend.put(content)
    assert backend.get(md5(content)) == content


def test_a_large_content_that_waits_for_the_disk_holds_up_no_other(
    backend: LocalBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    really_fsync, waits, may_go_on = os.fsync, Event(), Event()

    def slow_fsync(descriptor: int) -> None:
        if os.fstat(descriptor).st_size == len(LARGE):
            waits.set()
            assert may_go_on.wait(20)
        really_fsync(descriptor)

    monkeypatch.setattr(os, "fsync", slow_fsync)
    large = Thread(target=backend.put, args=(LARGE,))
    large.start()
    assert waits.wait(20)
    same_lock = next(
        content
        for content in (b"%d" % number for number in range(10_000))
        if md5(content)[:2] == md5(LARGE)[:2]
    )

    small = Thread(target=backend.put, args=(same_lock,))
    small.start()
    small.join(20)
    went_on = not small.is_alive()
    may_go_on.set()
    large.join()
    small.join()

    assert went_on
    assert backend.get(md5(LARGE)) == LARGE
