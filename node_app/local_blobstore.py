"""Blobs as files of the node's own disk.

A write goes: temporary file on the same file system, count and hash, fsync, rename, fsync of the
folder and its new parents. Small contents go through a journal, which needs fewer waits.
"""

import logging
import os
import shutil
import time
from collections.abc import Callable, Sequence
from io import FileIO
from pathlib import Path
from typing import Final

from mini_dropbox.durability import fsync_folder
from node_app.blobindex import BlobIndex, BlobRecord
from node_app.blobstore import BlobReader, BlobStore, Space
from node_app.blobwriter import BlobWriter
from node_app.commits import Commit, going_on
from node_app.compression import DAMAGED, ENCODING, CompressedReader
from node_app.direct_reads import DirectReads
from node_app.disk import (
    FOLDER_MODE,
    make_folder_durable,
    positioned_read,
    storage_errors,
    write_fully,
)
from node_app.errors import BlobDamaged, BlobNotFound, NodeError, StoreFailed, StoreFull
from node_app.evidence import SUFFIX, Evidence
from node_app.journal import Entry, Journal

logger = logging.getLogger(__name__)

# Below this much free space a node takes no more blobs, so that its own records still fit.
RESERVED_BYTES: Final = 16 * 1024 * 1024
COMPRESSED_SUFFIX: Final = ".zst"
PROBE: Final = b"probe"


class LocalBlobReader:
    """A blob of the local disk; an open one stays readable whatever happens to its name."""

    def __init__(self, path: Path | str) -> None:
        with storage_errors():
            try:
                self._file = FileIO(path)
            except FileNotFoundError:
                raise BlobNotFound("This node has no such blob.") from None
        self._status = os.fstat(self._file.fileno())
        self.size = self._status.st_size
        self._direct: DirectReads | None = None

    @property
    def stamp(self) -> str:
        """What the file looked like when it was opened."""
        return stamp_of(self._status)

    def fileno(self) -> int:
        """Return the descriptor, for the kernel to send from."""
        return self._file.fileno()

    def read_at(self, offset: int, length: int) -> bytes:
        with storage_errors():
            if self._direct is not None:
                return self._direct.read_at(offset, length)
            return positioned_read(self._file, offset, length)

    def pass_cache_by(self) -> None:
        """Read what the disk has from now on, in one thread, and leave the page cache as it is."""
        self._direct = DirectReads(self._file)

    def close(self) -> None:
        self._file.close()


class LocalBlobStore(BlobStore):
    """Blobs as files below the node's folder: `blobs/ab/cd/<md5>`, or `<md5>.zst` if compressed.

    Where both are, they have the same content, and the plain one is read: compression was cut off
    on its way, and is begun anew because the index does not know of it.
    """

    opens_locally = True
    has_stamps = True

    def __init__(self, folder: Path, index: BlobIndex, journal: Journal | None = None) -> None:
        super().__init__(folder, index)
        self._journal = journal
        self._folder = folder
        self._root = str(folder / "blobs")
        # Folders whose names this process has put on disk.
        self._settled: set[str] = set()
        # Told of each blob that has been removed or set aside, in the thread that did it.
        self.on_removal: Callable[[str], None] = lambda _: None
        make_folder_durable(folder / "blobs")
        if journal is not None:
            journal.rewrite = self._rewrite
            journal.recover()

    @property
    def temporary_folder(self) -> Path:
        """Files on the blobs' own file system, which the next start removes."""
        return self._temporary

    def path(self, blob_hash: str) -> Path:
        """Return where the plain blob is, or would be."""
        return Path(self._plain(blob_hash))

    def compressed_path(self, blob_hash: str) -> Path:
        """Return where the compressed blob is, or would be."""
        return Path(self._plain(blob_hash) + COMPRESSED_SUFFIX)

    def _folder_of(self, blob_hash: str) -> str:
        """Return where both forms are; a text, because making a Path costs as much as a write."""
        return f"{self._root}/{blob_hash[:2]}/{blob_hash[2:4]}"

    def _plain(self, blob_hash: str) -> str:
        return f"{self._folder_of(blob_hash)}/{blob_hash}"

    def open(self, blob_hash: str) -> BlobReader:
        reader = self._open_unverified(blob_hash)
        # A name appears here with all of its bytes, so a blob without a row is whole as well.
        known = self._index.known(blob_hash)
        if known is not None and known.size != reader.size:
            reader.close()
            logger.error("The copy of %s has lost its size", blob_hash)
            raise BlobDamaged(DAMAGED)
        return reader

    def has(self, record: BlobRecord) -> bool:
        plain = self._plain(record.hash)
        try:
            return os.stat(plain).st_size == record.size  # noqa: PTH116  a text, as below
        except OSError:
            # The compressed form is there before the plain one goes.
            return os.path.exists(plain + COMPRESSED_SUFFIX)  # noqa: PTH110  the same

    def space(self) -> Space:
        with storage_errors():
            usage = shutil.disk_usage(self._folder)
        return Space(usage.total, usage.free)

    def probe(self) -> None:
        if (self.space().free or 0) < RESERVED_BYTES:
            raise StoreFull("The disk is full; free some space and try again.")
        with self.writer() as writer:
            writer.write(PROBE)
            writer.make_durable()
            with storage_errors():
                found = DirectReads(writer.write_out()).read_at(0, len(PROBE))
        if found != PROBE:
            raise StoreFailed("The disk does not give back what was written to it.")

    def open_plain(self, blob_hash: str) -> LocalBlobReader:
        """Return the plain form to read from; BlobNotFound when there is none."""
        return LocalBlobReader(self._plain(blob_hash))

    def untried(self, *, min_age: float, limit: int) -> list[BlobRecord]:
        """Return blobs that nobody has tried to compress, stored `min_age` seconds ago or more."""
        return self._index.untried(time.time() - min_age, limit)

    def keep_plain(self, record: BlobRecord) -> None:
        """Note that compression gains nothing or fails, so that it is never tried again."""
        plain, compressed = self.path(record.hash), self.compressed_path(record.hash)
        with self._lock(record.hash), storage_errors():
            if self._index.get(record.hash) != record:
                return
            if plain.exists():
                # One that could not take the plain form's place would be hidden by it for good.
                compressed.unlink(missing_ok=True)
            elif compressed.exists():
                return
            self._index.set_stored(record, encoding="", stored_size=record.size)

    def replace_by_compressed(self, record: BlobRecord, temporary: Path) -> bool:
        """Let a file of frames, durable and checked, take the plain form's place.

        Return whether it did: the blob may have been removed, or stored anew, meanwhile.
        """
        target = self.compressed_path(record.hash)
        with self._lock(record.hash), storage_errors():
            if self._index.get(record.hash) != record:
                return False
            temporary.replace(target)
            fsync_folder(target.parent)
            self._drop_plain(record, is_checked=True)
        return True

    def finish_compressed(self, record: BlobRecord) -> bool:
        """Note a compressed form that has lost its plain one; return whether there is one."""
        with self._lock(record.hash), storage_errors():
            found = self.compressed_path(record.hash).exists()
            if found and self._index.get(record.hash) == record:
                self._drop_plain(record, is_checked=False)
        return found

    def due_for_scrub(self, *, max_age: float, limit: int) -> list[BlobRecord]:
        """Return blobs last verified `max_age` seconds ago or more, or never; oldest first."""
        now = time.time()
        return self._index.due_for_scrub(now - max_age, now, limit)

    def note_all_verified(self, records: Sequence[BlobRecord]) -> None:
        """Note many as good, with the stamps and times that their records have."""
        self._index.set_verified(records)

    def oldest_verification(self) -> float | None:
        """Return when the blob that waits longest was verified; None for never, or for no blob."""
        return self._index.oldest_verification()

    def _open_unverified(self, blob_hash: str) -> BlobReader:
        return open_copy(self._plain(blob_hash))

    def _keep(self, group: Sequence[Commit]) -> None:
        if self._journal is None:
            super()._keep(group)
            return
        quickly = [c for c in group if c.is_new and self._journal.takes(c.digests.size)]
        super()._keep([commit for commit in group if commit not in quickly])
        if quickly:
            self._keep_quickly(quickly, self._journal)

    def _keep_quickly(self, group: Sequence[Commit], journal: Journal) -> None:
        """Commit contents to the journal, then write their files without waiting for the disk."""
        entries = {
            commit: journal.entry(commit.digests.md5, commit.writer.read_at(0, commit.digests.size))
            for commit in group
        }
        records = [commit.record() for commit in group if commit.needs_record]
        try:
            self._index.put(records, along=[entry.statement for entry in entries.values()])
        except NodeError as error:
            for commit in group:
                commit.error = error
            return
        # Only now: a file that a power cut leaves in parts must have an entry that mends it.
        for commit in group:
            with commit:
                commit.writer.write_out()
                self._rename(commit.writer, commit.digests.md5)
        journal.written([entries[commit] for commit in going_on(group)])
        for commit in group:
            if commit.error is not None:
                with commit:
                    self._index.remove(commit.record())

    def _rewrite(self, entries: Sequence[Entry]) -> None:
        """Write the journal's contents to new files, whatever stands there.

        One that cannot be written does not keep the others from it; its error is raised at last.
        """
        failure: NodeError | None = None
        for entry in entries:
            try:
                with self._lock(entry.hash), storage_errors():
                    self._rewrite_one(entry)
            except NodeError as error:
                failure = error
        if failure is not None:
            raise failure

    def _rewrite_one(self, entry: Entry) -> None:
        record = self._index.get(entry.hash)
        # What has been compressed since was made durable then.
        if record is None or record.encoding:
            return
        with self.writer() as writer:
            writer.write(entry.content)
            writer.write_out()
            self._rename(writer, entry.hash)
        if self._journal is None or not self._journal.can_sync:
            self._settle(entry.hash)

    def _place_all(self, group: Sequence[Commit]) -> None:
        """Place many in steps: what one wait for the disk can serve is done before it."""
        if len(group) > 1:
            for commit in group:
                with commit:
                    commit.writer.begin_writeback()
        for commit in going_on(group):
            with commit:
                commit.writer.make_durable()
        for commit in going_on(group):
            with commit:
                self._rename(commit.writer, commit.digests.md5)
        just_settled: set[str] = set()
        for commit in going_on(group):
            with commit:
                self._settle_name(commit.digests.md5, just_settled)

    def _make_durable(self, writer: BlobWriter) -> None:
        writer.make_durable()

    def _rename(self, writer: BlobWriter, blob_hash: str) -> None:
        target = self._plain(blob_hash)
        try:
            writer.rename(target)
        except FileNotFoundError:
            self._make_folder(self._folder_of(blob_hash))
            writer.rename(target)

    def _make_folder(self, folder: str) -> None:
        for path in (_parent(folder), folder):
            try:
                os.mkdir(path)  # noqa: PTH102  a text, as above
            except FileExistsError:
                continue
            except FileNotFoundError:
                # Somebody has removed everything.
                make_folder_durable(Path(path))
            Path(path).chmod(FOLDER_MODE)
            self._settled.discard(path)

    def _settle_name(self, blob_hash: str, just_settled: set[str]) -> None:
        """Make a new name durable, or take it back."""
        folder = self._folder_of(blob_hash)
        if folder in just_settled:
            return
        try:
            self._settle_folder(folder)
        except OSError:
            # Nobody may believe in a name that a power cut could take back.
            self.path(blob_hash).unlink(missing_ok=True)
            raise
        just_settled.add(folder)

    def _settle(self, blob_hash: str) -> None:
        with self._forms(blob_hash)[0].open("rb") as file:
            os.fsync(file.fileno())
        folder = self._folder_of(blob_hash)
        self._settled.discard(folder)
        self._settle_folder(folder)

    def _settle_folder(self, folder: str) -> None:
        """Put a folder's entries on disk, and once a process those that lead to it.

        Also where the folders were there before: whoever made them may have ended too early. It
        comes last, because one commit of the file system's journal then serves all of them.
        """
        fsync_folder(folder)
        for path in (folder, _parent(folder)):
            if path not in self._settled:
                fsync_folder(_parent(path))
                self._settled.add(path)

    def _remove(self, blob_hash: str) -> None:
        for path in self._forms(blob_hash):
            path.unlink()
        self.on_removal(blob_hash)
        folder = self.path(blob_hash).parent
        if folder.is_dir():
            fsync_folder(folder)

    def _quarantine(self, evidence: Evidence) -> None:
        folder = self._folder / "quarantine"
        make_folder_durable(folder)
        for path in self._forms(evidence.hash):
            target = folder / f"{path.name}.{time.time_ns()}"
            status = path.stat()
            about = evidence.text(
                name=path.name,
                size=status.st_size,
                inode=status.st_ino,
                mtime_ns=status.st_mtime_ns,
                ctime_ns=status.st_ctime_ns,
            )
            with FileIO(f"{target}{SUFFIX}", "x") as file:
                write_fully(file, about.encode())
                os.fsync(file.fileno())
            path.replace(target)
        self.on_removal(evidence.hash)
        fsync_folder(folder)

    def _stamp(self, blob_hash: str) -> str:
        plain = self._plain(blob_hash)
        for path in (plain, plain + COMPRESSED_SUFFIX):
            try:
                return stamp_of(os.stat(path))  # noqa: PTH116  a text, as above
            except FileNotFoundError:
                continue
        return ""

    def _check_disk(self) -> None:
        # Below a mount point, for example, that nothing is mounted on.
        if not Path(self._root).is_dir():
            raise StoreFailed("The folder of this node's blobs is not there.")

    def _drop_plain(self, record: BlobRecord, *, is_checked: bool) -> None:
        """Remove the plain form, for the compressed one is durable; bytes first, then the row."""
        self.path(record.hash).unlink(missing_ok=True)
        compressed = self.compressed_path(record.hash)
        fsync_folder(compressed.parent)
        status = compressed.stat()
        # Only the frames that this process has just read back are known to be good.
        self._index.set_stored(
            record,
            encoding=ENCODING,
            stored_size=status.st_size,
            stamp=stamp_of(status) if is_checked else "",
        )

    def _forms(self, blob_hash: str) -> list[Path]:
        """Return the files that hold the blob: the one that is read, and what it hides."""
        forms = (self.path(blob_hash), self.compressed_path(blob_hash))
        return [path for path in forms if path.exists()]


def open_copy(plain: str) -> BlobReader:
    """Return the copy whose plain form is, or was, at this path; BlobNotFound for none."""
    try:
        return LocalBlobReader(plain)
    except BlobNotFound:
        return CompressedReader(LocalBlobReader(plain + COMPRESSED_SUFFIX))


def stamp_of(status: os.stat_result) -> str:
    """Return what changes with every write to a file, and with its place in the folders."""
    return f"{status.st_ino} {status.st_size} {status.st_mtime_ns} {status.st_ctime_ns}"


def _parent(path: str) -> str:
    return path.rpartition("/")[0]
