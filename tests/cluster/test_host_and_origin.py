"""Which names a node answers to, and which pages may read what it answers."""

import pytest

from tests.conftest import StartCluster
from tests.support.cluster import HOST, Cluster, Server
from tests.support.raw_http import connect, form, send, send_form
from tests.support.refusals import REFUSED_FILE, refusal

pytestmark = pytest.mark.cluster

# After DNS rebinding a foreign page's own name leads to this machine.
FOREIGN = ["rebound.example", "localhost.example", "xlocalhost", "127.0.0.1.example", "", "[::2]"]
OWN = ["localhost", "LocalHost.", HOST, "[::1]"]


@pytest.fixture(scope="module")
def blob_hash(node: Server) -> str:
    return str(node.upload(b"for this machine alone").json()["hash"])


@pytest.mark.parametrize("host", FOREIGN)
@pytest.mark.parametrize("port", ["", ":80", ":{port}"])
def test_another_name_is_refused(node: Server, blob_hash: str, host: str, port: str) -> None:
    named = {"Host": host + port.format(port=node.port)}

    answer = send(node, "GET", f"/retrieve?hash={blob_hash}", named)
    assert refusal(answer) == (400, "bad_host")
    uploaded = send_form(node, form(b"x", disposition=REFUSED_FILE), **named)
    assert refusal(uploaded) == (400, "bad_host")


@pytest.mark.parametrize("host", OWN)
def test_the_machines_own_names_are_answered(node: Server, blob_hash: str, host: str) -> None:
    for name in (host, f"{host}:{node.port}", f"{host}:80"):
        answer = send(node, "GET", f"/retrieve?hash={blob_hash}", {"Host": name})
        assert answer.status == 200, name


@pytest.mark.parametrize(("version", "status"), [("1.0", 200), ("1.1", 400)])
def test_only_old_clients_may_name_no_host(
    node: Server, blob_hash: str, version: str, status: int
) -> None:
    with connect(node) as connection:
        connection.send(f"GET /retrieve?hash={blob_hash} HTTP/{version}\r\n\r\n".encode())
        assert connection.read().status == status


def test_names_that_the_settings_allow_are_answered(start_cluster: StartCluster) -> None:
    cluster = start_cluster(node_count=1, ALLOWED_HOSTS="files.example, .lan")
    for host, status in (
        ("files.example", 404),
        ("Files.Example:8001", 404),
        ("nas.lan", 404),
        ("127.0.0.1", 404),
        ("localhost", 404),
        ("other.example", 400),
    ):
        answer = send(cluster.nodes[0], "GET", f"/retrieve?hash={'0' * 32}", {"Host": host})
        assert answer.status == status, host


def test_caches_keep_the_answers_to_different_origins_apart(
    cluster: Cluster, node: Server, blob_hash: str
) -> None:
    path = f"/retrieve?hash={blob_hash}"
    for headers in ({}, {"Origin": cluster.master.url}, {"Origin": "http://foreign.example"}):
        assert "origin" in send(node, "GET", path, headers).headers["vary"].lower()
