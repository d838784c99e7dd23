"""However an upload is cut into requests, and whatever interrupts them, it is the same blob."""

import asyncio
import tempfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from node_app.dataplane.tus import receiving
from tests.support.blob_backends import md5
from tests.support.tus_node import Body, TusNode, checksum

PATTERN = bytes(range(251)) * 5000
STEPS = st.tuples(
    st.sampled_from(["whole", "cut", "restart", "checked", "wrong", "taken over", "disk error"]),
    st.integers(0, 900_000),
)


class Upload:
    """A client that sends a content step by step, and asks where it stands after each failure."""

    def __init__(self, node: TusNode, path: str, content: bytes) -> None:
        self.node = node
        self.path = path
        self.content = content
        self.offset = 0

    async def step(self, kind: str, size: int) -> None:
        piece = self.content[self.offset : self.offset + size]
        if kind == "whole":
            answer = await self.node.patch(self.path, self.offset, piece)
            assert answer.status == 204
            self.offset += len(piece)
        elif kind in {"cut", "restart"}:
            await self._cut(piece)
            if kind == "restart":
                self.node.restart()
            await self._ask(self.offset + len(piece))
        elif kind == "taken over":
            await self._be_taken_over(piece)
        elif kind in {"checked", "wrong"}:
            await self._send_checked(piece, is_right=kind == "checked")
        else:
            await self._lose_the_process(piece)

    async def finish(self) -> str:
        answer = await self.node.patch(self.path, self.offset, self.content[self.offset :])
        assert answer.status == 204
        return answer.headers["x-blob-hash"]

    async def _cut(self, piece: bytes) -> None:
        body = Body()
        for start in range(0, len(piece), 100_000):
            body.send(piece[start : start + 100_000])
        body.cut()
        await self.node.patch(self.path, self.offset, body)

    async def _be_taken_over(self, piece: bytes) -> None:
        body = Body()
        body.send(piece)
        older = asyncio.create_task(self.node.patch(self.path, self.offset, body))
        await body.taken.wait()
        await self._ask(self.offset + len(piece))
        body.cut()
        assert (await older).status == 423

    async def _send_checked(self, piece: bytes, *, is_right: bool) -> None:
        if not piece:
            return
        digest = checksum("sha1", piece if is_right else piece + b"x")
        answer = await self.node.patch(self.path, self.offset, piece, Upload_Checksum=digest)
        assert answer.status == (204 if is_right else 460)
        await self._ask(self.offset + len(piece) * is_right)

    async def _lose_the_process(self, piece: bytes) -> None:
        """Write what no row tells of, as a process does that is killed between two checkpoints."""
        upload = self.node.uploads.get(self.path.removeprefix("/uploads/"))
        if upload.is_complete:
            return
        with self.node.uploads.open(upload) as file:
            file.write(piece + b"never acknowledged")
        self.node.restart()
        await self._ask(self.offset)

    async def _ask(self, expected: int) -> None:
        self.offset = await self.node.offset(self.path)
        assert self.offset == expected


async def send(folder: Path, content: bytes, steps: list[tuple[str, int]]) -> None:
    node = TusNode(folder)
    try:
        upload = Upload(node, await node.create(len(content)), content)
        for kind, size in steps:
            await upload.step(kind, size)
        assert await upload.finish() == md5(content)
        assert node.backend.get(md5(content)) == content
        assert len(node.stored) == 1
        assert node.upload_files() == []
    finally:
        node.close()


@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
@given(size=st.integers(0, len(PATTERN)), steps=st.lists(STEPS, max_size=8))
def test_any_way_leads_to_the_same_blob(size: int, steps: list[tuple[str, int]]) -> None:
    with pytest.MonkeyPatch.context() as patched, tempfile.TemporaryDirectory() as folder:
        # So small that a request has several checkpoints.
        patched.setattr(receiving, "CHECKPOINT_BYTES", 70_000)
        asyncio.run(send(Path(folder), PATTERN[:size], steps))
