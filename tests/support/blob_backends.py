"""The blob stores' back ends as tests see them: opened, reopened, and tampered with from behind."""

import hashlib
import itertools
import json
from abc import ABC, abstractmethod
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import zstandard
from django.core.files.base import ContentFile
from django.core.files.storage import Storage
from moto.moto_server.threaded_moto_server import ThreadedMotoServer
from storages.backends.s3 import S3Storage

from node_app.blobindex import BlobIndex
from node_app.blobstore import BlobStore
from node_app.compression import FRAME_BYTES, FrameEncoder
from node_app.compressor import Compressor
from node_app.database import NodeDatabase
from node_app.django_blobstore import DjangoBlobStore
from node_app.evidence import SUFFIX
from node_app.journal import Journal
from node_app.local_blobstore import LocalBlobStore

CHUNK = 100_000


def md5(content: bytes) -> str:
    return hashlib.md5(content, usedforsecurity=False).hexdigest()


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


class Backend(ABC):
    """A node's store and its database. `plant` and `planted` pass the store by."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.folder.mkdir(parents=True, exist_ok=True)
        self._open()

    def reopen(self) -> None:
        """Do what a restart of the process does."""
        self.close()
        self._open()

    def close(self) -> None:
        self.database.close()

    def put(self, content: bytes, name: str = "name.bin") -> bool:
        """Store `content` in pieces, as uploads come, and return whether it was there."""
        with self.store.writer() as writer:
            for piece in pieces(content):
                writer.write(piece)
            return self.store.commit(writer, name=name, content_type="text/plain")

    def get(self, content_md5: str) -> bytes:
        """Read a blob to its end."""
        reader = self.store.open(content_md5)
        try:
            steps = range(0, reader.size, CHUNK)
            return b"".join(reader.read_at(offset, CHUNK) for offset in steps)
        finally:
            reader.close()

    def holds(self) -> tuple[int, int]:
        """Return how many blobs there are, and the bytes of their contents."""
        totals = self.store.totals()
        return totals.count, totals.size

    def temporary_files(self) -> list[Path]:
        return list((self.folder / "tmp").iterdir())

    def rows(self) -> list[str]:
        return [str(row[0]) for row in self.database.read("SELECT hash FROM blob ORDER BY hash")]

    @abstractmethod
    def plant(self, content_md5: str, content: bytes | None) -> None:
        """Put bytes under a blob's name, or take them away."""

    @abstractmethod
    def planted(self, content_md5: str) -> bytes | None:
        """Return the bytes that stand under a blob's name."""

    @abstractmethod
    def blobs(self) -> list[str]:
        """Return what stands under `blobs/`, sorted."""

    @abstractmethod
    def quarantined(self) -> dict[str, bytes]:
        """Return what has been set aside, by name."""

    @abstractmethod
    def evidence(self) -> list[Any]:
        """Return what is written down beside it."""

    @abstractmethod
    def _store(self, index: BlobIndex) -> BlobStore: ...

    def _open(self) -> None:
        self.database = NodeDatabase(self.folder / "node.sqlite3")
        self.store = self._store(BlobIndex(self.database))


class LocalBackend(Backend):
    """The local disk."""

    store: LocalBlobStore

    def path(self, content_md5: str) -> Path:
        return self.folder / "blobs" / content_md5[:2] / content_md5[2:4] / content_md5

    def compressed_path(self, content_md5: str) -> Path:
        return self.path(content_md5).with_suffix(".zst")

    def compress(self) -> int:
        """Compress all that is due now, and return how many blobs took less room then."""
        compressor = Compressor(self.store, after_seconds=0, is_busy=lambda: False)
        return compressor.compress_due()

    def plant(self, content_md5: str, content: bytes | None) -> None:
        self.compressed_path(content_md5).unlink(missing_ok=True)
        path = self.path(content_md5)
        if content is None:
            path.unlink(missing_ok=True)
        else:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)

    def planted(self, content_md5: str) -> bytes | None:
        path = self.path(content_md5)
        return path.read_bytes() if path.exists() else None

    def blobs(self) -> list[str]:
        return sorted(path.name for path in self.folder.glob("blobs/*/*/*"))

    def quarantined(self) -> dict[str, bytes]:
        paths = self.folder.glob("quarantine/*")
        return {path.name: path.read_bytes() for path in paths if path.suffix != SUFFIX}

    def evidence(self) -> list[Any]:
        paths = sorted(self.folder.glob(f"quarantine/*{SUFFIX}"))
        return [json.loads(path.read_text()) for path in paths]

    def _store(self, index: BlobIndex) -> BlobStore:
        return LocalBlobStore(self.folder, index)


class JournalBackend(LocalBackend):
    """The local disk, with small contents in the journal until a test settles them."""

    journal: Journal

    def waiting(self) -> list[str]:
        """Return the hashes of contents whose files may not be durable."""
        return [entry.hash for entry in self.journal.unsettled()]

    def close(self) -> None:
        self.journal.close()
        super().close()

    def _store(self, index: BlobIndex) -> BlobStore:
        self.journal = Journal(self.database, self.folder)
        return LocalBlobStore(self.folder, index, self.journal)


class CompressedBackend(LocalBackend):
    """The local disk, where each blob is compressed as soon as it is stored.

    Also one that gains nothing: a test that uses this makes `compressor` believe in all of them.
    """

    def put(self, content: bytes, name: str = "name.bin") -> bool:
        was_there = super().put(content, name)
        self.compress()
        return was_there

    def plant(self, content_md5: str, content: bytes | None) -> None:
        super().plant(content_md5, None)
        if content is not None:
            path = self.compressed_path(content_md5)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(compressed(content))

    def planted(self, content_md5: str) -> bytes | None:
        path = self.compressed_path(content_md5)
        return decompressed(path.read_bytes()) if path.exists() else super().planted(content_md5)

    def blobs(self) -> list[str]:
        return [name.removesuffix(".zst") for name in super().blobs()]

    def quarantined(self) -> dict[str, bytes]:
        found = super().quarantined()
        return {
            name: decompressed(data) if ".zst." in name else data for name, data in found.items()
        }


class DjangoBackend(Backend):
    """Any storage of Django's."""

    def __init__(self, folder: Path, storage: Storage) -> None:
        self.storage = storage
        super().__init__(folder)

    def key(self, content_md5: str) -> str:
        name = self.folder.name
        return f"{name}/blobs/{content_md5[:2]}/{content_md5[2:4]}/{content_md5}"

    def plant(self, content_md5: str, content: bytes | None) -> None:
        self.storage.delete(self.key(content_md5))
        if content is not None:
            self.storage.save(self.key(content_md5), ContentFile(content))

    def planted(self, content_md5: str) -> bytes | None:
        try:
            with self.storage.open(self.key(content_md5), "rb") as file:
                return bytes(file.read())
        except FileNotFoundError:
            return None

    def blobs(self) -> list[str]:
        root = f"{self.folder.name}/blobs"
        return sorted(name.rpartition("/")[2] for name in self._names(root))

    def quarantined(self) -> dict[str, bytes]:
        found = {}
        for name in self._names(f"{self.folder.name}/quarantine"):
            with self.storage.open(name, "rb") as file:
                if not name.endswith(SUFFIX):
                    found[name.rpartition("/")[2]] = bytes(file.read())
        return found

    def evidence(self) -> list[Any]:
        names = sorted(self._names(f"{self.folder.name}/quarantine"))
        found = []
        for name in names:
            with self.storage.open(name, "rb") as file:
                if name.endswith(SUFFIX):
                    found.append(json.loads(file.read()))
        return found

    def _names(self, folder: str) -> Iterator[str]:
        try:
            folders, files = self.storage.listdir(folder)
        except FileNotFoundError:
            return
        yield from (f"{folder}/{file}" for file in files)
        for name in folders:
            yield from self._names(f"{folder}/{name}")

    def _store(self, index: BlobIndex) -> BlobStore:
        return DjangoBlobStore(self.storage, self.folder, index)


class S3Server:
    """An S3 service on loopback, spoken to over real HTTP."""

    _bucket_numbers = itertools.count()

    def __init__(self) -> None:
        self._server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
        self._server.start()
        host, port = self._server.get_host_and_port()
        self.url = f"http://{host}:{port}"

    def options(self, bucket: str) -> dict[str, object]:
        """Return what S3Storage is told about a bucket of this service."""
        return {
            "bucket_name": bucket,
            "endpoint_url": self.url,
            "access_key": "tests",
            "secret_key": "tests",
            "region_name": "us-east-1",
        }

    def new_bucket(self) -> str:
        """Make a bucket, which the back end itself never does."""
        bucket = f"bucket-{next(self._bucket_numbers)}"
        S3Storage(**self.options(bucket)).bucket.create()
        return bucket

    def stop(self) -> None:
        self._server.stop()


def compressed(content: bytes) -> bytes:
    """Return a content as its file on disk; nothing of an empty one, which is no such file."""
    encoder = FrameEncoder()
    steps = range(0, len(content), FRAME_BYTES)
    frames = [encoder.frame(content[offset : offset + FRAME_BYTES]) for offset in steps]
    return b"".join([*frames, encoder.table()]) if frames else b""


def decompressed(data: bytes) -> bytes:
    with zstandard.ZstdDecompressor().stream_reader(data, read_across_frames=True) as stream:
        return bytes(stream.read())


def pieces(content: bytes) -> Iterator[bytes]:
    for offset in range(0, len(content), CHUNK):
        yield content[offset : offset + CHUNK]
