"""tus 1.0: checksums of single requests."""

import pytest

from tests.support.blob_backends import md5
from tests.support.refusals import refusal
from tests.support.tus_node import Body, TusNode, checksum

CONTENT = bytes(range(256)) * 3000


@pytest.mark.parametrize("algorithm", ["md5", "sha1", "sha256"])
async def test_bytes_with_their_checksum_are_kept(node: TusNode, algorithm: str) -> None:
    path = await node.create(len(CONTENT))
    for offset in range(0, len(CONTENT), 300_000):
        piece = CONTENT[offset : offset + 300_000]
        answer = await node.patch(path, offset, piece, Upload_Checksum=checksum(algorithm, piece))
        assert answer.status == 204

    assert answer.headers["x-blob-hash"] == md5(CONTENT)


async def test_bytes_with_another_checksum_leave_no_trace(node: TusNode) -> None:
    path = await node.create(len(CONTENT))
    await node.patch(path, 0, CONTENT[:300_000])

    answer = await node.patch(
        path, 300_000, bytes(len(CONTENT) - 300_000), Upload_Checksum=checksum("md5", CONTENT)
    )

    assert refusal(answer) == (460, "checksum_mismatch")
    assert await node.offset(path) == 300_000
    assert node.upload_files()[0].stat().st_size == 300_000
    last = await node.patch(path, 300_000, CONTENT[300_000:])
    assert last.headers["x-blob-hash"] == md5(CONTENT)


async def test_bytes_that_end_before_they_could_be_checked_are_dropped(node: TusNode) -> None:
    path = await node.create(len(CONTENT))
    await node.patch(path, 0, CONTENT[:7])
    body = Body()
    body.send(CONTENT[7:500_000])
    body.cut()

    await node.patch(path, 7, body, Upload_Checksum=checksum("sha1", CONTENT[7:]))

    assert await node.offset(path) == 7
    last = await node.patch(path, 7, CONTENT[7:], Upload_Checksum=checksum("sha1", CONTENT[7:]))
    assert last.headers["x-blob-hash"] == md5(CONTENT)


@pytest.mark.parametrize("value", ["", "md5", "crc32 AAAA", "md5 ?", "MD5 AAAA", "sha256"])
async def test_a_checksum_that_says_nothing_is_refused(node: TusNode, value: str) -> None:
    path = await node.create(3)

    answer = await node.patch(path, 0, b"abc", Upload_Checksum=value)

    assert answer.status in {400, 460}
    assert await node.offset(path) == 0
