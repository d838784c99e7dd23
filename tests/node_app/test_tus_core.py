"""tus 1.0: the core of the protocol, verb by verb, without sockets."""

import asyncio
import re
import threading
from email.utils import parsedate_to_datetime
from pathlib import Path

import psutil
import pytest

from node_app.errors import BelowQuorum
from node_app.uploadfile import UploadFile
from tests.support.blob_backends import md5, sha256
from tests.support.refusals import refusal
from tests.support.tus_node import LIMIT, MASTER, Body, TusNode, metadata

CONTENT = bytes(range(256)) * 3000


def open_files() -> list[Path]:
    return [Path(file.path) for file in psutil.Process().open_files()]


async def test_options_says_what_is_spoken(node: TusNode) -> None:
    answer = await node.call("OPTIONS", "/uploads/")

    assert answer.status == 204
    assert answer.headers["tus-version"] == "1.0.0"
    assert answer.headers["tus-max-size"] == str(LIMIT)
    assert set(answer.headers["tus-extension"].split(",")) == {
        "creation",
        "creation-with-upload",
        "creation-defer-length",
        "termination",
        "expiration",
        "checksum",
        "concatenation",
    }
    assert answer.headers["tus-checksum-algorithm"] == "md5,sha1,sha256"


async def test_an_upload_in_pieces_becomes_a_blob(node: TusNode) -> None:
    path = await node.create(len(CONTENT), Upload_Metadata=metadata(filename="a.txt"))
    assert re.fullmatch("/uploads/[0-9a-f]{40}", path)
    first = await node.patch(path, 0, CONTENT[:300_000])
    assert (first.status, first.headers["upload-offset"]) == (204, "300000")
    assert "x-blob-hash" not in first.headers
    assert node.backend.blobs() == []

    last = await node.patch(path, 300_000, CONTENT[300_000:])

    assert (last.status, last.headers["upload-offset"]) == (204, str(len(CONTENT)))
    assert last.headers["x-blob-hash"] == md5(CONTENT)
    assert last.headers["x-blob-sha256"] == sha256(CONTENT)
    assert node.backend.get(md5(CONTENT)) == CONTENT
    assert node.stored == [("a.txt", "text/plain")]
    assert node.upload_files() == []
    head = await node.tus("HEAD", path)
    assert (head.status, head.headers["x-blob-hash"]) == (200, md5(CONTENT))
    assert head.headers["upload-offset"] == head.headers["upload-length"] == str(len(CONTENT))


async def test_head_tells_what_the_client_said_and_how_far_it_is(node: TusNode) -> None:
    words = metadata(filename="ä.bin", filetype="image/png")
    path = await node.create(10, Upload_Metadata=words)
    await node.patch(path, 0, b"abc")

    answer = await node.tus("HEAD", path)

    assert answer.status == 200
    assert answer.headers["tus-resumable"] == "1.0.0"
    assert answer.headers["cache-control"] == "no-store"
    assert (answer.headers["upload-offset"], answer.headers["upload-length"]) == ("3", "10")
    assert answer.headers["upload-metadata"] == words
    assert parsedate_to_datetime(answer.headers["upload-expires"])
    assert answer.body == b""


@pytest.mark.parametrize("version", [None, "0.2.2", "2.0.0", ""])
async def test_another_version_is_refused(node: TusNode, version: str | None) -> None:
    headers = {"Upload-Length": "3"} | ({} if version is None else {"Tus-Resumable": version})
    answer = await node.call("POST", "/uploads/", headers)

    assert refusal(answer) == (412, "unsupported_version")
    assert answer.headers["tus-version"] == "1.0.0"
    assert node.upload_files() == []


async def test_the_offset_must_be_the_uploads(node: TusNode) -> None:
    path = await node.create(10)
    await node.patch(path, 0, b"abc")

    for offset in (0, 2, 4, 10, 10**30):
        assert refusal(await node.patch(path, offset, b"x")) == (409, "offset_mismatch")
    assert await node.offset(path) == 3


@pytest.mark.parametrize("value", ["-1", "", "x", "1.0", "+1", "0x1", "\xb2", "1 2"])
async def test_an_offset_that_is_no_number_is_refused(node: TusNode, value: str) -> None:
    path = await node.create(10)
    answer = await node.tus(
        "PATCH", path, b"x", Upload_Offset=value, Content_Type="application/offset+octet-stream"
    )
    assert refusal(answer) == (400, "bad_header")


async def test_bytes_come_as_such_alone(node: TusNode) -> None:
    path = await node.create(10)

    for kind in ("", "text/plain", "application/octet-stream"):
        answer = await node.patch(path, 0, b"x", Content_Type=kind)
        assert refusal(answer) == (415, "unsupported_media_type")
    assert await node.offset(path) == 0


async def test_more_than_was_announced_is_refused_before_it_is_read(node: TusNode) -> None:
    path = await node.create(10)

    assert refusal(await node.patch(path, 0, b"x" * 11)) == (413, "too_large")
    assert await node.offset(path) == 0


async def test_a_chunked_body_beyond_the_end_completes_nothing(node: TusNode) -> None:
    path = await node.create(10)
    body = Body()
    body.send(b"x" * 4)
    body.send(b"y" * 7, more=False)

    assert refusal(await node.patch(path, 0, body)) == (413, "too_large")
    assert await node.offset(path) == 4
    assert node.backend.blobs() == []


@pytest.mark.parametrize(
    "path",
    [
        "/uploads/" + "0" * 40,
        "/uploads/x",
        "/uploads/../node.sqlite3",
        "/uploads/..%2fnode.sqlite3",
        "/uploads/" + "0" * 39 + "/",
        "/uploads//etc/passwd",
        "/uploads/" + "A" * 40,
        "/uploads/\0",
    ],
)
@pytest.mark.parametrize("method", ["HEAD", "PATCH", "DELETE"])
async def test_what_is_no_upload_is_not_found(node: TusNode, path: str, method: str) -> None:
    before = sorted(node.folder.rglob("*"))
    answer = await node.tus(
        method, path, Upload_Offset="0", Content_Type="application/offset+octet-stream"
    )
    assert answer.status == 404
    assert sorted(node.folder.rglob("*")) == before


async def test_other_methods_are_refused_by_name(node: TusNode) -> None:
    path = await node.create(3)

    assert (await node.tus("GET", path)).headers["allow"] == "DELETE, HEAD, PATCH"
    assert (await node.tus("PUT", "/uploads/")).headers["allow"] == "POST"


async def test_the_method_may_come_in_a_header(node: TusNode) -> None:
    path = await node.create(3)

    patched = await node.tus(
        "POST",
        path,
        b"abc",
        X_HTTP_Method_Override="PATCH",
        Upload_Offset="0",
        Content_Type="application/offset+octet-stream",
    )

    assert (patched.status, patched.headers["x-blob-hash"]) == (204, md5(b"abc"))
    assert (await node.tus("POST", path, X_HTTP_Method_Override="DELETE")).status == 204
    assert (await node.tus("HEAD", path)).status == 404


async def test_what_came_before_the_line_broke_is_kept(node: TusNode) -> None:
    path = await node.create(len(CONTENT))
    body = Body()
    body.send(CONTENT[:400_000])
    body.send(CONTENT[400_000:400_001])
    body.cut()

    assert (await node.patch(path, 0, body)).status == 0

    assert await node.offset(path) == 400_001
    last = await node.patch(path, 400_001, CONTENT[400_001:])
    assert last.headers["x-blob-hash"] == md5(CONTENT)


async def test_a_newcomer_ends_the_request_that_still_receives(node: TusNode) -> None:
    path = await node.create(10)
    body = Body()
    body.send(b"abcd")
    older = asyncio.create_task(node.patch(path, 0, body))
    await body.taken.wait()

    newcomer = await node.tus("HEAD", path)
    # The server lets a refused client send on for a while.
    body.cut()

    assert refusal(await older) == (423, "upload_locked")
    assert newcomer.status == 200
    offset = int(newcomer.headers["upload-offset"])
    assert (await node.patch(path, offset, b"abcdefghij"[offset:])).status == 204
    assert node.backend.blobs() == [md5(b"abcdefghij")]


async def test_a_newcomer_waits_for_the_piece_that_is_being_written(
    node: TusNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun, gate, write = threading.Event(), threading.Event(), UploadFile.write

    def write_slowly(file: UploadFile, data: bytes) -> None:
        begun.set()
        assert gate.wait(10)
        write(file, data)

    monkeypatch.setattr(UploadFile, "write", write_slowly)
    path = await node.create(len(CONTENT))
    body = Body()
    for offset in range(0, 600_000, 300_000):
        body.send(CONTENT[offset : offset + 300_000])
    older = asyncio.create_task(node.patch(path, 0, body))
    await asyncio.to_thread(begun.wait, 10)
    newcomer = asyncio.create_task(node.tus("HEAD", path))
    for _ in range(10):
        await asyncio.sleep(0)
    gate.set()

    assert (await newcomer).headers["upload-offset"] == "600000"
    body.cut()
    assert (await older).status == 423
    last = await node.patch(path, 600_000, CONTENT[600_000:])
    assert last.headers["x-blob-hash"] == md5(CONTENT)


async def test_the_newest_of_many_requests_wins(node: TusNode) -> None:
    path = await node.create(10)
    bodies = [Body() for _ in range(5)]
    tasks = [asyncio.create_task(node.patch(path, 0, body)) for body in bodies]
    bodies[-1].send(b"0123456789", more=False)
    await tasks[-1]
    # The server lets a refused client send on for a while.
    for body in bodies[:-1]:
        body.cut()

    answers = await asyncio.gather(*tasks)

    assert answers[-1].status == 204
    assert {answer.status for answer in answers[:-1]} == {423}
    assert not node.turns.is_busy(path.removeprefix("/uploads/"))


async def test_an_upload_that_cannot_be_stored_now_is_locked_and_can_be_finished(
    node: TusNode,
) -> None:
    path = await node.create(3)
    node.refusal = BelowQuorum("Only 1 of at least 2 nodes can keep a copy now.")

    assert refusal(await node.patch(path, 0, b"abc")) == (503, "below_write_quorum")
    assert (await node.tus("HEAD", path)).status == 423
    assert refusal(await node.patch(path, 3, b"")) == (503, "below_write_quorum")
    node.refusal = None

    finished = await node.patch(path, 3, b"")
    assert (finished.status, finished.headers["x-blob-hash"]) == (204, md5(b"abc"))
    assert await node.offset(path) == 3
    assert node.upload_files() == []


async def test_head_finishes_what_could_not_be_stored(node: TusNode) -> None:
    path = await node.create(3)
    node.refusal = BelowQuorum("Only 1 of at least 2 nodes can keep a copy now.")
    await node.patch(path, 0, b"abc")
    node.refusal = None
    node.restart()

    answer = await node.tus("HEAD", path)

    assert (answer.status, answer.headers["x-blob-hash"]) == (200, md5(b"abc"))


async def test_the_last_answer_can_be_had_again(node: TusNode) -> None:
    path = await node.create(3)
    await node.patch(path, 0, b"abc")
    node.restart()

    for _ in range(2):
        again = await node.patch(path, 3, b"")
        assert (again.status, again.headers["x-blob-hash"]) == (204, md5(b"abc"))
    assert refusal(await node.patch(path, 3, b"d")) == (413, "too_large")
    assert len(node.stored) == 1


async def test_the_masters_pages_may_read_and_send_what_the_protocol_needs(
    node: TusNode,
) -> None:
    answer = await node.call("OPTIONS", "/uploads/", {"Origin": MASTER})
    assert answer.headers["access-control-allow-origin"] == MASTER
    assert {"PATCH", "HEAD", "DELETE", "POST"} <= set(
        answer.headers["access-control-allow-methods"].split(", ")
    )
    taken = answer.headers["access-control-allow-headers"].lower()
    for name in ("tus-resumable", "upload-length", "upload-metadata", "upload-offset"):
        assert name in taken
    created = await node.tus("POST", "/uploads/", Upload_Length="3", Origin=MASTER)
    assert "Location" in created.headers["access-control-expose-headers"]


async def test_pages_of_other_sites_may_not_upload(node: TusNode) -> None:
    answer = await node.tus("POST", "/uploads/", Upload_Length="3", Origin="https://evil.example")
    assert refusal(answer) == (403, "foreign_origin")
    rebound = await node.tus("POST", "/uploads/", Upload_Length="3", Host="evil.example")
    assert refusal(rebound) == (400, "bad_host")
    assert node.upload_files() == []


async def test_no_file_stays_open(node: TusNode) -> None:
    path = await node.create(10)
    await node.patch(path, 0, b"abc")

    assert not set(node.upload_files()) & set(open_files())
