"""Processes that die or hang while clients go on."""

import secrets
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
import requests

from tests.conftest import StartCluster
from tests.support.cluster import Cluster, Server
from tests.support.kills import kill_arbiter, kill_both, kill_worker, terminate
from tests.support.load import Uploads
from tests.support.raw_http import connect, form
from tests.support.waiting import eventually

pytestmark = pytest.mark.cluster

# What a client waits for at most while a node hangs.
PATIENCE = 5.0


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """Start three nodes, so that not every node has every blob."""
    folder = tmp_path_factory.mktemp("faults")
    cluster = Cluster(folder, node_count=3, HEARTBEAT_SECONDS="0.3")
    try:
        cluster.start()
        cluster.wait_until_ready()
        yield cluster
    finally:
        cluster.stop()


@pytest.fixture
def faulty(shared: Cluster) -> Cluster:
    """Return the cluster once all of it has recovered from the test before."""
    shared.wait_until_ready()
    return shared


def timed(function: Callable[[], requests.Response]) -> tuple[requests.Response, float]:
    began = time.monotonic()
    return function(), time.monotonic() - began


def assert_everywhere(cluster: Cluster, blobs: list[tuple[str, bytes]]) -> None:
    for node in cluster.nodes:
        for blob_hash, content in blobs:
            answer = node.retrieve(blob_hash)
            assert (answer.status_code, answer.content) == (200, content)


@pytest.mark.parametrize("kill", [kill_worker, kill_arbiter, kill_both, terminate])
def test_a_killed_node_is_not_missed_and_comes_back(
    faulty: Cluster, kill: Callable[[Cluster, Server], None]
) -> None:
    survivor, victim, _ = faulty.nodes
    worker = faulty.worker(victim)
    with Uploads(survivor) as uploads:
        before = uploads.stored()
        kill(faulty, victim)
        for blob_hash, content in before:
            assert survivor.retrieve(blob_hash).content == content
        eventually(lambda: faulty.has_new_worker(victim, worker), 20, what="it is back")
        uploads.wait_for(5)

    assert {outcome.answer.status_code for outcome in uploads.outcomes} == {200}
    assert max(outcome.seconds for outcome in uploads.outcomes) < PATIENCE
    eventually(faulty.is_whole, 15)
    assert_everywhere(faulty, uploads.stored())


def test_a_node_killed_in_the_middle_of_an_upload_keeps_nothing_of_it(faulty: Cluster) -> None:
    node = faulty.nodes[2]
    worker = faulty.worker(node)
    body = form(secrets.token_bytes(3_000_000), disposition='name="file"; filename="half.bin"').body
    with connect(node) as connection:
        headers = form(b"").headers(**{"Content-Length": str(len(body))})
        connection.head("POST", "/upload", headers)
        connection.send(body[:2_000_000])
        eventually(faulty.temporary_files, what="the upload has begun")
        kill_both(faulty, node)

    eventually(lambda: faulty.has_new_worker(node, worker), 20, what="it is back")
    eventually(lambda: faulty.temporary_files() == [])
    assert "half.bin" not in faulty.master.get("/list").text


def test_a_killed_master_costs_no_upload(faulty: Cluster) -> None:
    node = faulty.nodes[0]
    known = node.upload(b"before the master is killed").json()
    kill_both(faulty, faulty.master)

    content = secrets.token_bytes(1_000)
    answer = node.upload(content, "without-master.bin")

    assert answer.status_code == 200
    assert answer.json()["registered"] is False
    assert len(answer.json()["replicas"]) == 2
    for each in faulty.nodes:
        assert each.retrieve(known["hash"]).content == b"before the master is killed"
        assert each.retrieve(answer.json()["hash"]).content == content
    record = eventually(lambda: registered(faulty, answer.json()["hash"]), 20)
    assert record["name"] == "without-master.bin"
    assert record["replicas"] == answer.json()["replicas"]
    eventually(lambda: node.upload(b"after it is back").json()["registered"])


def registered(cluster: Cluster, blob_hash: str) -> dict[str, object]:
    """Return the master's verified record; empty while there is none or no master."""
    try:
        answer = cluster.master.get("/get", params={"hash": blob_hash}, timeout=5)
    except requests.RequestException:
        return {}
    return dict(answer.json()) if answer.ok and answer.json()["verified"] else {}


def test_what_was_put_off_survives_a_restart_of_the_node(faulty: Cluster) -> None:
    node = faulty.nodes[0]
    with faulty.frozen(faulty.master):
        answers = [timed(lambda n=n: node.upload(b"put off %d" % n)) for n in range(3)]
        kill_both(faulty, node)
        eventually(lambda: node.health().get("outbox") == 3, 20, what="the outbox is still there")

    for answer, seconds in answers:
        assert (answer.status_code, answer.json()["registered"]) == (200, False)
        assert seconds < PATIENCE
        eventually(lambda answer=answer: registered(faulty, answer.json()["hash"]), 20)
    eventually(lambda: node.health().get("outbox") == 0, what="the outbox is empty")


def test_reads_go_on_while_the_master_hangs(faulty: Cluster) -> None:
    blobs = [secrets.token_bytes(100) for _ in range(6)]
    hashes = [faulty.nodes[0].upload(blob).json()["hash"] for blob in blobs]

    with faulty.frozen(faulty.master):
        for node in faulty.nodes:
            for blob_hash, blob in zip(hashes, blobs, strict=True):
                answer, seconds = timed(lambda n=node, h=blob_hash: n.retrieve(h))
                assert answer.content == blob
                assert seconds < PATIENCE


def test_a_hanging_node_delays_uploads_by_less_than_five_seconds(faulty: Cluster) -> None:
    hanging, *others = faulty.nodes
    contents = [secrets.token_bytes(size) for size in (1_000, 200_000, 9_000_000) * 3]

    with faulty.frozen(hanging), ThreadPoolExecutor(len(contents)) as threads:
        uploads = [
            threads.submit(timed, lambda n=n, c=content: others[n % 2].upload(c))
            for n, content in enumerate(contents)
        ]
        outcomes = [upload.result() for upload in uploads]

    stored = []
    for (answer, seconds), content in zip(outcomes, contents, strict=True):
        assert answer.status_code in {200, 503}, answer.text
        assert seconds < PATIENCE
        assert hanging.node_id not in answer.json().get("replicas", [])
        if answer.ok:
            stored.append((answer.json()["hash"], content))
    assert stored
    faulty.wait_until_ready()
    assert_everywhere(faulty, stored)


def test_a_hanging_node_delays_reads_by_less_than_five_seconds(faulty: Cluster) -> None:
    contents = [secrets.token_bytes(size) for size in (1_000, 3_000_000) * 4]
    hashes = [faulty.nodes[0].upload(content).json()["hash"] for content in contents]

    with faulty.frozen(faulty.nodes[0]), ThreadPoolExecutor(16) as threads:
        reads = [
            (threads.submit(timed, lambda n=node, h=blob_hash: n.retrieve(h)), content)
            for node in faulty.nodes[1:]
            for blob_hash, content in zip(hashes, contents, strict=True)
        ]
        for read, content in reads:
            answer, seconds = read.result()
            # Every blob has a replica on one of the two at least.
            assert (answer.status_code, answer.content == content) == (200, True)
            assert seconds < PATIENCE


def test_a_lost_peer_is_a_503_and_not_a_404(start_cluster: StartCluster) -> None:
    cluster = start_cluster(node_count=2, REPLICATION_FACTOR="1")
    first, second = cluster.nodes
    contents = [secrets.token_bytes(100) for _ in range(12)]
    uploads = [first.upload(content).json() for content in contents]
    only_second = [upload["hash"] for upload in uploads if upload["replicas"] == [second.node_id]]
    assert only_second

    with cluster.frozen(second):
        answer, seconds = timed(lambda: first.retrieve(only_second[0]))

    assert (answer.status_code, answer.json()["code"]) == (503, "unavailable")
    assert seconds < PATIENCE
