"""How a cluster ends: by Ctrl+C, by a kill, and with clients in the middle of something."""

import secrets
import signal
import socket
import time
from contextlib import ExitStack

import pytest

from tests.conftest import StartCluster
from tests.support.cluster import HOST, STOP_SECONDS, Cluster, Server
from tests.support.raw_http import BOUNDARY, Connection, connect, form
from tests.support.waiting import eventually

pytestmark = pytest.mark.cluster

CONTENT = secrets.token_bytes(1_200_000)


def begin_upload(connection: Connection, *, pieces: int = 1) -> list[bytes]:
    """Send an upload's first half and return what is left of it, in pieces."""
    body = form(CONTENT, disposition='name="file"; filename="in-flight.bin"').body
    headers = {"Content-Length": str(len(body))}
    headers["Content-Type"] = f"multipart/form-data; boundary={BOUNDARY}"
    connection.head("POST", "/upload", headers)
    half = len(body) // 2
    connection.send(body[:half])
    step = (len(body) - half) // pieces + 1
    return [body[start : start + step] for start in range(half, len(body), step)]


def assert_ports_are_free(cluster: Cluster) -> None:
    for server in (cluster.master, *cluster.nodes):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((HOST, server.port))


def test_ctrl_c_ends_everything_and_uploads_in_flight_are_finished_or_refused(
    start_cluster: StartCluster,
) -> None:
    cluster = start_cluster()
    quick, slow = cluster.nodes
    with connect(quick) as finishing, connect(slow) as stalling:
        rest = begin_upload(finishing)
        begin_upload(stalling)
        eventually(lambda: len(cluster.temporary_files()) == 2, what="both uploads have begun")
        began = time.monotonic()
        cluster.supervisor.send_signal(signal.SIGINT)
        finishing.send(rest[0])
        finished, refused = finishing.read(), stalling.read()
        code = cluster.supervisor.wait(STOP_SECONDS + 1)
        seconds = time.monotonic() - began

    assert seconds < STOP_SECONDS
    assert code == 0
    assert finished.status == 200
    assert (refused.status, refused.json()["code"]) == (503, "shutting_down")
    assert refused.json()["success"] is False
    assert cluster.processes() == []
    assert_ports_are_free(cluster)
    assert cluster.temporary_files() == []
    assert "Traceback" not in cluster.log

    cluster.start()
    cluster.wait_until_ready()
    listed = eventually(lambda: cluster.master.get("/list").json(), what="the upload is listed")
    assert [record["name"] for record in listed] == ["in-flight.bin"]
    for node in cluster.nodes:
        assert node.retrieve(finished.json()["hash"]).content == CONTENT


def test_ctrl_c_does_not_wait_for_idle_stalled_or_reading_clients(
    start_cluster: StartCluster,
) -> None:
    cluster = start_cluster()
    node = cluster.nodes[0]
    large = node.upload(secrets.token_bytes(9_000_000)).json()["hash"]
    with ExitStack() as clients:
        for server in (cluster.master, *cluster.nodes):
            clients.enter_context(connect(server))
            half = clients.enter_context(connect(server))
            half.send(b"GET /health HTTP/1.1\r\nHo")
            used = clients.enter_context(connect(server))
            used.head("GET", "/health")
            used.read()
        reader = clients.enter_context(connect(node))
        reader.head("GET", f"/retrieve?hash={large}")
        began = time.monotonic()
        code = cluster.interrupt()

    assert time.monotonic() - began < STOP_SECONDS
    assert code == 0
    assert cluster.processes() == []
    assert "Traceback" not in cluster.log


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_stop_while_the_cluster_starts_ends_everything(
    start_cluster: StartCluster, number: signal.Signals
) -> None:
    cluster = start_cluster(ready=False)
    eventually(lambda: cluster.processes()[1:], 20, what="the first child has started")

    cluster.supervisor.send_signal(number)

    assert cluster.supervisor.wait(STOP_SECONDS + 2) == 0
    assert cluster.processes() == []
    assert "Traceback" not in cluster.log


def test_children_of_a_killed_supervisor_end_by_themselves(start_cluster: StartCluster) -> None:
    cluster = start_cluster()
    assert len(cluster.processes()) == 7

    cluster.supervisor.kill()

    eventually(lambda: not cluster.processes(), STOP_SECONDS + 1, what="no process is left")
    assert_ports_are_free(cluster)


def test_a_cluster_that_was_killed_starts_again_with_all_its_files(
    start_cluster: StartCluster,
) -> None:
    cluster = start_cluster()
    hashes = [cluster.nodes[n % 2].upload(b"kept %d" % n).json()["hash"] for n in range(6)]
    for process in cluster.processes():
        process.kill()
    cluster.supervisor.wait()

    cluster.start()
    cluster.wait_until_ready()

    assert {record["hash"] for record in cluster.master.get("/list").json()} == set(hashes)
    for node in cluster.nodes:
        for number, blob_hash in enumerate(hashes):
            assert node.retrieve(blob_hash).content == b"kept %d" % number


def stall(server: Server, number: int, blob_hash: str) -> Connection:
    """Connect as one of three kinds of clients that never go on."""
    connection = Connection(server)
    if number % 3 == 0:
        connection.send(b"POST /upload HTTP/1.1\r\nHost: localhost\r\nContent-")
    elif number % 3 == 1:
        begin_upload(connection)
    else:
        connection.head("GET", f"/retrieve?hash={blob_hash}")
    return connection


def test_two_hundred_stalled_clients_do_not_slow_another(start_cluster: StartCluster) -> None:
    cluster = start_cluster()
    node, peer = cluster.nodes
    large = node.upload(secrets.token_bytes(9_000_000)).json()["hash"]
    with ExitStack() as stalled:
        for number in range(200):
            stalled.callback(stall(node, number, large).close)
        eventually(lambda: len(cluster.temporary_files()) >= 60, what="the uploads have begun")

        seconds = []
        for _ in range(20):
            content = secrets.token_bytes(50_000)
            began = time.monotonic()
            answer = node.upload(content).json()
            assert answer["registered"] is True
            assert node.retrieve(answer["hash"]).content == content
            assert peer.retrieve(answer["hash"]).content == content
            seconds.append(time.monotonic() - began)

    assert sorted(seconds)[len(seconds) // 2] < 0.5
    assert max(seconds) < 3
    eventually(lambda: not cluster.temporary_files(), what="what they sent is removed")
