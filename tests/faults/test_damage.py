"""Damage on the disks of a running cluster: no client gets it, and the master hears of it."""

import random
import secrets
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests

from mini_dropbox import secret_files
from mini_dropbox.signing import Signer
from mini_dropbox.wire import SCRUB_PATH
from tests.conftest import StartCluster
from tests.support import damage
from tests.support.blob_backends import md5
from tests.support.cluster import Cluster, Server
from tests.support.damage import Damage
from tests.support.refusals import refusal
from tests.support.waiting import eventually

pytestmark = pytest.mark.faults

MIB = 1024 * 1024
PATIENCE = 30.0


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    own = Cluster(tmp_path_factory.mktemp("damaged"), HEARTBEAT_SECONDS="0.3", COMPRESSION="off")
    try:
        own.start()
        own.wait_until_ready()
        yield own
    finally:
        own.stop()


def uploaded(cluster: Cluster, size: int = 3 * MIB) -> bytes:
    content = secrets.token_bytes(size)
    assert len(cluster.nodes[0].upload(content).json()["replicas"]) == 2
    return content


def copy_of(cluster: Cluster, node: Server, content: bytes) -> Path:
    (path,) = (cluster.data_dir / f"node_{node.node_id}").glob(f"blobs/*/*/{md5(content)}")
    return path


def is_whole(cluster: Cluster, node: Server, content: bytes) -> bool:
    """Tell whether a node has a good copy on its disk, and the master knows of it."""
    folder = cluster.data_dir / f"node_{node.node_id}"
    copies = [path.read_bytes() for path in folder.glob(f"blobs/*/*/{md5(content)}")]
    return copies == [content] and node.node_id in replicas(cluster, content)


def read(node: Server, content: bytes, **headers: str) -> bytes | None:
    """Return a whole answer's body; None for one that says no, or breaks off."""
    try:
        answer = node.retrieve(md5(content), headers=headers)
    except (requests.exceptions.ChunkedEncodingError, requests.ConnectionError):
        return None
    return answer.content if answer.ok else None


def replicas(cluster: Cluster, content: bytes) -> list[str]:
    record = cluster.master.get("/get", params={"hash": md5(content)}).json()
    return list(record["replicas"])


@pytest.mark.parametrize("harm", damage.ALL, ids=lambda harm: harm.__name__)
@pytest.mark.parametrize("asked", [{}, {"Range": "bytes=100-299"}], ids=["whole", "range"])
def test_p14_a_bad_copy_is_never_served_and_replaced_by_a_good_one(
    shared: Cluster, harm: Damage, asked: dict[str, str]
) -> None:
    content = uploaded(shared)
    harmed, other = shared.nodes
    path = copy_of(shared, harmed, content)
    harm(path)
    right = content[100:300] if asked else content

    first = read(harmed, content, **asked)

    assert first in {None, right}
    assert first is not None or not asked
    assert read(harmed, content, **asked) == right
    assert read(other, content, **asked) == right
    eventually(lambda: is_whole(shared, harmed, content), PATIENCE, what="a new copy is made")
    assert len(replicas(shared, content)) == 2
    quarantine = shared.data_dir / f"node_{harmed.node_id}" / "quarantine"
    kept = [each for each in quarantine.glob(f"{md5(content)}.*") if each.suffix != ".json"]
    assert len(kept) == (harm is not damage.delete)


def test_p15_when_no_copy_is_good_the_answer_says_so_until_the_file_is_uploaded_again(
    shared: Cluster,
) -> None:
    content = uploaded(shared)
    for node in shared.nodes:
        damage.flip(copy_of(shared, node, content))

    for _ in range(3):
        for node in shared.nodes:
            assert read(node, content) is None
            assert read(node, content, Range="bytes=0-99") is None
    for node in shared.nodes:
        assert refusal(node.retrieve(md5(content))) == (503, "no_good_copy")
    eventually(lambda: replicas(shared, content) == [])
    assert [refusal(node.retrieve(md5(content))) for node in shared.nodes] == [
        (503, "no_good_copy")
    ] * 2
    assert f"No node has a good copy of {md5(content)}" in shared.log

    assert shared.nodes[1].upload(content).ok

    assert [read(node, content) for node in shared.nodes] == [content] * 2


@pytest.mark.parametrize("size", [1_000, 100_000, 3 * MIB])
def test_p14_a_scrub_finds_what_no_file_system_tells_of(shared: Cluster, size: int) -> None:
    content = uploaded(shared, size)
    harmed = shared.nodes[0]
    path = copy_of(shared, harmed, content)
    damage.flip(path)
    database = shared.data_dir / f"node_{harmed.node_id}" / "node.sqlite3"
    damage.silence(database, md5(content), path)

    progress = scrub(shared, harmed)

    assert progress["running"]
    eventually(lambda: is_whole(shared, harmed, content), PATIENCE, what="a new copy is made")
    assert [read(node, content) for node in shared.nodes] == [content] * 2
    ended = eventually(lambda: ended_round(harmed), what="the pass has ended")
    assert ended["bad_found"] == 1
    assert ended["blobs_checked"] > 0


def scrub(cluster: Cluster, node: Server) -> dict[str, object]:
    secret = secret_files.cluster_secret_path(cluster.data_dir).read_text().strip()
    headers = {"Authorization": Signer(secret, "operator").sign("POST", SCRUB_PATH)}
    answer = node.post(SCRUB_PATH, headers=headers)
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


def ended_round(node: Server) -> dict[str, int]:
    """Return the latest pass once it is over."""
    progress = node.health().get("scrub") or {}
    return progress if progress.get("ended_at") and not progress["running"] else {}


def test_strangers_start_no_scrub(shared: Cluster) -> None:
    node = shared.nodes[0]
    assert refusal(node.post(SCRUB_PATH)) == (401, "not_signed")
    assert node.get(SCRUB_PATH).status_code == 405


def test_a_loss_is_told_by_a_node_that_was_restarted_while_the_master_was_away(
    start_cluster: StartCluster,
) -> None:
    cluster = start_cluster(COMPRESSION="off")
    content = uploaded(cluster)
    harmed = cluster.nodes[0]
    with cluster.frozen(cluster.master):
        damage.truncate(copy_of(cluster, harmed, content))
        assert read(harmed, content) == content
        quarantine = cluster.data_dir / f"node_{harmed.node_id}" / "quarantine"
        eventually(lambda: list(quarantine.glob("*.json")), what="the copy is set aside")
        worker = cluster.worker(harmed)
        worker.kill()
        eventually(lambda: cluster.has_new_worker(harmed, worker), 20, what="it is back")

    eventually(lambda: is_whole(cluster, harmed, content), PATIENCE, what="a new copy is made")
    assert f"Node {harmed.node_id} has lost 1 copies" in cluster.log


def test_the_master_names_no_node_whose_copy_is_lost(start_cluster: StartCluster) -> None:
    # With the second node gone there is nobody to make a new copy from.
    cluster = start_cluster(COMPRESSION="off")
    content = uploaded(cluster)
    harmed, other = cluster.nodes
    with cluster.frozen(other):
        damage.flip(copy_of(cluster, harmed, content))
        assert read(harmed, content, Range="bytes=0-9") is None
        eventually(lambda: replicas(cluster, content) == [other.node_id], PATIENCE)

    eventually(lambda: read(harmed, content) == content, PATIENCE)


def test_a_restart_costs_no_copy_its_trust(start_cluster: StartCluster) -> None:
    cluster = start_cluster(COMPRESSION="off")
    contents = [uploaded(cluster, size) for size in (100_000, 3 * MIB)]
    node = cluster.nodes[0]
    worker = cluster.worker(node)
    worker.kill()
    eventually(lambda: cluster.has_new_worker(node, worker), 20, what="it is back")
    # What is trusted goes to the kernel unread: bytes that change unseen are what shows that.
    database = cluster.data_dir / f"node_{node.node_id}" / "node.sqlite3"
    for content in contents:
        path = copy_of(cluster, node, content)
        damage.flip(path)
        damage.silence(database, md5(content), path)

    answers = [read(node, content) for content in contents]

    assert all(
        answer is not None and answer != content
        for answer, content in zip(answers, contents, strict=True)
    )


def test_a_range_of_a_copy_from_an_earlier_version_is_verified_first(shared: Cluster) -> None:
    content = random.Random(9).randbytes(2 * MIB)
    shared.nodes[0].upload(content)
    path = copy_of(shared, shared.nodes[0], content)
    damage.write(path, content)

    assert read(shared.nodes[0], content, Range="bytes=5-9") == content[5:10]
    assert path.exists()
