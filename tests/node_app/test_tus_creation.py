"""tus 1.0: creation, with first bytes, with a length told later; termination and expiration."""

import base64
import time
from email.utils import parsedate_to_datetime

import pytest

from node_app import expiry
from node_app.errors import BelowQuorum
from node_app.uploads import EXPIRY_SECONDS
from tests.support.blob_backends import md5
from tests.support.refusals import refusal
from tests.support.tus_node import BODY_TYPE, LIMIT, Body, TusNode, metadata


def upload_id(path: str) -> str:
    return path.removeprefix("/uploads/")


async def let_pass(node: TusNode, seconds: float) -> None:
    node.uploads.age(seconds)
    await expiry.remove_expired(node.uploads, node.turns, node.run)


@pytest.mark.parametrize(
    ("words", "name", "content_type"),
    [
        ({"filename": "a.png", "filetype": "image/x-own"}, "a.png", "image/x-own"),
        ({"name": "b.png", "type": "image/x-own"}, "b.png", "image/x-own"),
        ({"filename": "c.png", "filetype": ""}, "c.png", "image/png"),
        ({"filename": "", "name": "d.txt"}, "d.txt", "text/plain"),
        ({"relativePath": "x/y", "filename": "C:\\x\\ü ☃.txt"}, "ü ☃.txt", "text/plain"),
        ({"filename": "../../etc/passwd"}, "passwd", "application/octet-stream"),
        ({"filename": "e", "filetype": "no type\n"}, "e", "application/octet-stream"),
        ({"filename": "e", "filetype": "a/" + "b" * 9000}, "e", "application/octet-stream"),
        ({}, md5(b"abc"), "application/octet-stream"),
    ],
)
async def test_the_metadata_name_the_file(
    node: TusNode, words: dict[str, str], name: str, content_type: str
) -> None:
    path = await node.create(3, Upload_Metadata=metadata(**words))
    await node.patch(path, 0, b"abc")

    assert node.stored == [(name, content_type)]


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("filename not-base64!", "bad_header"),
        ("filename YQ", "bad_header"),
        ("filename YQ==,filename Yg==", "bad_header"),
        (" , ", "bad_header"),
        ("fil\xe9name YQ==", "bad_header"),
        ("filename YQ==,", "bad_header"),
        ("filename " + base64.b64encode(b"\xff\xfe").decode(), "bad_name"),
        ("filename " + base64.b64encode(b"a\x1b[1m").decode(), "bad_name"),
        ("filename " + base64.b64encode(b"..").decode(), "bad_name"),
        ("filename " + base64.b64encode(b"x" * 256).decode(), "bad_name"),
    ],
)
async def test_metadata_that_cannot_be_used_are_refused(
    node: TusNode, text: str, code: str
) -> None:
    answer = await node.tus("POST", "/uploads/", Upload_Length="3", Upload_Metadata=text)

    assert refusal(answer) == (400, code)
    assert node.upload_files() == []


@pytest.mark.parametrize("text", ["flag", "flag ", "flag,filename YQ==", " filename YQ== , flag"])
async def test_metadata_may_have_keys_without_a_value(node: TusNode, text: str) -> None:
    assert (await node.tus("HEAD", await node.create(3, Upload_Metadata=text))).status == 200


@pytest.mark.parametrize("length", ["", "-1", "x", "1e3", "1.5", "\xb2"])
async def test_a_length_that_is_no_number_is_refused(node: TusNode, length: str) -> None:
    answer = await node.tus("POST", "/uploads/", Upload_Length=length)
    assert refusal(answer) == (400, "bad_header")


@pytest.mark.parametrize("length", [str(LIMIT + 1), str(2**63), "9" * 30, "9" * 5000], ids=len)
async def test_a_length_beyond_the_limit_is_refused(node: TusNode, length: str) -> None:
    answer = await node.tus("POST", "/uploads/", Upload_Length=length)
    assert refusal(answer) == (413, "too_large")
    assert node.upload_files() == []


async def test_a_length_is_needed_now_or_later(node: TusNode) -> None:
    for headers in (
        {},
        {"Upload_Length": "3", "Upload_Defer_Length": "1"},
        {"Upload_Defer_Length": "0"},
        {"Upload_Defer_Length": "yes"},
    ):
        answer = await node.tus("POST", "/uploads/", **headers)
        assert refusal(answer) == (400, "bad_header")


async def test_a_length_may_be_told_later(node: TusNode) -> None:
    created = await node.tus("POST", "/uploads/", Upload_Defer_Length="1")
    path = created.headers["location"]
    await node.patch(path, 0, b"abc")
    head = await node.tus("HEAD", path)
    assert head.headers["upload-defer-length"] == "1"
    assert "upload-length" not in head.headers

    wrong = await node.patch(path, 3, b"", Upload_Length="2")
    assert refusal(wrong) == (400, "bad_header")
    over = await node.patch(path, 3, b"", Upload_Length=str(LIMIT + 1))
    assert refusal(over) == (413, "too_large")
    assert (await node.patch(path, 3, b"d", Upload_Length="5")).status == 204
    assert (await node.tus("HEAD", path)).headers["upload-length"] == "5"
    assert refusal(await node.patch(path, 4, b"e", Upload_Length="6")) == (400, "bad_header")
    last = await node.patch(path, 4, b"e")
    assert last.headers["x-blob-hash"] == md5(b"abcde")


async def test_an_empty_file_is_a_file(node: TusNode) -> None:
    created = await node.tus("POST", "/uploads/", Upload_Length="0")

    assert (created.status, created.headers["x-blob-hash"]) == (201, md5(b""))
    assert node.backend.get(md5(b"")) == b""
    assert (await node.patch(created.headers["location"], 0, b"")).status == 204


async def test_the_first_bytes_may_come_with_the_creation(node: TusNode) -> None:
    created = await node.tus("POST", "/uploads/", b"abc", Upload_Length="5", Content_Type=BODY_TYPE)
    assert (created.status, created.headers["upload-offset"]) == (201, "3")
    await node.patch(created.headers["location"], 3, b"de")

    whole = await node.tus("POST", "/uploads/", b"xyz", Upload_Length="3", Content_Type=BODY_TYPE)
    assert whole.headers["x-blob-hash"] == md5(b"xyz")
    assert node.backend.blobs() == sorted([md5(b"abcde"), md5(b"xyz")])


async def test_a_creation_that_fails_leaves_nothing(node: TusNode) -> None:
    cut = Body()
    cut.send(b"ab")
    cut.cut()
    bodies: list[bytes | Body] = [b"too long", cut]
    for body in bodies:
        await node.tus("POST", "/uploads/", body, Upload_Length="5", Content_Type=BODY_TYPE)
    other = await node.tus("POST", "/uploads/", b"abc", Upload_Length="3", Content_Type="a/b")
    assert refusal(other) == (415, "unsupported_media_type")
    wrong = await node.tus(
        "POST",
        "/uploads/",
        b"abc",
        Upload_Length="3",
        Content_Type=BODY_TYPE,
        Upload_Checksum="md5 AAAA",
    )
    assert refusal(wrong) == (460, "checksum_mismatch")

    assert node.upload_files() == []
    assert node.backend.database.read("SELECT id FROM upload") == []
    assert node.backend.blobs() == []


async def test_nothing_begins_while_too_few_nodes_are_there(node: TusNode) -> None:
    node.refusal = BelowQuorum("Only 1 of at least 2 nodes can keep a copy now.")

    answer = await node.tus("POST", "/uploads/", Upload_Length="3")

    assert refusal(answer) == (503, "below_write_quorum")
    assert node.upload_files() == []


async def test_an_upload_can_be_ended(node: TusNode) -> None:
    path = await node.create(5)
    await node.patch(path, 0, b"abc")

    assert (await node.tus("DELETE", path)).status == 204

    assert node.upload_files() == []
    for method in ("HEAD", "DELETE"):
        assert (await node.tus(method, path)).status == 404


async def test_ending_an_upload_takes_no_blob_away(node: TusNode) -> None:
    path = await node.create(3)
    await node.patch(path, 0, b"abc")

    assert (await node.tus("DELETE", path)).status == 204

    assert node.backend.get(md5(b"abc")) == b"abc"
    assert (await node.tus("HEAD", path)).status == 404


async def test_an_upload_without_progress_is_forgotten_in_the_end(node: TusNode) -> None:
    path, other, done = [await node.create(5) for _ in range(3)]
    await node.patch(done, 0, b"abcde")
    for _ in range(2):
        await let_pass(node, EXPIRY_SECONDS / 2 - 1)
        await node.patch(other, await node.offset(other), b"x")
        node.restart()
    assert (await node.tus("HEAD", path)).status == 200

    await let_pass(node, 2.0)

    assert (await node.tus("HEAD", path)).status == 404
    assert (await node.tus("HEAD", done)).status == 404
    assert await node.offset(other) == 2
    assert [file.name for file in node.upload_files()] == [upload_id(other)]
    assert node.backend.get(md5(b"abcde")) == b"abcde"


async def test_a_clock_that_jumps_lets_nothing_expire(
    node: TusNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = await node.create(5)
    now = time.time()
    for jump in (2 * 86_400, -2 * 86_400):
        monkeypatch.setattr(time, "time", lambda jump=jump: now + jump)
        node.restart()
        await let_pass(node, 1.0)
        head = await node.tus("HEAD", path)
        assert head.status == 200
        remaining = parsedate_to_datetime(head.headers["upload-expires"]).timestamp() - now - jump
        assert EXPIRY_SECONDS - 5 < remaining <= EXPIRY_SECONDS


async def test_an_upload_that_somebody_works_on_does_not_expire(node: TusNode) -> None:
    path = await node.create(5)
    async with node.turns.take(upload_id(path)):
        await let_pass(node, EXPIRY_SECONDS + 1)

    assert (await node.tus("HEAD", path)).status == 200
