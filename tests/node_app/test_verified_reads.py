"""Reads of copies that are not what was stored: never served, set aside, and told of."""

import asyncio
import random
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from mini_dropbox import zerocopy
from mini_dropbox.patient_protocol import PatientProtocol
from mini_dropbox.quick_protocol import QuickProtocol
from node_app import verifier
from node_app.dataplane import retrieve
from node_app.dataplane.bodies import FramesHashing, held_to
from node_app.dataplane.retrieve import INLINE_BYTES
from node_app.errors import BlobDamaged
from node_app.losses import Losses
from node_app.peer_client import PeerAnswer
from tests.support import damage
from tests.support.blob_backends import compressed, md5, sha256
from tests.support.damage import Damage
from tests.support.nodes import node_entry
from tests.support.reading_node import MAX_AGE, ReadingNode, exchange
from tests.support.waiting import eventually_there

NOISE = random.Random(4).randbytes
TEXT = b"".join(b"line %d of a text that repeats itself\n" % number for number in range(30_000))
CONTENTS = {
    "small": NOISE(3_000),
    "one piece": NOISE(INLINE_BYTES + 1),
    "pieces": NOISE(900_000),
    "small, compressed": TEXT[:20_000],
    "compressed": TEXT,
}
ASKED: dict[str, list[str]] = {
    "whole": [],
    "frames": ["Accept-Encoding: zstd"],
    "range": ["Range: bytes=0-9"],
    "long range": ["Range: bytes=1-"],
}
DAMAGES = pytest.mark.parametrize("harm", damage.IN_PLACE, ids=lambda harm: harm.__name__)


@pytest.fixture
def node(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ReadingNode]:
    # The exchange has no socket that the kernel could send to.
    monkeypatch.setattr(zerocopy, "IS_SUPPORTED", False)
    opened = ReadingNode(tmp_path / "node_8009")
    yield opened
    opened.backend.close()


@dataclass(frozen=True)
class Answer:
    """What came over the wire; `is_whole` unless the connection was broken off before the end."""

    status: int
    body: bytes
    is_whole: bool


async def ask(
    node: ReadingNode, content: bytes, *fields: str, method: str = "GET", quick: bool = False
) -> Answer:
    head = f"{method} /retrieve?hash={md5(content)} HTTP/1.1"
    request = "\r\n".join([head, "Host: 127.0.0.1:8009", *fields, "", ""]).encode()
    received = await exchange(node, QuickProtocol if quick else PatientProtocol, [request])
    if not received:
        return Answer(0, b"", is_whole=False)
    top, _, body = received.partition(b"\r\n\r\n")
    lines = top.decode().split("\r\n")
    named = dict(line.lower().split(": ", 1) for line in lines[1:])
    length = 0 if method == "HEAD" else int(named["content-length"])
    return Answer(int(lines[0].split()[1]), body, len(body) == length)


def stored(node: ReadingNode, content: bytes) -> Path:
    """Store a content, compressed if it gains by it, and return its file."""
    node.backend.put(content)
    node.backend.compress()
    path = node.backend.compressed_path(md5(content))
    return path if path.exists() else node.backend.path(md5(content))


async def is_set_aside(node: ReadingNode, content: bytes) -> None:
    await eventually_there(lambda: node.store.record(md5(content)) is None)


@pytest.mark.parametrize("name", CONTENTS)
@pytest.mark.parametrize("asked", ASKED)
@pytest.mark.parametrize("restarted", [False, True])
@DAMAGES
async def test_a_damaged_copy_is_never_served_but_set_aside(
    node: ReadingNode, name: str, asked: str, harm: Damage, *, restarted: bool
) -> None:
    content = CONTENTS[name]
    path = stored(node, content)
    harm(path)
    harmed = path.read_bytes()
    if restarted:
        node.restart()

    answer = await ask(node, content, *ASKED[asked])

    if answer.status == 503:
        assert b"no_good_copy" in answer.body
    else:
        # Only a whole of several pieces is verified while it is sent.
        assert (answer.status, answer.is_whole) == (200, False)
        assert name in {"pieces", "compressed"}
        assert asked == "whole" or "compressed" not in name
    await is_set_aside(node, content)
    assert not path.exists()
    ((moved, kept),) = [
        (each.name, each.read_bytes())
        for each in node.backend.folder.glob("quarantine/*")
        if each.suffix != ".json"
    ]
    assert moved.startswith(f"{path.name}.")
    assert kept == harmed
    assert (await ask(node, content, *ASKED[asked])).status == 404


@pytest.mark.parametrize("name", CONTENTS)
@DAMAGES
async def test_a_head_of_a_damaged_copy_never_names_another_length(
    node: ReadingNode, name: str, harm: Damage
) -> None:
    content = CONTENTS[name]
    path = stored(node, content)
    length = path.stat().st_size
    harm(path)

    answer = await ask(node, content, method="HEAD")

    if path.exists() and path.stat().st_size == length and answer.status == 200:
        return
    assert answer.status == 503
    await is_set_aside(node, content)


@pytest.mark.parametrize("name", CONTENTS)
@pytest.mark.parametrize("method", ["GET", "HEAD"])
async def test_a_copy_that_is_gone_is_noticed(node: ReadingNode, name: str, method: str) -> None:
    content = CONTENTS[name]
    stored(node, content).unlink()

    assert (await ask(node, content, method=method)).status == 404

    await is_set_aside(node, content)
    (loss,), _ = Losses(node.backend.database).oldest()
    assert (loss.hash, loss.reason, loss.found_by) == (md5(content), "missing", "read")
    assert node.backend.quarantined() == {}


async def test_a_blob_that_was_never_here_is_no_loss(node: ReadingNode) -> None:
    assert (await ask(node, b"never stored")).status == 404
    assert len(Losses(node.backend.database)) == 0


async def test_without_the_folder_of_all_blobs_nothing_is_given_up(node: ReadingNode) -> None:
    content = CONTENTS["small"]
    stored(node, content)
    (node.backend.folder / "blobs").rename(node.backend.folder / "elsewhere")

    assert (await ask(node, content)).status == 404
    await eventually_there(lambda: not node.verifier.is_checking(md5(content)))

    assert node.store.record(md5(content)) is not None
    (node.backend.folder / "elsewhere").rename(node.backend.folder / "blobs")
    assert (await ask(node, content)).body == content


async def test_what_is_known_of_a_damaged_copy_is_written_down(node: ReadingNode) -> None:
    content = CONTENTS["pieces"]
    path = stored(node, content)
    damage.flip(path)
    harmed, status = path.read_bytes(), path.stat()

    await ask(node, content)
    await is_set_aside(node, content)

    (evidence,) = node.backend.evidence()
    assert evidence["hash"] == md5(content)
    assert (evidence["reason"], evidence["found_by"]) == ("damaged", "read")
    assert evidence["expected"] == digests(content)
    assert evidence["found"] == digests(harmed)
    assert evidence["file"]["inode"] == status.st_ino
    assert evidence["file"]["mtime_ns"] == status.st_mtime_ns
    (loss,), _ = Losses(node.backend.database).oldest()
    assert (loss.hash, loss.reason, loss.found_by) == (md5(content), "damaged", "read")


def digests(content: bytes) -> dict[str, Any]:
    return {"md5": md5(content), "sha256": sha256(content), "size": len(content)}


async def test_quick_answers_leave_a_damaged_copy_to_the_usual_way(node: ReadingNode) -> None:
    content = CONTENTS["small"]
    path = stored(node, content)
    damage.flip(path)

    assert (await ask(node, content, quick=True)).status == 503
    await is_set_aside(node, content)


async def test_after_an_upload_the_copy_is_whole_again(node: ReadingNode) -> None:
    for content in CONTENTS.values():
        damage.zero(stored(node, content))
        await ask(node, content, "Range: bytes=5-8")
        await is_set_aside(node, content)

        assert not node.backend.put(content)

        assert (await ask(node, content)).body == content
        assert (await ask(node, content, "Range: bytes=5-8")).body == content[5:9]


@pytest.fixture
def verified(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return the hashes of contents that reads verify as they send them."""
    hashes: list[str] = []

    def noted(blob_hash: str, *rest: Any) -> AsyncIterator[bytes]:
        hashes.append(blob_hash)
        return held_to(blob_hash, *rest)

    monkeypatch.setattr(retrieve, "held_to", noted)
    return hashes


LARGE = [name for name in CONTENTS if name != "small"]


def is_noted(node: ReadingNode, content: bytes) -> bool:
    """Tell whether the present file is on disk as verified just now."""
    record = node.store.record(md5(content))
    age = time.time() - (record.verified_at or 0)
    return bool(record.stamp == node.store._stamp(md5(content)) and 0 <= age < MAX_AGE)


@pytest.mark.parametrize("name", LARGE)
async def test_a_copy_is_not_verified_again_before_its_time(
    node: ReadingNode, name: str, verified: list[str]
) -> None:
    content = CONTENTS[name]
    stored(node, content)

    for _ in range(2):
        assert (await ask(node, content)).body == content
        assert (await ask(node, content, "Range: bytes=7-9")).body == content[7:10]
        assert not node.verifier.is_checking(md5(content))
        node.restart()

    assert verified == []


@pytest.mark.parametrize("name", LARGE)
@pytest.mark.parametrize("age", [MAX_AGE + 1, -60.0, None], ids=["old", "future", "never"])
@pytest.mark.parametrize("asked", ASKED)
async def test_a_copy_that_was_not_verified_lately_is_verified_by_one_read(
    node: ReadingNode, name: str, age: float | None, asked: str, verified: list[str]
) -> None:
    content = CONTENTS[name]
    stored(node, content)
    sql = "UPDATE blob SET verified_at = stored_at - ?"
    node.backend.database.write(sql, (age,)).result()
    node.restart()

    first = await ask(node, content, *ASKED[asked])

    assert first.is_whole
    assert first.status in {200, 206}
    assert len(verified) == (asked == "whole" or ("compressed" not in name and asked == "frames"))
    await eventually_there(lambda: is_noted(node, content))
    node.restart()
    again = await ask(node, content, *ASKED[asked])
    assert again == first
    assert len(verified) <= 1


@pytest.mark.parametrize("name", LARGE)
async def test_who_reads_a_whole_content_verifies_it_once_a_day(
    node: ReadingNode, name: str, verified: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(verifier, "WHOLE_SECONDS", MAX_AGE / 2)
    content = CONTENTS[name]
    path = stored(node, content)
    sql = "UPDATE blob SET verified_at = ?"
    node.backend.database.write(sql, (time.time() - MAX_AGE * 3 / 4,)).result()
    node.restart()

    assert (await ask(node, content, "Range: bytes=7-9")).body == content[7:10]
    assert verified == []
    damage.flip(path)
    damage.silence(node.backend.folder / "node.sqlite3", md5(content), path)
    node.restart()

    assert (await ask(node, content)).body != content
    assert verified == [md5(content)]
    await is_set_aside(node, content)


@pytest.mark.parametrize("name", LARGE)
async def test_a_copy_that_was_only_touched_is_verified_and_served(
    node: ReadingNode, name: str, verified: list[str]
) -> None:
    content = CONTENTS[name]
    path = stored(node, content)
    damage.write(path, path.read_bytes())

    for _ in range(2):
        assert (await ask(node, content)).body == content
        await eventually_there(lambda: is_noted(node, content))

    assert verified == [md5(content)]
    assert node.backend.quarantined() == {}


async def test_many_ranges_of_an_unverified_copy_cost_one_reading(node: ReadingNode) -> None:
    content = CONTENTS["pieces"]
    path = stored(node, content)
    damage.write(path, path.read_bytes())
    checks = []
    check = node.store.check

    def counted(*arguments: Any, **options: Any) -> Any:
        checks.append(arguments)
        return check(*arguments, **options)

    node.store.check = counted
    asked = [ask(node, content, f"Range: bytes={n}-{n + 4}") for n in range(12)]
    answers = await asyncio.gather(*asked)

    assert [answer.body for answer in answers] == [content[n : n + 5] for n in range(12)]
    assert len(checks) == 1


class Peer:
    """Answers as a peer whose bytes change on their way."""

    def __init__(self, status: int, body: bytes, headers: dict[str, str]) -> None:
        self._answer = (status, {"Content-Length": str(len(body)), **headers})
        self._body = body

    @asynccontextmanager
    async def open(self, *_: Any) -> AsyncIterator[PeerAnswer]:
        content = asyncio.StreamReader()
        content.feed_data(self._body)
        content.feed_eof()
        yield PeerAnswer(*self._answer, SimpleNamespace(iter_any=self._pieces, read=content.read))

    async def _pieces(self) -> AsyncIterator[bytes]:
        for offset in range(0, len(self._body), 100_000):
            yield self._body[offset : offset + 100_000]


def through_a_peer(
    node: ReadingNode, body: bytes, status: int = 200, **headers: str
) -> ReadingNode:
    node.cluster = SimpleNamespace(holders=lambda _: [node_entry(8002)], suspect=lambda _: None)
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    node.peers = Peer(status, body, named)
    return node


@pytest.mark.parametrize("name", CONTENTS)
@pytest.mark.parametrize("encoding", ["", "zstd"])
async def test_a_relayed_body_is_held_to_its_hash(
    node: ReadingNode, name: str, encoding: str
) -> None:
    content = CONTENTS[name]
    body = compressed(content) if encoding else content
    headers = {"Content_Encoding": encoding} if encoding else {}
    wrong = bytearray(body)
    # Not in the table behind the frames, which no decoder looks at.
    wrong[len(wrong) // 2 if encoding else -1] ^= 1

    right = await ask(through_a_peer(node, body, **headers), content)
    other = await ask(through_a_peer(node, bytes(wrong), **headers), content)

    assert (right.status, right.body, right.is_whole) == (200, body, True)
    assert other.status in {200, 503, 404}
    assert other.status != 200 or not other.is_whole


async def test_a_part_is_relayed_as_the_peer_has_verified_it(node: ReadingNode) -> None:
    answer = await ask(
        through_a_peer(node, b"part", 206, Content_Range="bytes 0-3/9"), b"the whole"
    )
    assert (answer.status, answer.body) == (206, b"part")


async def test_a_peer_whose_copy_is_damaged_too_leaves_no_good_copy(
    node: ReadingNode, caplog: pytest.LogCaptureFixture
) -> None:
    content = CONTENTS["pieces"]
    through_a_peer(node, b'{"code": "damaged_copy"}', 503)

    answer = await ask(node, content)

    assert answer.status == 503
    assert b"no_good_copy" in answer.body
    assert any(record.levelname == "ERROR" for record in caplog.records)


async def test_frames_are_hashed_in_any_pieces_and_damage_is_noticed() -> None:
    frames = compressed(TEXT)
    hashing = FramesHashing()
    for offset in range(0, len(frames), 777):
        hashing.update(frames[offset : offset + 777])
    assert hashing.hexdigest() == md5(TEXT)

    broken = bytearray(frames)
    broken[len(broken) // 2] ^= 1
    with pytest.raises(BlobDamaged):
        FramesHashing().update(bytes(broken))
