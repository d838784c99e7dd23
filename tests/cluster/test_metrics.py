"""`/metrics` of a running cluster: what is done moves what is counted, and nothing else does."""

import random
import secrets
from collections.abc import Callable

import pytest
import requests

from tests.support.cluster import Cluster, Server
from tests.support.load import Uploads
from tests.support.raw_http import connect, form
from tests.support.scraping import OPEN_METRICS, Scrape, scrape
from tests.support.waiting import eventually

pytestmark = pytest.mark.cluster

LARGE_BYTES = 3 * 1024 * 1024


@pytest.fixture
def node(cluster: Cluster) -> Server:
    return cluster.nodes[0]


def eventually_moved(server: Server, before: Scrape, by: float, name: str, **labels: str) -> None:
    """Wait until a number has moved, and hold it to have moved by exactly so much.

    A request is counted when it has ended, which may be after its client has the answer.
    """

    def moved() -> float:
        return scrape(server).get(name, **labels) - before.get(name, **labels)

    eventually(lambda: moved() >= by, what=f"{name} {labels} moves by {by}: {moved()}")
    assert moved() == by


@pytest.mark.parametrize("size", [1000, LARGE_BYTES])
def test_an_upload_moves_what_it_should(cluster: Cluster, node: Server, size: int) -> None:
    peer = cluster.nodes[1]
    before = {server: scrape(server) for server in (cluster.master, node, peer)}
    sent = form(secrets.token_bytes(size))

    answer = node.post("/upload", data=sent.body, headers=sent.headers())
    assert answer.status_code == 200
    again = node.post("/upload", data=sent.body, headers=sent.headers())
    assert again.json()["deduplicated"]

    route = {"method": "POST", "route": "/upload"}
    for by, name, labels in [
        (2, "http_requests_total", {**route, "status": "2xx"}),
        (0, "http_requests_total", {**route, "status": "5xx"}),
        (2, "http_request_duration_seconds_count", route),
        (2 * len(sent.body), "http_received_bytes_total", route),
        (len(answer.content) + len(again.content), "http_sent_bytes_total", route),
        (1, "node_blobs", {}),
        (size, "node_content_bytes", {}),
        (2, "node_stored_uploads_total", {}),
        (1, "node_deduplicated_uploads_total", {}),
        (2, "node_replica_pushes_total", {"outcome": "stored"}),
        (0, "node_replica_pushes_total", {"outcome": "failed"}),
    ]:
        eventually_moved(node, before[node], by, name, **labels)
    eventually_moved(peer, before[peer], 1, "node_blobs")
    eventually_moved(peer, before[peer], 0, "node_stored_uploads_total")
    for by, name, labels in [
        (2, "registrations_total", {"outcome": "registered"}),
        (2, "http_requests_total", {**REGISTRATIONS, "status": "2xx"}),
        (1, "cluster_files", {}),
        (1, "cluster_blobs", {"health": "full"}),
    ]:
        eventually_moved(cluster.master, before[cluster.master], by, name, **labels)


REGISTRATIONS = {"method": "POST", "route": "/internal/registrations"}


def test_a_plain_put_is_counted_whole(node: Server) -> None:
    content = secrets.token_bytes(LARGE_BYTES)
    blob_hash = node.upload(content).json()["hash"]
    before = scrape(node)

    assert node.request("PUT", f"/blobs/{blob_hash}", data=content).status_code == 200
    assert node.request("PUT", f"/blobs/{blob_hash}", data=content[1:]).status_code == 400

    route = {"method": "PUT", "route": "/blobs/"}
    eventually_moved(node, before, 2 * LARGE_BYTES - 1, "http_received_bytes_total", **route)
    for status in ("2xx", "4xx"):
        eventually_moved(node, before, 1, "http_requests_total", **route, status=status)


@pytest.mark.parametrize("size", [0, 7, 1000, 60_000, LARGE_BYTES])
def test_downloads_are_counted_however_they_are_answered(node: Server, size: int) -> None:
    blob_hash = node.upload(secrets.token_bytes(size)).json()["hash"]
    url = f"{node.url}/retrieve?hash={blob_hash}"
    before = scrape(node)

    # On one connection, so that small ones are answered before the parser from the second on.
    with requests.Session() as session:
        for _ in range(5):
            assert len(session.get(url).content) == size
        assert session.head(url).status_code == 200
        assert session.get(url, headers={"Range": "bytes=2-5"}).status_code == (
            206 if size else 416
        )
        assert session.get(url, headers={"If-None-Match": f'"{blob_hash}"'}).status_code == 304
        assert session.get(f"{node.url}/retrieve?hash=..").status_code == 400

    route = {"method": "GET", "route": "/retrieve"}
    ranged = 4 if size else 0
    for by, status in [(6 if size else 5, "2xx"), (1, "3xx"), (1 if size else 2, "4xx")]:
        eventually_moved(node, before, by, "http_requests_total", **route, status=status)
    refusal = len(requests.get(f"{node.url}/retrieve?hash=..", timeout=5).content)
    eventually_moved(
        node, before, 5 * size + ranged + 2 * refusal, "http_sent_bytes_total", **route
    )
    head = {"method": "HEAD", "route": "/retrieve"}
    eventually_moved(node, before, 1, "http_requests_total", **head, status="2xx")
    eventually_moved(node, before, 0, "http_sent_bytes_total", **head)


def test_a_reader_that_leaves_has_what_it_took_counted_and_no_more(node: Server) -> None:
    size = 8 * 1024 * 1024
    blob_hash = node.upload(secrets.token_bytes(size)).json()["hash"]
    before = scrape(node)
    route = {"method": "GET", "route": "/retrieve"}

    with requests.get(f"{node.url}/retrieve?hash={blob_hash}", stream=True, timeout=5) as answer:
        assert answer.raw.read(1000)

    eventually_moved(node, before, 1, "http_requests_total", **route, status="2xx")
    sent = scrape(node).get("http_sent_bytes_total", **route)
    assert 1000 <= sent - before.get("http_sent_bytes_total", **route) <= size


def test_a_request_is_in_flight_until_its_client_has_gone(node: Server) -> None:
    route = {"method": "PUT", "route": "/blobs/"}
    before = scrape(node)
    assert before.get("http_requests_in_flight", **route) == 0

    with connect(node) as connection:
        connection.head("PUT", f"/blobs/{'0' * 32}", {"Content-Length": "2"})
        connection.send(b"a")
        eventually(lambda: scrape(node).get("http_requests_in_flight", **route) == 1)

    eventually_moved(node, before, 1, "http_requests_total", **route, status="none")
    eventually_moved(node, before, 1, "http_received_bytes_total", **route)
    assert scrape(node).get("http_requests_in_flight", **route) == 0


def test_no_request_adds_a_series(cluster: Cluster, node: Server) -> None:
    chance = random.Random(5)
    methods = ["GET", "POST", "DELETE", "BREW"]

    def ask(server: Server, path: str, session: requests.Session) -> None:
        session.request(chance.choice(methods), server.url + path, timeout=15, data=b"")

    for server in (node, cluster.master):
        with requests.Session() as session:
            for method in methods:
                for path in ("/none", "/blobs/x", "/uploads/x", "/internal/blobs/x", "/admin/x"):
                    session.request(method, server.url + path, timeout=15, data=b"")
            for path in ("/retrieve", "/get"):
                session.get(server.url + path, timeout=15)
            before = set(scrape(server).values)
            marker = secrets.token_hex(8)
            for number in range(1000):
                begin = chance.choice(["/", "/blobs/", "/uploads/", "/internal/blobs/", "/admin/"])
                ask(server, f"{begin}{marker}{number}?hash={marker}", session)
            session.get(f"{server.url}/retrieve?hash={marker}", timeout=15)
            session.get(f"{server.url}/get?hash={marker}", timeout=15)
        text = server.get("/metrics").text
        assert set(Scrape.of(text).values) == before
        assert marker not in text


def test_scraping_goes_on_under_load(cluster: Cluster) -> None:
    with Uploads(*cluster.nodes) as uploads:
        for _ in range(20):
            for server in (cluster.master, *cluster.nodes):
                seen = scrape(server)
                assert seen.get("unreadable_metrics") == 0
        uploads.wait_for(3)
    assert {outcome.answer.status_code for outcome in uploads.outcomes} == {200}


def test_both_formats_have_the_same_series(cluster: Cluster) -> None:
    for server in (cluster.master, *cluster.nodes):
        for accept in ("", "text/plain;version=abc", "*/*"):
            answer = server.get("/metrics", headers={"Accept": accept})
            assert answer.headers["Content-Type"] == "text/plain; version=0.0.4; charset=utf-8"
        plain = Scrape.of(answer.text)
        answer = server.get("/metrics", headers={"Accept": f"{OPEN_METRICS};version=1.0.0;q=0.5"})
        assert answer.headers["Content-Type"].startswith(f"{OPEN_METRICS}; version=1.0.0")
        assert set(plain.values) == set(Scrape.of(answer.text, is_open=True).values)
        assert plain.values[("process_open_fds", frozenset())] > 0


def test_only_reads_are_taken(cluster: Cluster) -> None:
    for server in (cluster.master, *cluster.nodes):
        assert server.request("HEAD", "/metrics").status_code == 200
        for method in ("POST", "PUT", "DELETE"):
            answer = server.request(method, "/metrics")
            assert (answer.status_code, answer.json()["code"]) == (405, "method_not_allowed")
            assert {"GET", "HEAD"} <= set(answer.headers["Allow"].split(", "))


def test_who_they_are_and_how_they_are_is_said(cluster: Cluster) -> None:
    master = scrape(cluster.master)
    assert master.get("cluster_nodes", state="healthy") == len(cluster.nodes)
    assert master.get("database_usable") == 1
    for node in cluster.nodes:
        seen = scrape(node)
        (labels,) = [dict(labels) for name, labels in seen.values if name.endswith("build_info")]
        assert (labels["role"], labels["node"]) == ("node", node.node_id)
        assert 0 <= seen.get("node_heartbeat_age_seconds") < 5
        assert seen.get("node_writable") == 1
        assert master.get("cluster_node_writable", node=node.node_id) == 1
        assert 0 <= master.get("cluster_node_heartbeat_age_seconds", node=node.node_id) < 5
        assert master.get("cluster_node_free_bytes", node=node.node_id) > 0


def test_a_master_that_is_away_is_seen_from_the_nodes(
    start_cluster: Callable[..., Cluster],
) -> None:
    cluster = start_cluster()
    node = cluster.nodes[0]
    with cluster.frozen(cluster.master):
        eventually(lambda: scrape(node).get("node_heartbeat_age_seconds") > 2, 20)
        assert node.upload(b"while the master is away").json()["registered"] is False
        assert scrape(node).get("node_outbox_registrations") == 1
    eventually(lambda: scrape(node).get("node_heartbeat_age_seconds") < 2, 20)
    eventually(lambda: scrape(node).get("node_outbox_registrations") == 0, 20)


def test_a_node_that_is_away_is_seen_from_the_others(
    start_cluster: Callable[..., Cluster],
) -> None:
    cluster = start_cluster()
    node, away = cluster.nodes
    assert node.upload(b"on both of them").ok
    before = scrape(node)
    with cluster.frozen(away):
        assert node.upload(b"on one of them").json()["replicas"] == [node.node_id]
        eventually_moved(node, before, 1, "node_replica_pushes_total", outcome="failed")
        eventually(lambda: scrape(cluster.master).get("cluster_nodes", state="down") == 1, 20)
        seen = scrape(cluster.master)
        assert seen.get("cluster_blobs", health="degraded") == 2
        assert seen.get("cluster_node_heartbeat_age_seconds", node=away.node_id) > 2
    eventually(lambda: scrape(cluster.master).get("cluster_blobs", health="full") == 1, 20)
