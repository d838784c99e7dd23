"""The content-addressed store: what every back end promises.

A name is believed only when its bytes were verified; what is found under a name and does not hash
to it is set aside, never served again.
"""

import enum
import errno
import hashlib
import logging
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final, Protocol

from mini_dropbox.wire import Loss, RemovalOrder, RemovalResult, RemovalStatus
from node_app import losses
from node_app.blobindex import BlobIndex, BlobRecord, Totals
from node_app.blobwriter import MEMORY_BYTES, BlobWriter, Digests
from node_app.commits import Commit, Incoming, Outcome, going_on, without_repetition
from node_app.disk import make_folder_durable, storage_errors
from node_app.errors import BlobDamaged, BlobNotFound, HashCollision, NodeError, StoreFailed
from node_app.evidence import Evidence
from node_app.touches import Touches

logger = logging.getLogger(__name__)

CHUNK_BYTES: Final = 256 * 1024
LOCK_STRIPES: Final = 256
# Who has noticed that a copy is lost.
READ: Final = "read"
SCRUB: Final = "scrub"
UPLOAD: Final = "upload"
COLLISION: Final = "Another content with this MD5 is stored already; this one cannot be kept."


@dataclass(frozen=True)
class Space:
    """The back end's size in bytes; None where it has none (an object store)."""

    capacity: int | None
    free: int | None


class BlobReader(Protocol):
    """An open blob. `read_at` may be called from any thread.

    `stamp` is what its file looks like, empty where the back end cannot tell: the same stamp means
    that nobody has written to the file since.
    """

    size: int

    @property
    def stamp(self) -> str: ...

    def read_at(self, offset: int, length: int) -> bytes: ...

    def close(self) -> None: ...


class Check(enum.Enum):
    """What reading a whole copy has shown."""

    GOOD = enum.auto()
    # It is set aside now.
    BAD = enum.auto()
    # It is gone, although the index knew of it.
    LOST = enum.auto()
    # Nobody knows of one.
    UNKNOWN = enum.auto()
    # Another file has taken its place meanwhile.
    CHANGED = enum.auto()


@dataclass(frozen=True)
class Checked:
    """A copy that was read; `stamp` is that of the file, empty where the back end has none."""

    result: Check
    stamp: str = ""


Pieces = Callable[[BlobReader], Iterable[bytes]]
# Reads the whole copy under an address; BlobNotFound, BlobDamaged or StoreFailed.
Read = Callable[[str], Digests]


def whole(reader: BlobReader) -> Iterator[bytes]:
    """Yield a blob's content."""
    for offset in range(0, reader.size, CHUNK_BYTES):
        yield reader.read_at(offset, CHUNK_BYTES)


class BlobStore(ABC):
    """Immutable bytes under their MD5. Safe to use from many threads; each call may block.

    A back end says how bytes are placed, opened, removed and set aside; what may be believed
    of them is decided here, once.
    """

    # Whether `open` only touches a local disk, so that an event loop may call it.
    opens_locally = False
    # Whether a file that was verified can be known again. Where it cannot, whole contents are
    # verified each time, and parts of them never: it would take a download of the whole.
    has_stamps = False

    def __init__(self, folder: Path, index: BlobIndex) -> None:
        self._temporary = folder / "tmp"
        self._writing_folder = str(self._temporary)
        self._index = index
        self._locks = tuple(threading.Lock() for _ in range(LOCK_STRIPES))
        self._touches = Touches()
        # Told of each copy that is lost, in the thread that has noticed.
        self.on_loss: Callable[[], None] = lambda: None
        make_folder_durable(self._temporary)
        for leftover in self._temporary.iterdir():
            # Nobody was told that these bytes are safe: the process ended before it could.
            leftover.unlink()

    def writer(self, *, computes_md5: bool = True) -> BlobWriter:
        return BlobWriter(self._writing_folder, computes_md5=computes_md5)

    def commit(self, writer: BlobWriter, *, name: str, content_type: str) -> bool:
        """Keep what `writer` took, for good; return whether it was there already.

        HashCollision when another content has this MD5; StoreFull and StoreFailed leave
        nothing under the blob's name.
        """
        (outcome,) = self.commit_all([Incoming(writer, name, content_type)])
        if isinstance(outcome, NodeError):
            raise outcome
        return outcome

    def commit_all(self, incoming: Sequence[Incoming]) -> list[Outcome]:
        """Do what `commit` does for many at once, which costs far fewer waits for the disk.

        Returns for each what `commit` would have returned or raised.
        """
        commits = [Commit(entry) for entry in incoming]
        for group in without_repetition(commits):
            self._commit_group(group)
        return [commit.outcome() for commit in commits]

    def verify(self, blob_hash: str, sha256: str) -> bool:
        """Tell whether the bytes under `blob_hash` are there and have this SHA-256, by reading."""
        try:
            with storage_errors():
                digests = self.digests(blob_hash)
        except (BlobNotFound, BlobDamaged):
            return False
        return digests.md5 == blob_hash and digests.sha256 == sha256

    def is_verified(self, blob_hash: str, reader: BlobReader, *, max_age: float) -> bool:
        """Tell whether this very file was found good, at most `max_age` seconds ago."""
        known = self._index.known(blob_hash)
        if known is None or known.verified_at is None or not known.stamp:
            return False
        # One from the future says nothing of how old it is.
        return known.stamp == reader.stamp and 0 <= time.time() - known.verified_at < max_age

    def note_verified(self, blob_hash: str, stamp: str) -> None:
        """Note that the file that looks like this has the bytes it should have."""
        record = self._index.get(blob_hash)
        if stamp and record is not None:
            self._index.set_verified([replace(record, stamp=stamp, verified_at=time.time())])

    def follow_stamp(self, blob_hash: str) -> None:
        """Go on trusting a file that has just lost a second name, which alone changes its ctime.

        Where that cannot be noted, the next read verifies the file.
        """
        try:
            with self._lock(blob_hash), storage_errors():
                record, stamp = self._index.get(blob_hash), self._stamp(blob_hash)
                if record is not None and record.stamp and _same_but_ctime(record.stamp, stamp):
                    self._index.set_verified([replace(record, stamp=stamp)])
        except NodeError as error:
            logger.warning("The new stamp of %s is not on disk: %s", blob_hash, error)

    def digests(self, blob_hash: str, pieces: Pieces = whole) -> Digests:
        """Read what stands under the name, as `pieces` yields it.

        BlobNotFound, BlobDamaged when it cannot be decompressed, StoreFailed when the disk fails.
        """
        with closing(self._open_unverified(blob_hash)) as reader, storage_errors():
            return digests_of(pieces(reader))

    def check(self, blob_hash: str, *, found_by: str, read: Read | None = None) -> Checked:
        """Read the whole copy; one that is not what was stored is set aside, and its loss noted.

        `read` is how the caller wants it read. StoreFailed when the disk fails. What is good is the
        caller's to note (`note_verified`).
        """
        stamp, record = self._stamp(blob_hash), self._index.get(blob_hash)
        expected = None if record is None else Digests(record.hash, record.sha256, record.size)
        reason, found = "damaged", None
        try:
            found = (read or self.digests)(blob_hash)
        except BlobNotFound:
            return Checked(self._note_missing(blob_hash, found_by))
        except BlobDamaged:
            logger.warning("The copy of %s cannot be decompressed", blob_hash)
        except StoreFailed as error:
            if not _is_unreadable(error) or found_by != SCRUB:
                raise
            # Of a disk that fails as a whole nothing is to be learned about this copy.
            self.probe()
            reason = "unreadable"
        if _is_good(found, blob_hash, expected):
            unchanged = self._stamp(blob_hash) == stamp
            return Checked(Check.GOOD, stamp) if unchanged else Checked(Check.CHANGED)
        evidence = Evidence(blob_hash, reason, found_by, time.time(), expected, found)
        with self._lock(blob_hash), storage_errors():
            if self._has_changed(evidence, stamp):
                return Checked(Check.CHANGED)
            self._set_aside(evidence, self._index.get(blob_hash))
        return Checked(Check.BAD)

    def _has_changed(self, evidence: Evidence, stamp: str) -> bool:
        """Tell whether something else stands under the name than what was found damaged."""
        if stamp or self._stamp(evidence.hash):
            return self._stamp(evidence.hash) != stamp
        try:
            found = self.digests(evidence.hash)
        except BlobNotFound:
            return True
        except BlobDamaged:
            return False
        return _is_good(found, evidence.hash, evidence.expected)

    def delete(self, blob_hash: str, *, sha256: str) -> bool:
        """Remove the blob if it is the content with this SHA-256; return whether it was."""
        with self._lock(blob_hash), storage_errors():
            record = self._index.get(blob_hash)
            if record is None or record.sha256 != sha256:
                return False
            self._remove(blob_hash)
            self._index.remove(record)
            return True

    def remove_untouched(self, order: RemovalOrder) -> RemovalResult:
        """Remove a blob unless it is another content, or has been stored or found lately."""
        with self._lock(order.hash), storage_errors():
            record = self._index.get(order.hash)
            if record is None:
                return RemovalResult(hash=order.hash, status=RemovalStatus.ABSENT)
            reason = ""
            if record.sha256 != order.sha256:
                reason = "another content is stored under this MD5"
            elif self._touches.silence(order.hash) < order.untouched_seconds:
                reason = "it, or one near it, was stored or found a moment ago"
            if reason:
                return RemovalResult(hash=order.hash, status=RemovalStatus.KEPT, reason=reason)
            self._remove(order.hash)
            self._index.remove(record)
            return RemovalResult(hash=order.hash, status=RemovalStatus.REMOVED)

    def record(self, blob_hash: str) -> BlobRecord | None:
        """Return what is known of a verified blob."""
        return self._index.get(blob_hash)

    def totals(self) -> Totals:
        return self._index.totals()

    def page(self, after: str, limit: int) -> list[BlobRecord]:
        """Return the records that follow `after` in the order of their hashes."""
        return self._index.page(after, limit)

    def some(self, hashes: Sequence[str]) -> list[BlobRecord]:
        """Return the records that there are of these blobs."""
        return self._index.some(hashes)

    def further_names(self, after: tuple[str, str], limit: int) -> list[BlobRecord]:
        """Return records under further names, in the order of hash and name, behind `after`."""
        return self._index.further_names(after, limit)

    def has(self, record: BlobRecord) -> bool:
        """Tell whether the bytes of a record seem to be there, by a look at no more than a name.

        Only what a local disk can tell at once: other back ends believe the record.
        """
        return True

    @abstractmethod
    def open(self, blob_hash: str) -> BlobReader:
        """Return a whole blob to read from; BlobNotFound when this node has none."""

    @abstractmethod
    def space(self) -> Space:
        """Return how much room there is."""

    @abstractmethod
    def probe(self) -> None:
        """Store a probe for good and read it; StoreFull or StoreFailed when that does not work."""

    @abstractmethod
    def _open_unverified(self, blob_hash: str) -> BlobReader:
        """Return whatever stands under the name; BlobNotFound when nothing does."""

    @abstractmethod
    def _place_all(self, group: Sequence[Commit]) -> None:
        """Make each writer's bytes a blob, durable and all at once; errors are each one's own."""

    @abstractmethod
    def _make_durable(self, writer: BlobWriter) -> None:
        """Put a large new content on disk ahead of its placing, where that saves time then."""

    @abstractmethod
    def _settle(self, blob_hash: str) -> None:
        """Make sure that a blob that is already in place is durable."""

    @abstractmethod
    def _remove(self, blob_hash: str) -> None:
        """Remove the blob, durably."""

    @abstractmethod
    def _quarantine(self, evidence: Evidence) -> None:
        """Set the bytes under this name aside, with what is known of them."""

    @abstractmethod
    def _stamp(self, blob_hash: str) -> str:
        """Return the stamp of what stands under the name; empty for nothing, or unknown."""

    @abstractmethod
    def _check_disk(self) -> None:
        """StoreFailed when nothing of the store is in its place, be it a disk not mounted."""

    def _set_aside(self, evidence: Evidence, record: BlobRecord | None) -> None:
        logger.error(
            "The copy of %s is %s, as a %s has found; it is set aside",
            evidence.hash,
            evidence.reason,
            evidence.found_by,
        )
        self._quarantine(evidence)
        named = {"reason": evidence.reason, "found_by": evidence.found_by}
        self._lose(Loss(hash=evidence.hash, at=evidence.at, **named), record)

    def _note_missing(self, blob_hash: str, found_by: str) -> Check:
        with self._lock(blob_hash), storage_errors():
            record = self._index.get(blob_hash)
            if record is not None:
                self._check_disk()
                try:
                    self._open_unverified(blob_hash).close()
                except BlobNotFound:
                    logger.error("The copy of %s is gone from this node", blob_hash)  # noqa: TRY400  no traceback
                    loss = Loss(hash=blob_hash, reason="missing", found_by=found_by, at=time.time())
                    self._lose(loss, record)
                    return Check.LOST
                return Check.CHANGED
        return Check.UNKNOWN

    def _lose(self, loss: Loss, record: BlobRecord | None) -> None:
        """Forget the record, and keep the loss for the master, at once or not at all."""
        if record is None:
            self._index.write(losses.statement(loss))
        else:
            self._index.remove(record, along=[losses.statement(loss)])
        self.on_loss()

    def _is_present(self, commit: Commit, record: BlobRecord | None) -> bool:
        """Compare with what stands under the name; a damaged blob is set aside."""
        digests = commit.digests
        try:
            with closing(self._open_unverified(digests.md5)) as reader:
                if commit.was_compared and reader.size == digests.size:
                    return True
                if _same_bytes(reader, commit.writer):
                    return True
            found: Digests | None = self.digests(digests.md5)
            if record is None and found is not None and found.md5 == digests.md5:
                raise HashCollision(COLLISION)
        except BlobNotFound:
            if record is not None:
                # It tells of a file that is gone. The new one is the master's to hear of.
                loss = Loss(hash=digests.md5, reason="missing", found_by=UPLOAD, at=time.time())
                self._lose(loss, record)
            return False
        except BlobDamaged:
            found = None
        expected = None if record is None else digests
        self._set_aside(
            Evidence(digests.md5, "damaged", UPLOAD, time.time(), expected, found), record
        )
        return False

    def _commit_group(self, group: Sequence[Commit]) -> None:
        """Commit contents of different addresses."""
        with ExitStack() as held:
            for commit in group:
                with commit:
                    held.enter_context(commit.writer.in_use())
            for commit in going_on(group):
                if commit.digests.size > MEMORY_BYTES:
                    with commit:
                        self._prepare(commit)
            # In a fixed order, so that two groups never wait for one another.
            for stripe in sorted({_stripe(commit.digests.md5) for commit in group}):
                held.enter_context(self._locks[stripe])
            for commit in going_on(group):
                # Whoever removes blobs has to see it as soon as these locks are free.
                self._touches.touch(commit.digests.md5)
                with commit:
                    self._examine(commit)
            self._keep([commit for commit in group if commit.is_new or commit.needs_record])

    def _prepare(self, commit: Commit) -> None:
        """Do what takes as long as the content is large before others have to wait for it."""
        try:
            with closing(self._open_unverified(commit.digests.md5)) as reader:
                commit.was_compared = _same_bytes(reader, commit.writer)
        except BlobNotFound:
            self._make_durable(commit.writer)
        except BlobDamaged:
            logger.info("The copy of %s is damaged, as the commit will find", commit.digests.md5)

    def _examine(self, commit: Commit) -> None:
        """Find out whether the content is here; HashCollision when another one is."""
        digests = commit.digests
        record = self._index.get(digests.md5)
        if record is not None and record.sha256 != digests.sha256:
            # Also when the bytes that the record tells of are damaged or gone: other nodes
            # have them, and one address must not mean two contents.
            raise HashCollision(COLLISION)
        commit.found = self._is_present(commit, record)
        if commit.found and record is not None:
            commit.note_name(record, self._index)
        if commit.found and record is None:
            # A process that ended early left it: complete, but maybe not yet durable.
            self._settle(digests.md5)
        # What was found damaged has lost its record.
        commit.has_record = record is not None and (
            commit.found or self._index.get(digests.md5) is not None
        )

    def _keep(self, group: Sequence[Commit]) -> None:
        """Store contents that are not here, and the records that are missing; durably."""
        self._place_all([commit for commit in group if commit.is_new])
        self._put_records([commit for commit in group if commit.needs_record])

    def _put_records(self, group: Sequence[Commit]) -> None:
        if not group:
            return
        for commit in group:
            with commit:
                commit.stamp = self._stamp(commit.digests.md5)
        try:
            self._index.put([commit.record() for commit in group])
        except NodeError as error:
            for commit in group:
                commit.error = error
                if not commit.found:
                    with commit:
                        self._remove(commit.digests.md5)

    @contextmanager
    def _lock(self, blob_hash: str) -> Iterator[None]:
        with self._locks[_stripe(blob_hash)]:
            yield


def digests_of(pieces: Iterable[bytes]) -> Digests:
    """Return the digests and size of a content that comes in pieces."""
    md5, sha256, size = hashlib.md5(usedforsecurity=False), hashlib.sha256(), 0
    for piece in pieces:
        md5.update(piece)
        sha256.update(piece)
        size += len(piece)
    return Digests(md5.hexdigest(), sha256.hexdigest(), size)


def _is_good(found: Digests | None, blob_hash: str, expected: Digests | None) -> bool:
    """Compare what was read with the record, or where there is none with the address."""
    if found is None or expected is None:
        return found is not None and found.md5 == blob_hash
    return found == expected


def _same_but_ctime(stamp: str, other: str) -> bool:
    return stamp.rpartition(" ")[0] == other.rpartition(" ")[0]


def _is_unreadable(error: StoreFailed) -> bool:
    """Tell whether the disk cannot read these very bytes."""
    return isinstance(error.__cause__, OSError) and error.__cause__.errno == errno.EIO


def _stripe(blob_hash: str) -> int:
    return int(blob_hash[:2], 16)


def _same_bytes(reader: BlobReader, writer: BlobWriter) -> bool:
    if reader.size != writer.size:
        return False
    return all(
        reader.read_at(offset, CHUNK_BYTES) == writer.read_at(offset, CHUNK_BYTES)
        for offset in range(0, reader.size, CHUNK_BYTES)
    )
