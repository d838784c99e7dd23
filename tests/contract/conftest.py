"""The back ends that have to keep the blob store's promises."""

import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
from django.core.files.storage import FileSystemStorage, InMemoryStorage
from storages.backends.s3 import S3Storage

from node_app import commits, compressor, s3_reader
from tests.support.blob_backends import (
    Backend,
    CompressedBackend,
    DjangoBackend,
    JournalBackend,
    LocalBackend,
    S3Server,
)


@pytest.fixture(scope="session")
def s3_server() -> Iterator[S3Server]:
    server = S3Server()
    yield server
    server.stop()


@pytest.fixture(scope="session")
def s3_storage(s3_server: S3Server) -> S3Storage:
    """Return one storage for all tests, because each makes a client of its own."""
    storage = S3Storage(**s3_server.options(s3_server.new_bucket()))
    s3_reader.prepare(storage)
    return storage


@pytest.fixture
def everything_gains(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let every content be compressed, also one that grows by it; there is no empty frame."""
    for module in (commits, compressor):
        monkeypatch.setattr(module, "may_gain", lambda size, _: size > 0)
    monkeypatch.setattr(compressor, "sample_shrinks", lambda _: True)
    monkeypatch.setattr(compressor, "is_worth_while", lambda *_: True)


@pytest.fixture(params=["local", "journal", "compressed", "file system", "in memory", "s3"])
def backend(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Backend]:
    # The folder's name keeps one test's objects apart from another's.
    folder = tmp_path / f"node_{uuid.uuid4().hex}"
    opened: Backend
    if request.param == "local":
        opened = LocalBackend(folder)
    elif request.param == "journal":
        opened = JournalBackend(folder)
    elif request.param == "compressed":
        request.getfixturevalue("everything_gains")
        opened = CompressedBackend(folder)
    elif request.param == "file system":
        opened = DjangoBackend(folder, FileSystemStorage(tmp_path / "storage"))
    elif request.param == "in memory":
        opened = DjangoBackend(folder, InMemoryStorage())
    else:
        opened = DjangoBackend(folder, request.getfixturevalue("s3_storage"))
    yield opened
    opened.close()
