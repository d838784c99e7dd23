"""Small contents on their way to being durable: what a power cut and a failing disk leave."""

import errno
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from mini_dropbox import durability
from mini_dropbox.durability import HAS_HONEST_SYNCFS, can_sync_file_system, sync_file_system
from node_app import journal as journal_module
from node_app.commits import Incoming
from node_app.errors import BlobNotFound, StoreFailed, StoreFull
from node_app.journal import MAX_CONTENT_BYTES, MAX_WAITING
from tests.support.blob_backends import JournalBackend, md5, sha256
from tests.support.waiting import eventually

SMALL = b"small content"
OTHER = b"other content"
LARGE = bytes(MAX_CONTENT_BYTES + 1)

pytestmark = pytest.mark.skipif(
    not HAS_HONEST_SYNCFS, reason="the system cannot sync one file system"
)


@pytest.fixture
def backend(tmp_path: Path) -> Iterator[JournalBackend]:
    opened = JournalBackend(tmp_path / "node_8001")
    yield opened
    opened.close()


@pytest.fixture
def synced(monkeypatch: pytest.MonkeyPatch) -> list[set[str]]:
    """Return, for each sync of the file system, the blobs that were there before it."""
    syncs: list[set[str]] = []

    def sync(descriptor: int) -> None:
        folder = Path(f"/proc/self/fd/{descriptor}").resolve()
        syncs.append({path.name for path in folder.glob("blobs/*/*/*")})
        sync_file_system(descriptor)

    monkeypatch.setattr(journal_module, "sync_file_system", sync)
    return syncs


@pytest.fixture
def fsynced(monkeypatch: pytest.MonkeyPatch) -> set[int]:
    """Return the inodes of what is fsynced."""
    inodes: set[int] = set()
    really_fsync = os.fsync

    def fsync(descriptor: int) -> None:
        really_fsync(descriptor)
        inodes.add(os.fstat(descriptor).st_ino)

    monkeypatch.setattr(os, "fsync", fsync)
    return inodes


def stop(backend: JournalBackend) -> None:
    """End the journal as a node does; what closes the back end afterwards has its folder again."""
    backend.journal.stop()
    backend.journal._folder = os.open(backend.folder, os.O_RDONLY)


def lose(path: Path) -> None:
    path.unlink()


def lose_folders(path: Path) -> None:
    shutil.rmtree(path.parents[1])


def empty(path: Path) -> None:
    path.write_bytes(b"")


def garble(path: Path) -> None:
    path.write_bytes(bytes(len(path.read_bytes())))


@pytest.mark.parametrize("power_cut", [lose, lose_folders, empty, garble])
def test_what_a_power_cut_took_is_written_anew(
    backend: JournalBackend, synced: list[set[str]], power_cut: Callable[[Path], None]
) -> None:
    backend.put(SMALL)
    assert synced == []
    power_cut(backend.path(md5(SMALL)))

    backend.reopen()

    assert backend.get(md5(SMALL)) == SMALL
    assert backend.waiting() == []
    assert synced == [{md5(SMALL)}]
    assert backend.quarantined() == {}
    assert backend.temporary_files() == []


def test_what_is_whole_after_a_kill_is_written_anew_as_well(backend: JournalBackend) -> None:
    """What the system says of a file need not be what its disk has: an error is told only once."""
    backend.put(SMALL)
    before = backend.path(md5(SMALL)).stat().st_ino

    backend.reopen()

    assert backend.path(md5(SMALL)).stat().st_ino != before
    assert backend.get(md5(SMALL)) == SMALL
    assert backend.waiting() == []


def test_where_nothing_syncs_a_file_system_what_was_left_is_synced_by_itself(
    backend: JournalBackend, monkeypatch: pytest.MonkeyPatch, fsynced: set[int]
) -> None:
    backend.put(SMALL)
    monkeypatch.setattr(journal_module, "can_sync_file_system", lambda _: False)

    backend.reopen()

    path = backend.path(md5(SMALL))
    assert {path.stat().st_ino, path.parent.stat().st_ino} <= fsynced
    assert backend.waiting() == []
    backend.put(OTHER)
    assert backend.waiting() == []


def test_file_systems_in_user_space_are_not_trusted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert can_sync_file_system(tmp_path)
    monkeypatch.setattr(durability, "_file_system_type", lambda _: "fuse.sshfs")
    assert not can_sync_file_system(tmp_path)


def test_what_compression_gave_up_on_is_still_written_anew(
    backend: JournalBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The record says then that it was tried; the journal has the only copy."""
    content = b"compressible " * 1000
    backend.put(content)
    backend.path(md5(content)).unlink()
    assert backend.compress() == 0
    assert backend.waiting() == [md5(content)]

    backend.reopen()

    assert backend.get(md5(content)) == content


def test_a_content_is_in_the_journal_before_its_file_is_begun(
    backend: JournalBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Or a power cut could leave a file in parts that nobody knows to be that."""
    there: list[list[str]] = []
    really_open = os.open

    def open_(path: str, *rest: int) -> int:
        if Path(path).name.startswith("upload-"):
            there.append(backend.waiting())
        return really_open(path, *rest)

    monkeypatch.setattr(os, "open", open_)
    backend.put(SMALL)
    assert there == [[md5(SMALL)]]


def test_a_content_is_forgotten_once_its_file_is_durable(
    backend: JournalBackend, synced: list[set[str]]
) -> None:
    backend.put(SMALL)
    backend.put(OTHER)
    assert backend.waiting() == [md5(SMALL), md5(OTHER)]
    assert synced == []

    backend.journal.settle()
    backend.journal.settle()

    assert synced == [{md5(SMALL), md5(OTHER)}]
    assert backend.waiting() == []


def test_one_whose_file_is_still_written_is_not_forgotten(
    backend: JournalBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    backend.put(OTHER)
    really_replace = os.replace

    def replace(source: str, target: str) -> None:
        backend.journal.settle()
        really_replace(source, target)

    with monkeypatch.context() as patched:
        patched.setattr(os, "replace", replace)
        backend.put(SMALL)

    assert backend.waiting() == [md5(SMALL)]


def test_a_group_shares_one_commit(backend: JournalBackend, fsynced: set[int]) -> None:
    contents = [bytes([number]) * 100 for number in range(20)]
    incoming = []
    for content in contents:
        writer = backend.store.writer()
        writer.write(content)
        incoming.append(Incoming(writer, "name", ""))
    assert backend.store.commit_all(incoming) == [False] * len(contents)
    for entry in incoming:
        entry.writer.close()

    assert sorted(backend.waiting()) == backend.blobs() == sorted(map(md5, contents))
    # The database's own are not Python's.
    assert not fsynced
    assert backend.temporary_files() == []


def test_what_was_deleted_does_not_come_back(backend: JournalBackend) -> None:
    backend.put(SMALL)
    assert backend.store.delete(md5(SMALL), sha256=sha256(SMALL))

    backend.reopen()

    with pytest.raises(BlobNotFound):
        backend.get(md5(SMALL))


def test_one_stored_anew_is_kept_until_it_is_durable_itself(
    backend: JournalBackend, synced: list[set[str]]
) -> None:
    backend.put(SMALL)
    assert backend.store.delete(md5(SMALL), sha256=sha256(SMALL))
    really_sync = journal_module.sync_file_system

    def sync(descriptor: int) -> None:
        really_sync(descriptor)
        if len(synced) == 1:
            backend.put(SMALL)

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(journal_module, "sync_file_system", sync)
        backend.journal.settle()

    assert backend.waiting() == [md5(SMALL)]


def test_a_compressed_one_does_not_come_back_plain(
    backend: JournalBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = b"compressible " * 1000
    backend.put(content)
    assert backend.compress() == 1

    backend.reopen()

    assert not backend.path(md5(content)).exists()
    assert backend.get(md5(content)) == content


@pytest.mark.parametrize("content", [LARGE, SMALL], ids=["large", "too many wait"])
def test_others_are_durable_files_before_the_answer(
    backend: JournalBackend,
    fsynced: set[int],
    monkeypatch: pytest.MonkeyPatch,
    content: bytes,
) -> None:
    if content == SMALL:
        monkeypatch.setattr(backend.journal, "_waiting", MAX_WAITING)
    backend.put(content)

    path = backend.path(md5(content))
    assert {path.stat().st_ino, path.parent.stat().st_ino} <= fsynced
    assert backend.waiting() == []


def test_when_the_disk_is_full_nothing_is_kept(
    backend: JournalBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patched:
        patched.setattr(os, "replace", full)
        with pytest.raises(StoreFull):
            backend.put(SMALL)

    assert (backend.rows(), backend.waiting(), backend.blobs()) == ([], [], [])
    assert backend.holds() == (0, 0)
    backend.put(SMALL)
    assert backend.get(md5(SMALL)) == SMALL


def test_what_cannot_be_written_anew_waits_for_the_next_start(
    backend: JournalBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    for content in (SMALL, OTHER):
        backend.put(content)
        backend.path(md5(content)).unlink()
    really_replace = os.replace

    def replace(source: str, target: str) -> None:
        if md5(SMALL) in target:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        really_replace(source, target)

    with monkeypatch.context() as patched:
        patched.setattr(os, "replace", replace)
        backend.reopen()
    assert backend.get(md5(OTHER)) == OTHER
    assert md5(SMALL) in backend.waiting()

    backend.reopen()
    assert backend.get(md5(SMALL)) == SMALL
    assert backend.waiting() == []


def test_when_the_database_is_full_nothing_is_kept(backend: JournalBackend) -> None:
    database = backend.database._writer
    ((pages,),) = database.execute("PRAGMA page_count").fetchall()
    database.execute(f"PRAGMA max_page_count={pages}").fetchall()

    with pytest.raises(StoreFull):
        backend.put(SMALL, name="n" * 100_000)

    assert (backend.rows(), backend.waiting(), backend.blobs()) == ([], [], [])


def test_what_cannot_be_made_durable_waits_and_others_are_at_once(
    backend: JournalBackend, monkeypatch: pytest.MonkeyPatch, fsynced: set[int]
) -> None:
    monkeypatch.setattr(journal_module, "SETTLE_SECONDS", 0.01)
    monkeypatch.setattr(journal_module, "RETRY_SECONDS", 0.01)

    def fail(_: int) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    with monkeypatch.context() as patched:
        patched.setattr(journal_module, "sync_file_system", fail)
        backend.put(SMALL)
        before = backend.path(md5(SMALL)).stat().st_ino
        with pytest.raises(StoreFailed):
            backend.journal.settle()
        backend.journal.start()
        eventually(lambda: not backend.journal.takes(1))
        backend.put(OTHER)
        assert backend.path(md5(OTHER)).stat().st_ino in fsynced
        assert backend.waiting() == [md5(SMALL)]

    eventually(lambda: backend.waiting() == [])
    # The system may have dropped what it could not write: only new bytes are written at all.
    assert backend.path(md5(SMALL)).stat().st_ino != before
    assert backend.journal.takes(1)
    stop(backend)


def test_it_settles_by_itself_and_before_it_ends(
    backend: JournalBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(journal_module, "SETTLE_SECONDS", 0.05)
    backend.journal.start()
    backend.put(SMALL)
    eventually(lambda: backend.waiting() == [])
    monkeypatch.setattr(journal_module, "SETTLE_SECONDS", 60)
    backend.put(OTHER)
    backend.put(b"another")
    stop(backend)
    assert backend.waiting() == []
