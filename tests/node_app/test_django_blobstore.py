"""The blob store over Django's storages: failing services, taken names and bad settings."""

import errno
import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from django.core.files.base import ContentFile, File
from django.core.files.storage import FileSystemStorage, InMemoryStorage
from storages.backends.s3 import S3Storage

from mini_dropbox import env
from mini_dropbox.env import ConfigurationError
from node_app import s3_reader
from node_app.blobindex import BlobIndex
from node_app.database import NodeDatabase
from node_app.django_blobstore import DjangoBlobStore
from node_app.errors import BlobDamaged, BlobNotFound, StoreFailed, StoreFull
from node_app.node import open_store
from tests.support.blob_backends import DjangoBackend, S3Server, md5, sha256
from tests.support.cluster import free_ports

CONTENT = b"some content"
MIB = 1024 * 1024


class VendorError(Exception):
    """What a back end raises that nobody else knows."""


class FailingStorage(InMemoryStorage):
    """A storage of which any act can be made to fail."""

    def __init__(self) -> None:
        super().__init__()
        self.failures: dict[str, Exception] = {}

    def _open(self, name: str, mode: str = "rb") -> File:
        self._fail("open")
        return super()._open(name, mode)

    def _save(self, name: str, content: File) -> str:
        if "save" in self.failures:
            # As a disk does that becomes full: the beginning is there under the final name.
            super()._save(name, ContentFile(content.read(5)))
        self._fail("save")
        return super()._save(name, content)

    def delete(self, name: str) -> None:
        self._fail("delete")
        super().delete(name)

    def _fail(self, act: str) -> None:
        if act in self.failures:
            raise self.failures[act]


class EvasiveStorage(FileSystemStorage):
    """A storage that finds every name taken by the time it writes."""

    def get_available_name(self, name: str, max_length: int | None = None) -> str:
        return f"{name}_evaded"


OpenBackend = Callable[..., DjangoBackend]


@pytest.fixture
def open_backend(tmp_path: Path) -> Iterator[OpenBackend]:
    opened = []

    def open_one(storage: Any, name: str = "node_8001") -> DjangoBackend:
        opened.append(DjangoBackend(tmp_path / name, storage))
        return opened[-1]

    yield open_one
    for backend in opened:
        backend.close()


@pytest.fixture(scope="module")
def s3_server() -> Iterator[S3Server]:
    server = S3Server()
    yield server
    server.stop()


@pytest.fixture
def s3_storage(s3_server: S3Server) -> S3Storage:
    storage = S3Storage(**s3_server.options(s3_server.new_bucket()))
    s3_reader.prepare(storage)
    return storage


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (VendorError("at http://10.0.0.1/secret-bucket"), StoreFailed),
        (ConnectionRefusedError(errno.ECONNREFUSED, "refused"), StoreFailed),
        (OSError(errno.ENOSPC, "no space"), StoreFull),
        (OSError(errno.EDQUOT, "quota"), StoreFull),
    ],
)
def test_a_failed_upload_is_reported_and_leaves_nothing(
    open_backend: OpenBackend, error: Exception, expected: type[Exception]
) -> None:
    storage = FailingStorage()
    backend = open_backend(storage)
    storage.failures = {"save": error}

    with pytest.raises(expected) as caught:
        backend.put(CONTENT)

    assert "10.0.0.1" not in str(caught.value)
    assert caught.value.__cause__ is error
    assert backend.planted(md5(CONTENT)) is None
    assert backend.rows() == []
    assert backend.temporary_files() == []
    storage.failures = {}
    assert not backend.put(CONTENT)
    assert backend.get(md5(CONTENT)) == CONTENT


@pytest.mark.parametrize("act", ["open", "delete"])
def test_every_act_of_the_service_that_fails_is_a_failure_of_the_store(
    open_backend: OpenBackend, act: str
) -> None:
    storage = FailingStorage()
    backend = open_backend(storage)
    backend.put(CONTENT)
    storage.failures = {act: VendorError("out of order")}
    acts: dict[str, list[Callable[[], object]]] = {
        "open": [
            lambda: backend.store.open(md5(CONTENT)),
            lambda: backend.store.verify(md5(CONTENT), sha256(CONTENT)),
            lambda: backend.put(CONTENT),
        ],
        "delete": [
            lambda: backend.store.delete(md5(CONTENT), sha256=sha256(CONTENT)),
            backend.store.probe,
        ],
    }

    for attempt in acts[act]:
        with pytest.raises(StoreFailed):
            attempt()

    storage.failures = {}
    assert backend.get(md5(CONTENT)) == CONTENT


def test_a_read_that_fails_midway_is_a_failure_of_the_store(open_backend: OpenBackend) -> None:
    backend = open_backend(InMemoryStorage())
    backend.put(CONTENT)
    reader = backend.store.open(md5(CONTENT))
    backend.storage.open(backend.key(md5(CONTENT))).file.close()

    with pytest.raises(StoreFailed):
        reader.read_at(0, 5)


def test_a_probe_that_cannot_be_stored_says_so(open_backend: OpenBackend) -> None:
    storage = FailingStorage()
    backend = open_backend(storage)
    storage.failures = {"save": OSError(errno.ENOSPC, "no space")}

    with pytest.raises(StoreFull):
        backend.store.probe()


def test_a_blob_never_ends_up_under_another_name(open_backend: OpenBackend, tmp_path: Path) -> None:
    backend = open_backend(EvasiveStorage(tmp_path / "storage"))

    with pytest.raises(StoreFailed):
        backend.put(CONTENT)

    assert backend.blobs() == []
    assert backend.rows() == []


def test_bytes_that_nobody_has_verified_are_not_served(open_backend: OpenBackend) -> None:
    backend = open_backend(InMemoryStorage())
    # Such is what a back end that does not write all at once leaves when it is cut off.
    backend.plant(md5(CONTENT), CONTENT[:5])

    with pytest.raises(BlobNotFound):
        backend.store.open(md5(CONTENT))


def test_a_blob_of_the_wrong_size_is_not_served(open_backend: OpenBackend) -> None:
    backend = open_backend(InMemoryStorage())
    backend.put(CONTENT)
    backend.plant(md5(CONTENT), CONTENT[:5])

    with pytest.raises(BlobDamaged):
        backend.store.open(md5(CONTENT))


def test_nodes_that_share_a_storage_share_no_objects(open_backend: OpenBackend) -> None:
    storage = InMemoryStorage()
    one, other = open_backend(storage, "node_8001"), open_backend(storage, "node_8002")
    one.put(CONTENT)
    assert not other.put(CONTENT)

    one.store.delete(md5(CONTENT), sha256=sha256(CONTENT))

    assert other.get(md5(CONTENT)) == CONTENT


def test_a_service_that_is_away_fails_an_upload_quickly(open_backend: OpenBackend) -> None:
    (port,) = free_ports(1)
    options = {"bucket_name": "b", "access_key": "a", "secret_key": "s"}
    storage = S3Storage(endpoint_url=f"http://127.0.0.1:{port}", **options)
    s3_reader.prepare(storage)
    backend = open_backend(storage)
    began = time.monotonic()

    with pytest.raises(StoreFailed):
        backend.put(CONTENT)

    assert time.monotonic() - began < 10


def test_a_bucket_that_does_not_exist_fails_uploads_and_probes(
    open_backend: OpenBackend, s3_server: S3Server
) -> None:
    backend = open_backend(S3Storage(**s3_server.options("no-such-bucket")))

    with pytest.raises(StoreFailed):
        backend.put(CONTENT)
    with pytest.raises(StoreFailed):
        backend.store.probe()


class RangeRecorder:
    """Records the ranges that an S3 client asks for."""

    def __init__(self, storage: S3Storage) -> None:
        self.lengths: list[int] = []
        events = storage.bucket.meta.client.meta.events
        events.register("before-send.s3.GetObject", self._record)

    def _record(self, request: Any, **_: Any) -> None:
        value = request.headers["Range"]
        text = value.decode() if isinstance(value, bytes) else value
        start, stop = text.removeprefix("bytes=").split("-")
        self.lengths.append(int(stop) - int(start) + 1)


def test_s3_sends_only_the_bytes_that_are_asked_for(
    open_backend: OpenBackend, s3_storage: S3Storage
) -> None:
    backend = open_backend(s3_storage)
    content = bytes(range(256)) * (5 * MIB // 256)
    backend.put(content)
    recorder = RangeRecorder(s3_storage)
    reader = backend.store.open(md5(content))

    assert reader.read_at(3 * MIB + 1, 10) == content[3 * MIB + 1 : 3 * MIB + 11]
    assert reader.read_at(17, 5) == content[17:22]

    assert recorder.lengths == [10, 5]


def test_an_s3_download_takes_few_requests_and_bounded_memory(
    open_backend: OpenBackend, s3_storage: S3Storage
) -> None:
    backend = open_backend(s3_storage)
    content = bytes(20 * MIB + 1)
    backend.put(content)
    recorder = RangeRecorder(s3_storage)
    reader = backend.store.open(md5(content))
    piece = 256 * 1024

    for offset in range(0, len(content), piece):
        assert reader.read_at(offset, piece) == content[offset : offset + piece]

    assert sum(recorder.lengths) == len(content)
    assert max(recorder.lengths) == s3_reader.MAX_WINDOW_BYTES
    assert len(recorder.lengths) <= 10


def test_bytes_of_two_s3_objects_are_never_mixed(
    open_backend: OpenBackend, s3_storage: S3Storage
) -> None:
    backend = open_backend(s3_storage)
    backend.put(CONTENT)
    reader = backend.store.open(md5(CONTENT))
    assert reader.read_at(0, 4) == CONTENT[:4]

    backend.plant(md5(CONTENT), CONTENT.upper())

    with pytest.raises(StoreFailed):
        reader.read_at(4, 4)


def test_a_large_s3_upload_is_sent_in_parts_and_read_back(
    open_backend: OpenBackend, s3_storage: S3Storage
) -> None:
    backend = open_backend(s3_storage)
    content = bytes(range(256)) * (17 * MIB // 256)

    backend.put(content)

    assert s3_storage.bucket.Object(backend.key(md5(content))).e_tag.count("-") == 1
    assert s3_storage.bucket.Object(backend.key(md5(content))).content_type == (
        "application/octet-stream"
    )
    assert backend.store.verify(md5(content), sha256(content))


@pytest.fixture
def index(tmp_path: Path) -> Iterator[BlobIndex]:
    database = NodeDatabase(tmp_path / "node.sqlite3")
    yield BlobIndex(database)
    database.close()


def settings_with(**settings: str) -> env.Env:
    return env.read({f"MINI_DROPBOX_{name}": value for name, value in settings.items()})


def test_the_settings_choose_and_configure_the_back_end(tmp_path: Path, index: BlobIndex) -> None:
    settings = settings_with(
        ROLE="node",
        BLOB_STORE="storage",
        BLOB_STORAGE_BACKEND="django.core.files.storage.FileSystemStorage",
        BLOB_STORAGE_OPTIONS=json.dumps({"location": str(tmp_path / "elsewhere")}),
    )

    store = open_store(settings, tmp_path / "node_8001", index)
    with store.writer() as writer:
        writer.write(CONTENT)
        store.commit(writer, name="name", content_type="")

    assert isinstance(store, DjangoBlobStore)
    (stored,) = (tmp_path / "elsewhere").glob("node_8001/blobs/*/*/*")
    assert stored.read_bytes() == CONTENT
    assert (store.space().capacity, store.space().free) == (None, None)
    assert not store.opens_locally


@pytest.mark.parametrize(
    ("backend", "options"),
    [
        ("no.such.Storage", {}),
        ("notdotted", {}),
        ("django.core.files.storage.NoSuchStorage", {}),
        ("builtins.dict", {}),
        ("django.core.files.storage.FileSystemStorage", {"no_such_option": "the-secret"}),
        ("storages.backends.s3.S3Storage", {"no_such_option": "the-secret"}),
        ("storages.backends.s3.S3Storage", {"secret_key": "the-secret"}),
        (
            "storages.backends.s3.S3Storage",
            {"bucket_name": "b", "endpoint_url": "no address", "secret_key": "the-secret"},
        ),
    ],
)
def test_a_back_end_that_cannot_be_made_stops_the_start_with_one_line(
    tmp_path: Path, index: BlobIndex, backend: str, options: dict[str, str]
) -> None:
    settings = settings_with(
        BLOB_STORE="storage", BLOB_STORAGE_BACKEND=backend, BLOB_STORAGE_OPTIONS=json.dumps(options)
    )

    with pytest.raises(ConfigurationError) as caught:
        open_store(settings, tmp_path / "node_8001", index)

    message = str(caught.value)
    assert "\n" not in message
    assert "MINI_DROPBOX_BLOB_STORAGE_BACKEND" in message
    assert repr(backend) in message
    assert "it takes" in message
    assert "the-secret" not in message
