"""tus 1.0: uploads that are joined from parts."""

import asyncio
import contextlib
import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from node_app import uploadfile
from node_app.errors import BelowQuorum
from tests.support.blob_backends import md5
from tests.support.refusals import refusal
from tests.support.tus_node import BODY_TYPE, LIMIT, TusNode, metadata
from tests.support.waiting import eventually_there

PARTS = (b"first " * 100_000, b"", b"second " * 70_000, b"x")
WHOLE = b"".join(PARTS)


async def parts(node: TusNode, *contents: bytes) -> list[str]:
    paths = []
    for content in contents:
        path = await node.create(len(content), Upload_Concat="partial")
        if content:
            assert (await node.patch(path, 0, content)).status == 204
        paths.append(path)
    return paths


class Steps:
    """Makes copies go in small steps, the first of which waits."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.count = 0
        self.begun = threading.Event()
        self.may_go_on = threading.Event()
        self._copy: Callable[..., None] = uploadfile._copy
        monkeypatch.setattr(uploadfile, "COPY_BYTES", 10_000)
        monkeypatch.setattr(uploadfile, "_copy", self._slowly)

    def _slowly(self, *arguments: Any) -> None:
        self.count += 1
        self.begun.set()
        self.may_go_on.wait(10)
        self._copy(*arguments)


def end_of_joining(node: TusNode, monkeypatch: pytest.MonkeyPatch) -> threading.Event:
    """Return what is set once the thread that joins has ended."""
    ended = threading.Event()
    concatenate = node.uploads.concatenate

    def join(*arguments: Any) -> Any:
        try:
            return concatenate(*arguments)
        finally:
            ended.set()

    monkeypatch.setattr(node.uploads, "concatenate", join)
    return ended


def assert_only_parts_are_left(node: TusNode, paths: list[str]) -> None:
    """Assert that of the joined upload there is no file, and nothing in memory."""
    names = {path.removeprefix("/uploads/") for path in paths}
    assert {file.name for file in node.upload_files()} == names
    assert node.uploads._prefixes.keys() <= names


@pytest.fixture(params=["by the system", "by hand"])
def copying(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let files be copied by either of the two ways."""
    if request.param == "by hand":
        monkeypatch.delattr(os, "copy_file_range")


@pytest.mark.usefixtures("copying")
@pytest.mark.parametrize("prefix", ["", "http://127.0.0.1:8009"])
async def test_parts_become_one_blob(node: TusNode, prefix: str) -> None:
    paths = await parts(node, *PARTS)
    assert node.stored == []
    concat = "final;" + " ".join(prefix + path for path in paths)

    created = await node.tus(
        "POST", "/uploads/", Upload_Concat=concat, Upload_Metadata=metadata(filename="all.txt")
    )

    assert (created.status, created.headers["x-blob-hash"]) == (201, md5(WHOLE))
    assert node.backend.get(md5(WHOLE)) == WHOLE
    assert node.stored == [("all.txt", "text/plain")]
    head = await node.tus("HEAD", created.headers["location"])
    assert head.headers["upload-concat"] == concat
    assert head.headers["upload-offset"] == head.headers["upload-length"] == str(len(WHOLE))
    again = await node.tus("POST", "/uploads/", Upload_Concat=concat)
    assert (again.status, again.headers["x-blob-deduplicated"]) == (201, "true")


@pytest.mark.usefixtures("copying")
async def test_parts_are_copied_step_by_step(
    node: TusNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(uploadfile, "COPY_BYTES", 99_999)
    paths = await parts(node, *PARTS)

    created = await node.tus("POST", "/uploads/", Upload_Concat="final;" + " ".join(paths))

    assert created.headers["x-blob-hash"] == md5(WHOLE)
    assert node.backend.get(md5(WHOLE)) == WHOLE


async def test_joining_counts_as_an_upload_and_ends_with_it(
    node: TusNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps = Steps(monkeypatch)
    paths = await parts(node, *PARTS)
    in_flight: set[asyncio.Task[Any] | None] = set()

    @contextlib.contextmanager
    def upload_in_flight() -> Iterator[None]:
        task = asyncio.current_task()
        in_flight.add(task)
        try:
            yield
        finally:
            in_flight.discard(task)

    ended = end_of_joining(node, monkeypatch)
    monkeypatch.setattr(node, "upload_in_flight", upload_in_flight)
    concat = "final;" + " ".join(paths)
    task = asyncio.create_task(node.tus("POST", "/uploads/", Upload_Concat=concat))
    await eventually_there(steps.begun.is_set)
    assert in_flight == {task}

    task.cancel()
    assert refusal(await task) == (503, "shutting_down")
    assert not ended.is_set()
    steps.may_go_on.set()
    await eventually_there(ended.is_set)

    assert (steps.count, in_flight) == (1, set())
    assert_only_parts_are_left(node, paths)


async def test_joining_that_is_given_up_at_its_end_leaves_nothing(
    node: TusNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The bytes are on disk already, and the row is about to tell of them."""
    begun, may_go_on = threading.Event(), threading.Event()
    paths = await parts(node, *PARTS)
    sync = uploadfile.UploadFile.sync

    def sync_slowly(file: uploadfile.UploadFile) -> int:
        size = sync(file)
        begun.set()
        may_go_on.wait(10)
        return size

    ended = end_of_joining(node, monkeypatch)
    monkeypatch.setattr(uploadfile.UploadFile, "sync", sync_slowly)
    concat = "final;" + " ".join(paths)
    task = asyncio.create_task(node.tus("POST", "/uploads/", Upload_Concat=concat))
    await eventually_there(begun.is_set)

    task.cancel()
    assert refusal(await task) == (503, "shutting_down")
    may_go_on.set()
    await eventually_there(ended.is_set)

    assert_only_parts_are_left(node, paths)


async def test_a_part_is_no_blob_and_says_that_it_is_a_part(node: TusNode) -> None:
    (path,) = await parts(node, b"abc")

    head = await node.tus("HEAD", path)

    assert (head.headers["upload-concat"], head.headers["upload-offset"]) == ("partial", "3")
    assert "x-blob-hash" not in head.headers
    assert node.backend.blobs() == []


async def test_a_joined_upload_takes_no_bytes(node: TusNode) -> None:
    paths = await parts(node, b"abc", b"def")
    created = await node.tus("POST", "/uploads/", Upload_Concat="final;" + " ".join(paths))

    answer = await node.patch(created.headers["location"], 6, b"")

    assert refusal(answer) == (403, "final_upload")


async def test_only_complete_parts_are_joined(node: TusNode) -> None:
    (complete,) = await parts(node, b"abc")
    unfinished = await node.create(5, Upload_Concat="partial")
    ordinary = await node.create(5)
    gone = "/uploads/" + "0" * 40
    for other, expected in (
        (unfinished, (400, "incomplete_part")),
        (ordinary, (400, "incomplete_part")),
        (gone, (404, "unknown_upload")),
    ):
        answer = await node.tus("POST", "/uploads/", Upload_Concat=f"final;{complete} {other}")
        assert refusal(answer) == expected


@pytest.mark.parametrize(
    "concat",
    [
        "final",
        "final;",
        "final; ",
        "final;/uploads/x",
        "final;../../etc/passwd",
        "whole",
        "Partial",
    ],
)
async def test_what_names_no_parts_is_refused(node: TusNode, concat: str) -> None:
    answer = await node.tus("POST", "/uploads/", Upload_Concat=concat, Upload_Length="3")
    assert refusal(answer) == (400, "bad_header")


async def test_the_whole_may_not_exceed_the_limit(tmp_path: Path) -> None:
    node = TusNode(tmp_path / "small", limit=10)
    path = "/uploads/"
    try:
        paths = await parts(node, b"123456", b"78901")
        answer = await node.tus("POST", path, Upload_Concat="final;" + " ".join(paths))
        assert refusal(answer) == (413, "too_large")
        assert len(node.upload_files()) == 2
    finally:
        node.close()
    assert LIMIT > 10


async def test_parts_stay_when_the_whole_cannot_be_stored_now(node: TusNode) -> None:
    paths = await parts(node, b"abc", b"def")
    concat = "final;" + " ".join(paths)
    node.refusal = BelowQuorum("Only 1 of at least 2 nodes can keep a copy now.")
    node.replicator.check_quorum = lambda: None
    assert (await node.tus("POST", "/uploads/", Upload_Concat=concat)).status == 503
    assert len(node.upload_files()) == 2
    node.refusal = None

    created = await node.tus("POST", "/uploads/", Upload_Concat=concat)

    assert created.headers["x-blob-hash"] == md5(b"abcdef")


async def test_a_part_may_come_with_its_creation(node: TusNode) -> None:
    created = await node.tus(
        "POST",
        "/uploads/",
        b"abc",
        Upload_Concat="partial",
        Upload_Length="3",
        Content_Type=BODY_TYPE,
    )

    assert (created.status, created.headers["upload-offset"]) == (201, "3")
    assert node.backend.blobs() == []
