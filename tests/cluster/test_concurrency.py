"""Many clients at once with the same content, the same name, or two contents of one address."""

import hashlib
import secrets
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.support.cluster import Cluster
from tests.support.md5_collision import colliding_pair
from tests.support.waiting import eventually

pytestmark = pytest.mark.cluster


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def test_one_content_uploaded_everywhere_at_once_is_one_blob(cluster: Cluster) -> None:
    content = secrets.token_bytes(300_000)
    with ThreadPoolExecutor(16) as threads:
        uploads = [
            threads.submit(cluster.nodes[n % 2].upload, content, "at once.bin") for n in range(24)
        ]
        answers = [upload.result() for upload in uploads]

    assert {answer.status_code for answer in answers} == {200}
    (blob_hash,) = {answer.json()["hash"] for answer in answers}
    listed = [f for f in cluster.master.get("/list").json() if f["hash"] == blob_hash]
    assert [(f["name"], f["size"], len(f["replicas"])) for f in listed] == [
        ("at once.bin", len(content), 2)
    ]
    assert {path.read_bytes() for path in cluster.blob_paths(blob_hash)} == {content}
    # A node's own probe of its disk is there for a moment every other second.
    eventually(lambda: not cluster.temporary_files())


def test_many_contents_of_one_name_are_all_kept(cluster: Cluster) -> None:
    contents = [secrets.token_bytes(100) for _ in range(24)]
    with ThreadPoolExecutor(16) as threads:
        uploads = [
            threads.submit(cluster.nodes[n % 2].upload, content, "one name.bin")
            for n, content in enumerate(contents)
        ]
        hashes = {upload.result().json()["hash"] for upload in uploads}

    listed = {f["hash"] for f in cluster.master.get("/list").json() if f["name"] == "one name.bin"}
    assert listed == hashes
    assert len(hashes) == len(contents)


@pytest.mark.parametrize("size", [128, 400_000])
def test_of_two_contents_with_one_md5_that_race_at_most_one_is_kept(
    cluster: Cluster, size: int
) -> None:
    # Sizes differ from one round to the next, so that each has an address of its own.
    for extra in range(6):
        pair = colliding_pair(size + 64 * extra)
        with ThreadPoolExecutor(8) as threads:
            uploads = [
                (threads.submit(cluster.nodes[n % 2].upload, content), content)
                for n, content in enumerate([*pair] * 2 + [*reversed(pair)] * 2)
            ]
            outcomes = [(upload.result(), content) for upload, content in uploads]

        assert {answer.status_code for answer, _ in outcomes} <= {200, 409, 503}
        kept = {sha256(content) for answer, content in outcomes if answer.ok}
        assert len(kept) <= 1, "two contents were acknowledged under one address"
        # Whoever has lost the race may try again; then one of the two has to go through.
        retried = [(cluster.nodes[0].upload(content), content) for content in pair]
        kept |= {sha256(content) for answer, content in retried if answer.ok}
        assert len(kept) == 1
        assert sorted(answer.status_code for answer, _ in retried) == [200, 409]
        blob_hash = next(answer.json()["hash"] for answer, _ in retried if answer.ok)
        record = cluster.master.get("/get", params={"hash": blob_hash}).json()
        assert record["sha256"] in kept
        for node in cluster.nodes:
            assert sha256(node.retrieve(blob_hash).content) in kept
        assert {sha256(path.read_bytes()) for path in cluster.blob_paths(blob_hash)} == kept
