"""`/retrieve` of the wire contract, from a node's own copy and through it from a peer's."""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass

import pytest
import requests

from tests.support.cluster import Cluster, Server

pytestmark = pytest.mark.cluster

CONTENT = bytes(range(256)) * 5
LARGE = bytes(range(251)) * 8000


def md5(content: bytes) -> str:
    return hashlib.md5(content, usedforsecurity=False).hexdigest()


@dataclass(frozen=True)
class Stored:
    """A blob and a node to read it from."""

    content: bytes
    node: Server

    @property
    def hash(self) -> str:
        return md5(self.content)

    @property
    def etag(self) -> str:
        return f'"{self.hash}"'

    def retrieve(self, **headers: str) -> requests.Response:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return self.node.retrieve(self.hash, headers=named)


@pytest.fixture(scope="module")
def sparse(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """Start a cluster where each blob is on one node alone, and the other has to ask for it."""
    own = Cluster(tmp_path_factory.mktemp("sparse"), REPLICATION_FACTOR="1")
    try:
        own.start()
        own.wait_until_ready()
        yield own
    finally:
        own.stop()


@pytest.fixture(scope="module", params=["small", "large"])
def content(request: pytest.FixtureRequest) -> bytes:
    """Return what is answered in one go, and what is streamed."""
    return CONTENT if request.param == "small" else LARGE


@pytest.fixture(scope="module", params=["own copy", "peer's copy"])
def stored(
    request: pytest.FixtureRequest, cluster: Cluster, sparse: Cluster, content: bytes
) -> Stored:
    if request.param == "own copy":
        assert cluster.nodes[0].upload(content, "stored.bin").ok
        return Stored(content, cluster.nodes[0])
    first, second = sparse.nodes
    for number in range(100):
        varied = content + bytes([number])
        if first.upload(varied).json()["replicas"] == [second.node_id]:
            return Stored(varied, first)
    raise AssertionError("no blob went to the other node")


def test_the_bytes_come_with_all_headers(stored: Stored) -> None:
    answer = stored.retrieve()

    assert answer.status_code == 200
    assert answer.content == stored.content
    assert answer.headers["Content-Length"] == str(len(stored.content))
    assert answer.headers["ETag"] == stored.etag
    assert answer.headers["Accept-Ranges"] == "bytes"
    assert "immutable" in answer.headers["Cache-Control"]
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert answer.headers["Content-Disposition"].startswith("attachment")


def test_head_says_the_same_without_the_bytes(stored: Stored) -> None:
    get = stored.retrieve()

    head = stored.node.request("HEAD", "/retrieve", params={"hash": stored.hash})

    assert (head.status_code, head.content) == (200, b"")
    assert {**head.headers, "date": ""} == {**get.headers, "date": ""}


@pytest.mark.parametrize("etags", ["{}", "W/{}", '"other", {}', "*"])
def test_a_known_etag_is_not_sent_again(stored: Stored, etags: str) -> None:
    answer = stored.retrieve(If_None_Match=etags.format(stored.etag))

    assert (answer.status_code, answer.content) == (304, b"")
    assert answer.headers["ETag"] == stored.etag


@pytest.mark.parametrize(
    ("asked", "start", "stop"),
    [
        ("bytes=0-9", 0, 10),
        ("bytes=100-", 100, None),
        ("bytes=-7", -7, None),
        ("bytes=5-5", 5, 6),
        ("bytes=10-999999999999", 10, None),
        ("bytes=-999999999999", 0, None),
    ],
)
def test_one_range_is_answered_with_that_part(
    stored: Stored, asked: str, start: int, stop: int | None
) -> None:
    answer = stored.retrieve(Range=asked)

    assert answer.status_code == 206
    assert answer.content == stored.content[start:stop]
    first = start % len(stored.content)
    last = first + len(answer.content) - 1
    assert answer.headers["Content-Range"] == f"bytes {first}-{last}/{len(stored.content)}"
    assert answer.headers["Content-Length"] == str(len(answer.content))


def test_a_range_beyond_the_end_cannot_be_satisfied(stored: Stored) -> None:
    for asked in (f"bytes={len(stored.content)}-", "bytes=-0"):
        answer = stored.retrieve(Range=asked)
        assert answer.status_code == 416
        assert answer.headers["Content-Range"] == f"bytes */{len(stored.content)}"


@pytest.mark.parametrize(
    "asked", ["bytes=0-1,5-6", "lines=1-2", "bytes=9-3", "bytes=", "bytes=-", "nonsense"]
)
def test_several_or_unknown_ranges_are_answered_with_the_whole(stored: Stored, asked: str) -> None:
    answer = stored.retrieve(Range=asked)

    assert (answer.status_code, answer.content) == (200, stored.content)


def test_if_range_decides_between_part_and_whole(stored: Stored) -> None:
    current = stored.retrieve(Range="bytes=0-3", If_Range=stored.etag)
    outdated = stored.retrieve(Range="bytes=0-3", If_Range='"something else"')

    assert (current.status_code, current.content) == (206, stored.content[:4])
    assert (outdated.status_code, outdated.content) == (200, stored.content)


def test_head_of_a_range_has_its_length(stored: Stored) -> None:
    answer = stored.node.request(
        "HEAD", "/retrieve", params={"hash": stored.hash}, headers={"Range": "bytes=0-9"}
    )

    assert answer.status_code == 206
    assert answer.headers["Content-Length"] == "10"


def test_every_node_serves_what_one_has(cluster: Cluster, sparse: Cluster) -> None:
    for each in (cluster, sparse):
        blob_hash = each.nodes[0].upload(LARGE, "everywhere.bin").json()["hash"]
        for node in each.nodes:
            assert node.retrieve(blob_hash).content == LARGE


def test_an_empty_file_comes_back_empty(cluster: Cluster, sparse: Cluster) -> None:
    for each in (cluster, sparse):
        blob_hash = each.nodes[0].upload(b"", "empty.txt").json()["hash"]
        for node in each.nodes:
            answer = node.retrieve(blob_hash)
            assert (answer.status_code, answer.content) == (200, b"")
            assert answer.headers["Content-Length"] == "0"
