"""Lines between the servers that are cut, and nodes that are too few."""

import random
import secrets
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.faults.audit import audit, outboxes
from tests.faults.conftest import StartMachines
from tests.faults.load import Load
from tests.support.cluster import Cluster, Server
from tests.support.waiting import eventually

pytestmark = pytest.mark.faults

# What a client waits for at most while something hangs.
PATIENCE = 5.0


def blobs_on_disk(cluster: Cluster) -> set[tuple[str, str]]:
    """Return node and address of every replica, compressed or not."""
    paths = cluster.data_dir.glob("node_*/blobs/*/*/*")
    return {(path.parts[-5], path.name.removesuffix(".zst")) for path in paths}


@pytest.mark.parametrize(
    ("count", "silently"), [(1, False), (3, True)], ids=["one by resets", "all by silence"]
)
def test_p07_master_and_nodes_cut_off_from_each_other(
    machines: StartMachines, count: int, *, silently: bool
) -> None:
    cluster = machines(proxied=True)
    cut_off = cluster.nodes[:count]
    with Load(cluster.nodes, seed=random.randrange(10_000)) as load:
        load.wait_for(50)
        before = blobs_on_disk(cluster)
        for node in cut_off:
            cluster.to_master[node].cut(silently=silently)
        for node in cut_off:
            eventually(lambda n=node: is_missed(cluster, n), 20, what="the master misses it")
        load.wait_for(50)
        for node in cut_off:
            cluster.to_master[node].heal()
        eventually(cluster.is_whole, 30, what="all nodes are healthy again")
        load.wait_for(50)
        assert before <= blobs_on_disk(cluster)

    assert load.wrong == []
    assert set(load.journal.answers) <= {200, 503}
    audit(cluster, load.journal)


def is_missed(cluster: Cluster, node: Server) -> bool:
    return cluster.node_states()[node.node_id] == "down"


def test_p08_the_answer_to_a_registration_is_lost(machines: StartMachines) -> None:
    cluster = machines(proxied=True, node_count=2)
    node, _ = cluster.nodes
    line = cluster.to_master[node]
    line.lose_answers_to(b"POST /internal/registrations")
    names = [f"answer {number}.bin" for number in range(20)]
    with ThreadPoolExecutor(len(names)) as threads:
        answers = list(threads.map(lambda n: node.upload(n.encode(), n).json(), names))

    assert {answer["registered"] for answer in answers} == {False}
    assert line.lost_answers > 0
    recorded = eventually(lambda: records_of(cluster, answers), what="the master has recorded some")
    line.heal()
    eventually(lambda: outboxes(cluster) == 0, 20, what="all have been told again")
    again = records_of(cluster, answers)

    assert sorted(record["name"] for record in again) == sorted(names)
    assert all(record in again for record in recorded)
    assert {tuple(record["replicas"]) for record in again} == {
        tuple(sorted(each.node_id for each in cluster.nodes))
    }


def records_of(cluster: Cluster, answers: list[dict[str, str]]) -> list[dict[str, object]]:
    """Return the master's records of these uploads, one for each file."""
    hashes = {answer["hash"] for answer in answers}
    return [record for record in cluster.master.get("/list").json() if record["hash"] in hashes]


def test_p09_fewer_healthy_nodes_than_the_write_quorum(
    machines: StartMachines,
) -> None:
    cluster = machines(node_count=2, WRITE_QUORUM="2")
    first, second = cluster.nodes
    content = secrets.token_bytes(100)

    with cluster.machines[second].frozen():
        answer = first.upload(content, "too-few.bin")

        assert answer.status_code == 503
        assert answer.elapsed.total_seconds() < PATIENCE
        assert answer.json()["success"] is False

    cluster.wait_until_ready()
    assert "too-few.bin" not in cluster.master.get("/list").text
    answer = eventually(lambda: accepted(first, content), what="uploads are taken again")
    assert answer["replicas"] == sorted([first.node_id, second.node_id])


def accepted(node: Server, content: bytes) -> dict[str, object]:
    """Return what a node answers to an upload that it takes."""
    answer = node.upload(content, "enough.bin")
    return dict(answer.json()) if answer.ok else {}
