"""The smoke scripts: they pass where all is well, and fail where it is not."""

import hashlib
import os
import subprocess
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from tests.support.cluster import HOST, PROJECT_DIR, Cluster, free_ports

pytestmark = pytest.mark.cluster

SCRIPTS = {
    "test_health.sh": [],
    "test_master.sh": [],
    "test_upload.sh": [],
    "test_retrieve.sh": [hashlib.md5(b"some blob", usedforsecurity=False).hexdigest()],
    "test_complete.sh": [],
}


def run(script: str, *arguments: str, servers: list[str]) -> subprocess.CompletedProcess[str]:
    master, node1, node2 = servers
    return subprocess.run(
        [PROJECT_DIR / "tests" / "smoke" / script, *arguments],
        env={**os.environ, "MASTER": master, "NODE1": node1, "NODE2": node2},
        check=False,
        capture_output=True,
        text=True,
        timeout=100,
    )


def urls(cluster: Cluster) -> list[str]:
    return [cluster.master.url, *(node.url for node in cluster.nodes)]


class Nonsense(BaseHTTPRequestHandler):
    """Answers every request with success and the same few words."""

    def do_GET(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        body = b'"success": true, "hash": "nonsense"'
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    do_POST = do_HEAD = do_GET  # noqa: N815  the base class chose the names

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture(scope="module")
def nonsense() -> Iterator[str]:
    server = ThreadingHTTPServer((HOST, 0), Nonsense)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://{HOST}:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


def test_everything_passes_on_a_running_cluster(cluster: Cluster) -> None:
    outcome = run("test_complete.sh", servers=urls(cluster))

    assert outcome.returncode == 0, outcome.stdout + outcome.stderr
    assert outcome.stdout.endswith("Everything passed\n")
    assert outcome.stderr == ""


def test_upload_names_the_hash_that_retrieve_takes(cluster: Cluster) -> None:
    uploaded = run("test_upload.sh", servers=urls(cluster))
    blob_hash = uploaded.stdout.splitlines()[-1]

    retrieved = run("test_retrieve.sh", blob_hash, servers=urls(cluster))

    assert (uploaded.returncode, retrieved.returncode) == (0, 0)
    assert f"{cluster.nodes[1].url} serves {blob_hash} whole" in retrieved.stdout


@pytest.mark.parametrize("script", SCRIPTS)
def test_each_fails_where_nobody_listens(script: str) -> None:
    closed = [f"http://{HOST}:{port}" for port in free_ports(3)]

    outcome = run(script, *SCRIPTS[script], servers=closed)

    assert outcome.returncode == 1
    assert "FAILED" in outcome.stderr


@pytest.mark.parametrize("script", SCRIPTS)
def test_each_fails_at_a_server_that_answers_nonsense(nonsense: str, script: str) -> None:
    outcome = run(script, *SCRIPTS[script], servers=[nonsense] * 3)

    assert outcome.returncode == 1
    assert "FAILED" in outcome.stderr


@pytest.mark.parametrize("wrong", range(3))
def test_one_wrong_server_is_enough_to_fail(cluster: Cluster, nonsense: str, wrong: int) -> None:
    servers = urls(cluster)
    servers[wrong] = nonsense

    assert run("test_complete.sh", servers=servers).returncode == 1


def test_retrieve_fails_for_a_hash_that_is_not_stored(cluster: Cluster) -> None:
    outcome = run("test_retrieve.sh", *SCRIPTS["test_retrieve.sh"], servers=urls(cluster))

    assert outcome.returncode == 1
    assert "status 404 instead of 200" in outcome.stderr


def test_retrieve_says_what_it_needs() -> None:
    outcome = run("test_retrieve.sh", servers=["http://localhost:1"] * 3)

    assert outcome.returncode == 1
    assert "<hash>" in outcome.stderr
