"""The content-addressed store over any Django `Storage`; S3 and its like are the usual one."""

import io
import logging
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any, Final, Protocol, Self

from botocore.exceptions import BotoCoreError
from django.core.exceptions import ImproperlyConfigured
from django.core.files import File
from django.core.files.storage import Storage, storages
from storages.backends.s3 import S3Storage

from mini_dropbox.env import PREFIX, ConfigurationError, Env
from node_app import s3_reader
from node_app.blobindex import BlobIndex
from node_app.blobstore import LOCK_STRIPES, BlobReader, BlobStore, Space
from node_app.blobwriter import BlobWriter
from node_app.commits import Commit
from node_app.compression import DAMAGED
from node_app.disk import NO_ROOM
from node_app.errors import BlobDamaged, BlobNotFound, NodeError, StoreFailed, StoreFull
from node_app.evidence import SUFFIX, Evidence

logger = logging.getLogger(__name__)

CONTENT_TYPE: Final = "application/octet-stream"
PROBE: Final = b"probe"


class DjangoBlobStore(BlobStore):
    """Blobs as objects `<prefix>/blobs/ab/cd/<md5>`; uploads are staged on the local disk.

    The prefix is the name of the node's folder: nodes that share a bucket must not share
    objects, or what one removes is lost for the others.

    What is acknowledged is as durable as the back end makes it; no other promise is weaker than
    the local store's. Not every back end writes all at once, so a name counts only together with
    its row in the index.
    """

    def __init__(self, storage: Storage, folder: Path, index: BlobIndex) -> None:
        super().__init__(folder, index)
        self._storage = storage
        self._prefix = folder.name
        self._seeking = tuple(threading.Lock() for _ in range(LOCK_STRIPES))

    @classmethod
    def from_settings(cls, settings: Env, folder: Path, index: BlobIndex) -> Self:
        """Return the store that `MINI_DROPBOX_BLOB_STORAGE_*` describe, or ConfigurationError."""
        return cls(_storage(settings), folder, index)

    def key(self, blob_hash: str) -> str:
        """Return the name of the blob's object in the back end."""
        return f"{self._prefix}/blobs/{blob_hash[:2]}/{blob_hash[2:4]}/{blob_hash}"

    def open(self, blob_hash: str) -> BlobReader:
        record = self._index.get(blob_hash)
        if record is None:
            raise BlobNotFound("This node has no such blob.")
        reader = self._open_unverified(blob_hash)
        if reader.size != record.size:
            reader.close()
            raise BlobDamaged(DAMAGED)
        return reader

    def space(self) -> Space:
        return Space(capacity=None, free=None)

    def probe(self) -> None:
        # Of its own name each time: two probes at once must not remove one another's object.
        key = f"{self._prefix}/probe/{time.time_ns()}-{threading.get_ident()}"
        with self.writer() as writer:
            writer.write(PROBE)
            self._save(writer, key)
        with _service_errors(f"delete {key}"):
            self._storage.delete(key)

    def _open_unverified(self, blob_hash: str) -> BlobReader:
        key = self.key(blob_hash)
        with _service_errors(f"open {key}"):
            try:
                file = self._storage.open(key, "rb")
            except FileNotFoundError:
                raise BlobNotFound("This node has no such blob.") from None
            if isinstance(self._storage, S3Storage):
                return _ServiceReader(s3_reader.S3Reader(file, self._storage), key)
            seeking = self._seeking[int(blob_hash[:2], 16)]
            return _ServiceReader(_FileReader(file, seeking), key)

    def _place_all(self, group: Sequence[Commit]) -> None:
        for commit in group:
            with commit:
                self._save(commit.writer, self.key(commit.digests.md5))

    def _make_durable(self, writer: BlobWriter) -> None:
        """Do nothing: only what the back end has counts."""

    def _settle(self, blob_hash: str) -> None:
        """Do nothing: what the back end has shown it keeps."""

    def _remove(self, blob_hash: str) -> None:
        key = self.key(blob_hash)
        with _service_errors(f"delete {key}"):
            self._storage.delete(key)

    def _quarantine(self, evidence: Evidence) -> None:
        key = f"{self._prefix}/quarantine/{evidence.hash}.{time.time_ns()}"
        with closing(self._open_unverified(evidence.hash)) as reader:
            about = evidence.text(name=self.key(evidence.hash), size=reader.size)
            self._save(_Text(about), f"{key}{SUFFIX}")
            self._save(reader, key)
        self._remove(evidence.hash)

    def _stamp(self, blob_hash: str) -> str:
        return ""

    def _check_disk(self) -> None:
        """Do nothing: a service that is away has said so by now."""

    def _save(self, source: "_Readable", key: str) -> None:
        """Store under exactly this name; whatever a failed attempt has left is removed."""
        with _service_errors(f"save {key}"):
            try:
                saved = self._storage.save(key, _Content(source))
            except Exception:
                with suppress(Exception):
                    self._storage.delete(key)
                raise
            if saved != key:
                # Something has taken the name, and the back end evaded it.
                self._storage.delete(saved)
                raise StoreFailed("The storage service keeps something else under this name.")


class _Readable(Protocol):
    """A writer or a reader of a blob."""

    size: int

    def read_at(self, offset: int, length: int) -> bytes: ...


class _Text:
    """A short text to be saved."""

    def __init__(self, text: str) -> None:
        self._data = text.encode()
        self.size = len(self._data)

    def read_at(self, offset: int, length: int) -> bytes:
        return self._data[offset : offset + length]


class _Content(File):  # type: ignore[type-arg]
    """What a back end saves: the bytes of a writer or reader, as a file of Django's."""

    content_type = CONTENT_TYPE

    def __init__(self, source: _Readable) -> None:
        super().__init__(io.BufferedReader(_Stream(source), self.DEFAULT_CHUNK_SIZE))
        self.size = source.size


class _Stream(io.RawIOBase):
    """A seekable stream over what can be read at offsets."""

    def __init__(self, source: _Readable) -> None:
        self._source = source
        self._position = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._position

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        origin = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._source.size}
        self._position = origin[whence] + offset
        return self._position

    def readinto(self, buffer: Any) -> int:
        data = self._source.read_at(self._position, len(buffer))
        buffer[: len(data)] = data
        self._position += len(data)
        return len(data)


class _FileReader:
    """Reads an open file of a back end; readers of one blob share a lock.

    They have to, because a back end may hand out one file to all of them (InMemoryStorage does).
    How much of a remote file is in memory is the back end's affair; those of django-storages
    take the option `max_memory_size`.
    """

    stamp = ""

    def __init__(self, file: "File[Any]", seeking: threading.Lock) -> None:
        self._file = file
        self._seeking = seeking
        self.size: int = file.size

    def read_at(self, offset: int, length: int) -> bytes:
        with self._seeking:
            self._file.seek(offset)
            return bytes(self._file.read(length))

    def close(self) -> None:
        self._file.close()


class _ServiceReader:
    """Wraps what goes wrong while a back end's reader reads."""

    stamp = ""

    def __init__(self, reader: BlobReader, key: str) -> None:
        self._reader = reader
        self._key = key
        self.size = reader.size

    def read_at(self, offset: int, length: int) -> bytes:
        with _service_errors(f"read {self._key}"):
            return self._reader.read_at(offset, length)

    def close(self) -> None:
        self._reader.close()


def _storage(settings: Env) -> Storage:
    backend, options = settings.blob_storage_backend, settings.blob_storage_options
    try:
        storage = storages.create_storage({"BACKEND": backend, "OPTIONS": options})
        if isinstance(storage, S3Storage):
            s3_reader.prepare(storage)
    except (ImproperlyConfigured, TypeError, ValueError, BotoCoreError) as error:
        message = (
            f"{PREFIX}BLOB_STORAGE_BACKEND={backend!r} with {PREFIX}BLOB_STORAGE_OPTIONS of "
            f"{', '.join(options) or 'nothing'} is not usable: it takes a Django storage's dotted "
            f"path and a JSON object of its options ({' '.join(str(error).split())})."
        )
        raise ConfigurationError(message) from error
    if not isinstance(storage, Storage):
        message = (
            f"{PREFIX}BLOB_STORAGE_BACKEND={backend!r} is not usable: "
            "it takes the dotted path of a Django storage."
        )
        raise ConfigurationError(message)
    return storage


@contextmanager
def _service_errors(act: str) -> Iterator[None]:
    """Turn whatever a back end raises into StoreFull and StoreFailed.

    Each has errors of its own. They may name what is none of a client's business, such as the
    service's address: they go to the log.
    """
    try:
        yield
    except NodeError:
        raise
    except Exception as error:
        logger.warning("The storage service failed to %s: %s", act, error)
        if isinstance(error, OSError) and error.errno in NO_ROOM:
            raise StoreFull("The storage service is full; free some space there.") from error
        raise StoreFailed("The storage service failed; try again in a moment.") from error
