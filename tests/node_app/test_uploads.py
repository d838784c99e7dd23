"""The files and rows of resumable uploads, through crashes and on full disks."""

import errno
import os
import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest
from django.core.files.storage import InMemoryStorage

from node_app.errors import StoreFailed, StoreFull, UploadNotFound
from node_app.local_blobstore import RESERVED_BYTES
from node_app.uploadfile import UploadFile
from node_app.uploads import Upload
from tests.support.blob_backends import DjangoBackend, md5
from tests.support.refusals import refusal
from tests.support.tus_node import TusNode

CONTENT = bytes(range(256)) * 4000


def append(node: TusNode, upload: Upload, data: bytes) -> Upload:
    with node.uploads.open(upload) as file:
        file.write(data)
        return node.uploads.checkpoint(upload, file)


def path_of(node: TusNode, upload: Upload) -> Path:
    return node.folder / "uploads" / upload.id


def test_bytes_behind_the_last_checkpoint_are_dropped(node: TusNode) -> None:
    upload = append(node, node.uploads.create(length=100), b"durable")
    with node.uploads.open(upload) as file:
        file.write(b" and what no row tells of")
    node.restart()

    again = node.uploads.get(upload.id)

    assert again.offset == 7
    with node.uploads.open(again) as file:
        file.write(b"!")
        file.catch_up()
        assert file.digests().md5 == md5(b"durable!")
    assert path_of(node, upload).read_bytes() == b"durable!"


def test_the_row_comes_after_the_bytes(node: TusNode, monkeypatch: pytest.MonkeyPatch) -> None:
    upload = node.uploads.create(length=100)

    def fail(_: object) -> None:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(os, "fdatasync", fail)
    with pytest.raises(StoreFailed):
        append(node, upload, b"abc")

    assert node.uploads.get(upload.id).offset == 0


def test_a_start_drops_files_without_a_row_and_rows_without_their_bytes(node: TusNode) -> None:
    whole = append(node, node.uploads.create(length=9), b"abc")
    short = append(node, node.uploads.create(length=9), b"abc")
    gone = node.uploads.create(length=9)
    path_of(node, short).write_bytes(b"ab")
    path_of(node, gone).unlink()
    (node.folder / "uploads" / "left behind").write_bytes(b"x")

    node.restart()

    assert [file.name for file in node.upload_files()] == [whole.id]
    assert node.uploads.get(whole.id) == whole
    for upload in (short, gone):
        with pytest.raises(UploadNotFound):
            node.uploads.get(upload.id)


def test_a_file_that_lost_its_end_is_not_made_longer(node: TusNode) -> None:
    upload = append(node, node.uploads.create(length=9), b"abc")
    path_of(node, upload).write_bytes(b"a")

    with pytest.raises(StoreFailed):
        node.uploads.open(upload)


def test_digests_go_on_in_one_process_and_are_made_again_in_the_next(node: TusNode) -> None:
    upload = append(node, node.uploads.create(length=len(CONTENT)), CONTENT[:500_000])
    with node.uploads.open(upload) as file:
        assert file.prefix is not None
        assert file.prefix.size == 500_000
    node.restart()

    upload = append(node, upload, CONTENT[500_000:])

    with node.uploads.open(upload) as file:
        with pytest.raises(StoreFailed):
            file.digests()
        file.catch_up()
        assert (file.digests().md5, file.digests().size) == (md5(CONTENT), len(CONTENT))


def test_what_cannot_be_written_leaves_no_gap(
    node: TusNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    upload = node.uploads.create(length=100)
    with node.uploads.open(upload) as file:
        file.write(b"abc")
        with monkeypatch.context() as broken:

            def write_half(self: UploadFile, data: bytes) -> None:
                self._output.write(data[:2])
                raise OSError(errno.ENOSPC, "No space left on device")

            broken.setattr(UploadFile, "_append", write_half)
            with pytest.raises(StoreFull):
                file.write(b"defg")
        with pytest.raises(StoreFailed):
            file.write(b"hijk")
        upload = node.uploads.checkpoint(upload, file)

    assert upload.offset == 3
    upload = append(node, upload, b"defg")
    assert path_of(node, upload).read_bytes() == b"abcdefg"


async def test_a_full_disk_stops_an_upload_where_it_can_go_on(
    node: TusNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = await node.create(6)
    with monkeypatch.context() as full:
        full.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=RESERVED_BYTES - 1))

        assert refusal(await node.patch(path, 0, b"abc")) == (507, "disk_full")
        refused = await node.tus("POST", "/uploads/", Upload_Length="3")
        assert refusal(refused) == (507, "disk_full")

    offset = await node.offset(path)
    assert (await node.patch(path, offset, b"abcdef"[offset:])).headers["x-blob-hash"]


def test_what_can_never_fit_is_refused_at_once(node: TusNode) -> None:
    free = shutil.disk_usage(node.folder).free
    with pytest.raises(StoreFull):
        node.uploads.create(length=free + 1)
    assert node.upload_files() == []


@pytest.mark.parametrize("links", [True, False])
async def test_the_store_gets_the_file_itself_or_a_copy(
    node: TusNode, monkeypatch: pytest.MonkeyPatch, *, links: bool
) -> None:
    if not links:

        def refuse(*_: object) -> None:
            raise OSError(errno.EPERM, "Operation not permitted")

        monkeypatch.setattr(os, "link", refuse)
    upload = append(node, node.uploads.create(length=len(CONTENT)), CONTENT)
    number = path_of(node, upload).stat().st_ino

    await node.tus("HEAD", f"/uploads/{upload.id}")

    blob = node.backend.path(md5(CONTENT))
    assert blob.read_bytes() == CONTENT
    assert (blob.stat().st_ino == number) is links
    assert blob.stat().st_mode & 0o777 == 0o644
    assert node.upload_files() == []


async def test_a_blob_that_was_there_already_is_compared_and_kept(node: TusNode) -> None:
    node.backend.put(CONTENT)
    path = await node.create(len(CONTENT))

    answer = await node.patch(path, 0, CONTENT)

    assert answer.headers["x-blob-deduplicated"] == "true"
    assert node.upload_files() == []
    assert node.backend.blobs() == [md5(CONTENT)]


async def test_an_object_store_gets_the_bytes(tmp_path: Path) -> None:
    storage = InMemoryStorage()
    node = TusNode(tmp_path / "node", open_backend=lambda path: DjangoBackend(path, storage))
    try:
        path = await node.create(len(CONTENT))
        await node.patch(path, 0, CONTENT[:300_000])

        answer = await node.patch(path, 300_000, CONTENT[300_000:])

        assert answer.headers["x-blob-hash"] == md5(CONTENT)
        assert node.backend.get(md5(CONTENT)) == CONTENT
        assert node.upload_files() == []
    finally:
        node.close()
