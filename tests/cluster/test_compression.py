"""Compression at rest in a running cluster: nobody notices, but the disk."""

import random
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import requests

from tests.conftest import StartCluster
from tests.support.blob_backends import decompressed, md5
from tests.support.cluster import Cluster, Server
from tests.support.waiting import eventually

pytestmark = pytest.mark.cluster

SOON = {"COMPRESS_AFTER_SECONDS": "0"}
SMALL = b"".join(b"small line %d\n" % number for number in range(1_500))
LARGE = b"".join(b"line %d of a larger text\n" % number for number in range(80_000))
ZSTD = "gzip, deflate, br, zstd"
KILLS = 5
# Compression goes after everybody else, and a machine that runs tests has much to do.
PATIENCE = 60.0


@dataclass(frozen=True)
class Stored:
    """A compressed blob and a node to read it from."""

    content: bytes
    node: Server

    @property
    def hash(self) -> str:
        return md5(self.content)

    def retrieve(self, method: str = "GET", **headers: str) -> requests.Response:
        named = {"Accept-Encoding": "identity"}
        named |= {name.replace("_", "-"): value for name, value in headers.items()}
        return self.node.request(
            method, "/retrieve", params={"hash": self.hash, "name": "a.txt"}, headers=named
        )


def compressed_paths(cluster: Cluster, content: bytes) -> list[Path]:
    return cluster.blob_paths(f"{md5(content)}.zst")


def is_at_rest(cluster: Cluster, content: bytes, copies: int = 2) -> bool:
    """Tell whether every copy has been compressed, and none is left as it came."""
    there = len(compressed_paths(cluster, content)) == copies
    return there and cluster.blob_paths(md5(content)) == []


def upload(cluster: Cluster, content: bytes, copies: int = 2) -> None:
    answer = cluster.nodes[0].upload(content, "a.txt")
    assert len(answer.json()["replicas"]) == copies
    eventually(lambda: is_at_rest(cluster, content, copies), PATIENCE, what="compressed copies")


@pytest.fixture(scope="module")
def compressing(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    yield from started(tmp_path_factory.mktemp("compressing"), HEARTBEAT_SECONDS="0.3")


@pytest.fixture(scope="module")
def sparse(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """Start a cluster where each blob is on one node alone, and the other has to ask for it."""
    yield from started(tmp_path_factory.mktemp("sparse"), REPLICATION_FACTOR="1")


def started(folder: Path, **settings: str) -> Iterator[Cluster]:
    own = Cluster(folder, **SOON, **settings)
    try:
        own.start()
        own.wait_until_ready()
        yield own
    finally:
        own.stop()


@pytest.fixture(scope="module", params=["small", "large"])
def content(request: pytest.FixtureRequest) -> bytes:
    return SMALL if request.param == "small" else LARGE


@pytest.fixture(scope="module", params=["own copy", "peer's copy"])
def stored(
    request: pytest.FixtureRequest, compressing: Cluster, sparse: Cluster, content: bytes
) -> Stored:
    if request.param == "own copy":
        upload(compressing, content)
        return Stored(content, compressing.nodes[0])
    first, second = sparse.nodes
    for number in range(100):
        varied = content + bytes([number])
        if first.upload(varied, "a.txt").json()["replicas"] == [second.node_id]:
            eventually(partial(is_at_rest, sparse, varied, 1), PATIENCE)
            return Stored(varied, first)
    raise AssertionError("no blob went to the other node")


def test_who_does_not_ask_for_zstd_gets_the_content(stored: Stored) -> None:
    answer = stored.retrieve()

    assert (answer.status_code, answer.content) == (200, stored.content)
    assert answer.headers["ETag"] == f'"{stored.hash}"'
    assert answer.headers["Content-Length"] == str(len(stored.content))
    assert "accept-encoding" in answer.headers["Vary"].lower()
    assert "Content-Encoding" not in answer.headers


def test_who_takes_zstd_gets_the_frames_as_they_are_stored(stored: Stored) -> None:
    answer = stored.retrieve(Accept_Encoding=ZSTD)

    assert answer.status_code == 200
    assert answer.headers["Content-Encoding"] == "zstd"
    assert answer.headers["Content-Type"].startswith("text/plain")
    assert answer.headers["ETag"] == f'"{stored.hash}-zstd"'
    assert "accept-encoding" in answer.headers["Vary"].lower()
    assert answer.headers["Accept-Ranges"] == "bytes"
    body = undecoded(stored)
    assert int(answer.headers["Content-Length"]) == len(body) < len(stored.content) / 2
    assert decompressed(body) == stored.content


def undecoded(stored: Stored) -> bytes:
    """Return the body as it travels; what the client library makes of it is its own affair."""
    with requests.get(
        f"{stored.node.url}/retrieve",
        params={"hash": stored.hash},
        headers={"Accept-Encoding": ZSTD},
        stream=True,
        timeout=15,
    ) as answer:
        return bytes(answer.raw.read(decode_content=False))


@pytest.mark.parametrize("encoding", ["identity", ZSTD])
def test_head_says_the_same_as_get(stored: Stored, encoding: str) -> None:
    get = stored.retrieve(Accept_Encoding=encoding)
    head = stored.retrieve("HEAD", Accept_Encoding=encoding)

    assert (head.status_code, head.content) == (200, b"")
    assert {**head.headers, "date": ""} == {**get.headers, "date": ""}


@pytest.mark.parametrize("encoding", ["identity", ZSTD])
@pytest.mark.parametrize(
    ("asked", "start", "stop"),
    [("bytes=0-9", 0, 10), ("bytes=1000-", 1000, None), ("bytes=-7", -7, None)],
)
def test_a_range_is_always_one_of_the_content(
    stored: Stored, encoding: str, asked: str, start: int, stop: int | None
) -> None:
    answer = stored.retrieve(Range=asked, Accept_Encoding=encoding)

    assert answer.status_code == 206
    assert answer.content == stored.content[start:stop]
    assert answer.headers["Content-Range"].endswith(f"/{len(stored.content)}")
    assert answer.headers["ETag"] == f'"{stored.hash}"'
    assert "Content-Encoding" not in answer.headers


def test_a_range_across_the_frames_is_whole(compressing: Cluster) -> None:
    upload(compressing, LARGE)
    stored = Stored(LARGE, compressing.nodes[1])
    edge = 256 * 1024
    for start, stop in [(edge - 1, edge + 1), (edge, 2 * edge), (edge + 5, len(LARGE) - 5)]:
        answer = stored.retrieve(Range=f"bytes={start}-{stop - 1}")
        assert answer.content == LARGE[start:stop]


def test_if_range_with_the_encoded_etag_gets_the_whole(stored: Stored) -> None:
    answer = stored.retrieve(Range="bytes=0-3", If_Range=f'"{stored.hash}-zstd"')

    assert (answer.status_code, answer.content) == (200, stored.content)


@pytest.mark.parametrize("encoding", ["identity", ZSTD])
@pytest.mark.parametrize("known", ['"{}"', '"{}-zstd"', 'W/"{}-zstd"', '"other", "{}"'])
def test_either_etag_is_known_and_the_answer_names_it(
    stored: Stored, encoding: str, known: str
) -> None:
    condition = known.format(stored.hash)

    answer = stored.retrieve(If_None_Match=condition, Accept_Encoding=encoding)

    assert (answer.status_code, answer.content) == (304, b"")
    assert answer.headers["ETag"] in condition


def test_curl_decodes_what_it_asks_for(stored: Stored) -> None:
    url = f"{stored.node.url}/retrieve?hash={stored.hash}"
    shown = subprocess.run(
        ["curl", "--silent", "--show-error", "--compressed", url],
        capture_output=True,
        check=True,
        timeout=20,
    )
    assert shown.stdout == stored.content


def test_the_same_content_again_is_recognised(stored: Stored) -> None:
    answer = stored.node.upload(stored.content, "again.txt").json()

    assert answer["deduplicated"]


def test_what_is_saved_is_told(compressing: Cluster) -> None:
    upload(compressing, LARGE)

    for node in compressing.nodes:
        health = node.health()
        assert health["stored_bytes"] < health["used_bytes"] / 2
    eventually(lambda: all(map(has_told_of_savings, nodes_on_record(compressing))), PATIENCE)


def nodes_on_record(cluster: Cluster) -> list[dict[str, Any]]:
    return list(cluster.master.get("/api/v1/nodes/").json()["results"])


def has_told_of_savings(node: dict[str, Any]) -> bool:
    return node["stored_bytes"] is not None and node["stored_bytes"] < node["used_bytes"]


def test_a_node_that_is_told_so_compresses_nothing_new_and_reads_what_is_there(
    start_cluster: StartCluster,
) -> None:
    cluster = start_cluster(**SOON)
    upload(cluster, LARGE)
    plain = cluster.add_node(COMPRESSION="off")
    cluster.wait_until_ready()
    assert Stored(LARGE, plain).retrieve().content == LARGE

    contents = [SMALL + bytes([number]) for number in range(30)]
    replicas = [plain.upload(content, "a.txt").json()["replicas"] for content in contents]
    content = next(
        content for content, there in zip(contents, replicas, strict=True) if plain.node_id in there
    )

    eventually(lambda: compressed_paths(cluster, content), PATIENCE, what="the other copy")
    (kept,) = cluster.blob_paths(md5(content))
    assert plain.node_id in str(kept)
    assert [Stored(content, node).retrieve().content for node in cluster.nodes] == [content] * 3


@pytest.mark.parametrize("where", ["frame", "table"])
def test_a_damaged_copy_is_served_from_a_peer(start_cluster: StartCluster, where: str) -> None:
    cluster = start_cluster(**SOON)
    upload(cluster, LARGE)
    own, other = compressed_paths(cluster, LARGE)
    damage(own, 1000 if where == "frame" else -5)

    for node in cluster.nodes:
        answer = Stored(LARGE, node).retrieve()
        assert (answer.status_code, answer.content) == (200, LARGE)

    # With no sound copy left it is a failure, never other bytes.
    damage(other, 1000)
    assert [Stored(LARGE, node).retrieve().status_code for node in cluster.nodes] == [503, 503]


def damage(path: Path, position: int) -> None:
    data = bytearray(path.read_bytes())
    data[position] ^= 255
    path.write_bytes(data)


def has_begun(cluster: Cluster, content: bytes) -> bool:
    """Tell whether the compression of a content is under way, or done on a node already."""
    return bool(cluster.temporary_files() or compressed_paths(cluster, content))


def test_killed_while_it_compresses_a_node_loses_nothing(start_cluster: StartCluster) -> None:
    cluster = start_cluster(**SOON)
    contents = {}
    for number in range(KILLS):
        content = LARGE[number:]
        contents[md5(content)] = content
        assert cluster.nodes[0].upload(content, "a.txt").ok
        server = random.Random(number).choice(cluster.nodes)
        old = cluster.worker(server)
        eventually(partial(has_begun, cluster, content), PATIENCE)
        old.kill()
        eventually(partial(cluster.has_new_worker, server, old), PATIENCE)
        cluster.wait_until_ready()
        for node in cluster.nodes:
            assert Stored(content, node).retrieve().content == content

    for content in contents.values():
        eventually(partial(is_at_rest, cluster, content), PATIENCE, what="compressed copies")
    for node in cluster.nodes:
        for content in contents.values():
            assert Stored(content, node).retrieve().content == content
    eventually(lambda: cluster.temporary_files() == [])
    assert "does not have its digests" not in cluster.log
