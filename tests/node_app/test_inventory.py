"""What a node says of what it has: in pages, in order, and only of what seems to be there."""

import itertools
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from mini_dropbox.signing import Signer
from mini_dropbox.wire import INVENTORY_NAMES_PATH, INVENTORY_PATH, MAX_INVENTORY_PAGE, Holding
from node_app import blobindex
from node_app.identity import Identity
from tests.support.blob_backends import md5, sha256
from tests.support.raw_http import Answer
from tests.support.tus_node import TusNode
from tests.support.waiting import eventually

SIGNER = Signer("the secret of the cluster", "master")
CONTENTS = [f"content {number}".encode() for number in range(5)]


@pytest.fixture
def node(tmp_path: Path) -> Iterator[TusNode]:
    opened = TusNode(tmp_path)
    opened.signer = Signer("the secret of the cluster", "8009")
    opened.identity = Identity("8009", "a" * 32, "b" * 32)
    yield opened
    opened.close()


def keep(node: TusNode, content: bytes, name: str = "file.txt") -> str:
    with node.store.writer() as writer:
        writer.write(content)
        node.store.commit(writer, name=name, content_type="text/plain")
    return md5(content)


async def ask(node: TusNode, target: str, message: bytes = b"") -> Answer:
    method = "POST" if message else "GET"
    signed = SIGNER.sign(method, target, sha256(message))
    return await node.call(method, target, {"Authorization": signed}, message)


async def page(node: TusNode, target: str) -> dict[str, Any]:
    answer = await ask(node, target)
    assert answer.status == 200, answer
    body: dict[str, Any] = answer.json()
    for blob in body["blobs"]:
        Holding.from_json(blob)
    return body


def names(node: TusNode, blob_hash: str) -> list[str]:
    after = ("", "")
    return [each.name for each in node.store.further_names(after, 100) if each.hash == blob_hash]


@pytest.mark.parametrize("limit", [1, 2, 5, 6])
async def test_pages_together_have_each_blob_once_in_the_order_of_their_hashes(
    node: TusNode, limit: int
) -> None:
    stored = sorted(keep(node, content) for content in CONTENTS)

    found, after = [], ""
    while after is not None:
        body = await page(node, f"{INVENTORY_PATH}?after={after}&limit={limit}")
        assert len(body["blobs"]) <= limit
        assert (body["node_id"], body["total"]) == ("8009", len(CONTENTS))
        assert (body["store_id"], body["cluster_id"]) == ("a" * 32, "b" * 32)
        found += body["blobs"]
        after = body["next"]

    assert [blob["hash"] for blob in found] == stored
    assert {blob["sha256"] for blob in found} == {sha256(content) for content in CONTENTS}
    assert {(blob["size"], blob["name"]) for blob in found} == {(9, "file.txt")}


async def test_a_node_without_blobs_has_an_empty_inventory(node: TusNode) -> None:
    assert (await page(node, INVENTORY_PATH))["blobs"] == []
    assert (await page(node, INVENTORY_NAMES_PATH))["blobs"] == []


async def test_a_blob_keeps_every_name_that_it_came_under_also_through_a_restart(
    node: TusNode,
) -> None:
    known = ["a.txt", "b.txt", "\N{SNOWMAN} & c.txt"]
    for name in (*known, "a.txt", "b.txt"):
        blob_hash = keep(node, b"one content", name)
    keep(node, b"another content", "a.txt")
    eventually(lambda: len(names(node, blob_hash)) == 2, what="the names are committed")
    node.restart()

    assert [blob["name"] for blob in (await page(node, INVENTORY_PATH))["blobs"]] == ["a.txt"] * 2
    found, query = [], "?limit=1"
    for _ in range(3):
        body = await page(node, INVENTORY_NAMES_PATH + query)
        found += body["blobs"]
        if body["next"]:
            name = "".join(f"%{byte:02x}" for byte in body["next"]["after_name"].encode())
            query = f"?limit=1&after={body['next']['after']}&after_name={name}"
    assert body["next"] is None
    assert [blob["name"] for blob in found] == known[1:]
    assert {(blob["hash"], blob["size"], blob["sha256"]) for blob in found} == {
        (blob_hash, 11, sha256(b"one content"))
    }


def test_a_content_that_comes_again_under_its_name_is_noted_with_the_new_time(
    node: TusNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    blob_hash = keep(node, b"content", "a.txt")
    keep(node, b"content", "a.txt")
    assert names(node, blob_hash) == [], "within a minute it is not worth a row"
    later = time.time() + 100
    monkeypatch.setattr(blobindex.time, "time", lambda: later)

    keep(node, b"content", "a.txt")

    (noted,) = eventually(lambda: node.store.further_names(("", ""), 10))
    assert (noted.name, noted.stored_at) == ("a.txt", later)


def test_the_names_of_a_removed_blob_are_forgotten(node: TusNode) -> None:
    for name in ("a.txt", "b.txt"):
        blob_hash = keep(node, b"content", name)
    eventually(lambda: names(node, blob_hash))

    node.store.delete(blob_hash, sha256=sha256(b"content"))
    keep(node, b"content", "c.txt")

    assert names(node, blob_hash) == []


async def test_a_node_is_asked_which_of_some_blobs_it_has(node: TusNode) -> None:
    stored = [keep(node, content) for content in CONTENTS]
    asked = {"hashes": [*stored[:2], md5(b"unknown")]}

    answer = await ask(node, INVENTORY_PATH, json.dumps(asked).encode())

    assert {blob["hash"]: (blob["sha256"], blob["size"]) for blob in answer.json()["blobs"]} == {
        md5(content): (sha256(content), 9) for content in CONTENTS[:2]
    }


@pytest.mark.parametrize("planted", [None, b"cut"])
async def test_what_has_gone_or_lost_its_size_is_not_there(
    node: TusNode, planted: bytes | None
) -> None:
    gone, stays = keep(node, b"goes away"), keep(node, b"stays")
    node.backend.plant(gone, planted)
    asked = json.dumps({"hashes": [gone, stays]}).encode()

    assert [blob["hash"] for blob in (await page(node, INVENTORY_PATH))["blobs"]] == [stays]
    answer = await ask(node, INVENTORY_PATH, asked)
    assert [blob["hash"] for blob in answer.json()["blobs"]] == [stays]


async def test_a_compressed_blob_is_there_with_its_contents_size(node: TusNode) -> None:
    content = b"shrinks " * 10_000
    keep(node, content)
    assert node.backend.compress() == 1

    (blob,) = (await page(node, INVENTORY_PATH))["blobs"]

    assert (blob["hash"], blob["size"]) == (md5(content), len(content))


@pytest.mark.parametrize(
    ("target", "code"),
    [
        ("?limit=0", "bad_query"),
        (f"?limit={MAX_INVENTORY_PAGE + 1}", "bad_query"),
        ("?limit=-1", "bad_query"),
        ("?limit=\N{ARABIC-INDIC DIGIT ONE}", "bad_query"),
        ("?after=../../etc", "bad_hash"),
    ],
)
@pytest.mark.parametrize("path", [INVENTORY_PATH, INVENTORY_NAMES_PATH])
async def test_a_page_that_cannot_be_is_refused(
    node: TusNode, path: str, target: str, code: str
) -> None:
    asked = "".join(c if c.isascii() else "%d9%a1" for c in path + target)
    answer = await ask(node, asked)
    assert (answer.status, answer.json()["code"]) == (400, code)


@pytest.mark.parametrize(
    ("message", "code"),
    [
        (b"not json", "bad_query"),
        (b"[]", "bad_query"),
        (b'{"hashes": "x"}', "bad_query"),
        (json.dumps({"hashes": ["0" * 32] * (MAX_INVENTORY_PAGE + 1)}).encode(), "bad_query"),
        (b'{"hashes": ["../../etc/hostname"]}', "bad_hash"),
        (b'{"hashes": [7]}', "bad_hash"),
    ],
)
async def test_a_question_that_makes_no_sense_is_refused(
    node: TusNode, message: bytes, code: str
) -> None:
    answer = await ask(node, INVENTORY_PATH, message)
    assert (answer.status, answer.json()["code"]) == (400, code)


async def test_strangers_are_told_nothing(node: TusNode) -> None:
    keep(node, b"content")
    message = b'{"hashes": []}'
    stranger = Signer("a guess", "master")
    unsigned = [
        await node.call(method, path, body=message if method == "POST" else b"")
        for method, path in itertools.product(("GET", "POST"), (INVENTORY_PATH,))
    ]
    forged = await node.call(
        "GET", INVENTORY_PATH, {"Authorization": stranger.sign("GET", INVENTORY_PATH)}
    )
    signed = SIGNER.sign("POST", INVENTORY_PATH, sha256(message))
    changed = await node.call("POST", INVENTORY_PATH, {"Authorization": signed}, message + b" ")

    for answer in (*unsigned, forged, changed):
        assert (answer.status, answer.json()["code"]) == (401, "not_signed")


async def test_other_methods_are_refused(node: TusNode) -> None:
    answer = await node.call("DELETE", INVENTORY_PATH)
    assert (answer.status, answer.headers["allow"]) == (405, "GET, POST")
