"""Hashes that are none, pages of other sites, strangers on the cluster's own paths, no HTTP."""

import hashlib

import pytest

from mini_dropbox import secret_files
from mini_dropbox.signing import Signer
from tests.support.cluster import Cluster, Server
from tests.support.raw_http import connect, send
from tests.support.refusals import (
    JSON_TYPE,
    REFUSED,
    error_of,
    refusal,
    servers,
)

pytestmark = [pytest.mark.faults, pytest.mark.usefixtures("nothing_is_left_behind")]

BAD_HASHES = [
    "",
    "test123",
    "../../etc/hostname",
    "%2e%2e%2f%2e%2e%2fetc%2fhostname",
    "%252e%252e%252fetc%252fhostname",
    "..%5c..%5cetc%5chostname",
    "%c0%ae%c0%ae%c0%afetc",
    "d41d8cd98f00b204e9800998ecf8427e%00",
    "%00",
    "D41D8CD98F00B204E9800998ECF8427E",
    "d41d8cd98f00b204e9800998ecf8427e0",
    "d41d8cd98f00b204e9800998ecf8427",
    "d41d8cd98f00b204e9800998ecf8427e%0a",
    "+d41d8cd98f00b204e9800998ecf8427e",
    "%EF%BC%90" * 32,
    "d41d8cd9/8f00b204e9800998ecf8427e",
]


class TestHashes:
    @pytest.mark.parametrize("blob_hash", BAD_HASHES)
    def test_p24_nothing_but_an_md5_reaches_the_disk(self, node: Server, blob_hash: str) -> None:
        answer = send(node, "GET", f"/retrieve?hash={blob_hash}")

        assert refusal(answer) == (400, "bad_hash")

    @pytest.mark.parametrize("query", ["", "?", "?hash", "?other=1", "?" + "&" * 5000, "?%"])
    def test_p24_a_missing_hash(self, node: Server, query: str) -> None:
        assert refusal(send(node, "GET", "/retrieve" + query)) == (400, "bad_hash")

    def test_p24_an_unknown_hash(self, cluster: Cluster) -> None:
        for each in cluster.nodes:
            answer = each.retrieve(hashlib.md5(b"in no cluster").hexdigest())
            assert refusal(answer) == (404, "unknown_hash")

    @pytest.mark.parametrize(
        "blob_hash", [value for value in BAD_HASHES if value not in {"", "test123"}]
    )
    def test_p24_the_master_finds_nothing_under_them(
        self, cluster: Cluster, blob_hash: str
    ) -> None:
        answer = send(cluster.master, "GET", f"/get?hash={blob_hash}")

        error_of(answer)
        assert answer.status == 404

    def test_p24_a_record_of_no_md5_cannot_be_retrieved(
        self, cluster: Cluster, node: Server
    ) -> None:
        record = {"hash": "test456", "name": "test.txt", "size": 1, "replicas": []}
        assert cluster.master.post("/register", json=record).ok

        assert refusal(node.retrieve("test456")) == (400, "bad_hash")


class TestForeignPages:
    def test_p24_may_not_upload_or_read(self, node: Server) -> None:
        blob_hash = node.upload(b"not for other sites").json()["hash"]
        for origin in ("https://evil.example", "null", "http://127.0.0.1:1"):
            headers = {"Origin": origin}
            assert refusal(node.upload(b"x", REFUSED, headers=headers)) == (403, "foreign_origin")
            assert refusal(node.retrieve(blob_hash, headers=headers)) == (403, "foreign_origin")

    def test_p24_may_not_ask_before(self, node: Server) -> None:
        headers = {"Origin": "https://evil.example", "Access-Control-Request-Method": "POST"}

        answer = node.request("OPTIONS", "/upload", headers=headers)

        assert answer.status_code == 403
        assert "Access-Control-Allow-Origin" not in answer.headers

    def test_p24_the_masters_own_pages_may(self, cluster: Cluster, node: Server) -> None:
        for origin in (cluster.master.url, cluster.master.url.replace("127.0.0.1", "localhost")):
            asked = {"Origin": origin, "Access-Control-Request-Method": "POST"}
            preflight = node.request("OPTIONS", "/upload", headers=asked)
            assert preflight.status_code == 204
            assert preflight.headers["Access-Control-Allow-Origin"] == origin
            assert "POST" in preflight.headers["Access-Control-Allow-Methods"]
            upload = node.upload(b"from the page", headers={"Origin": origin})
            assert upload.ok
            assert upload.headers["Access-Control-Allow-Origin"] == origin

    def test_p24_a_foreign_host_name_is_refused(self, cluster: Cluster) -> None:
        """A page of a name that was rebound to 127.0.0.1 must not read or upload."""
        for server, path in (
            (cluster.master, "/list"),
            (cluster.master, "/"),
            (cluster.nodes[0], "/health"),
        ):
            answer = server.get(path, headers={"Host": "evil.example"})
            assert answer.status_code == 400, path
            error_of(answer)


class TestTheClustersOwnPaths:
    BODY = b"{}"

    def paths(self, cluster: Cluster) -> list[tuple[Server, str, str]]:
        blob = "/internal/blobs/d41d8cd98f00b204e9800998ecf8427e"
        return [
            (cluster.master, "POST", "/internal/heartbeat"),
            (cluster.master, "POST", "/internal/registrations"),
            *((cluster.nodes[0], method, blob) for method in ("GET", "PUT", "DELETE")),
            (cluster.nodes[0], "GET", "/internal/blobs/../../etc/hostname"),
        ]

    def test_p24_are_closed_without_a_signature(self, cluster: Cluster) -> None:
        for server, method, path in self.paths(cluster):
            answer = server.request(method, path, data=self.BODY, headers=JSON_TYPE)
            if answer.status_code != 404:
                assert (answer.status_code, error_of(answer)["code"]) == (401, "not_signed"), path

    @pytest.mark.parametrize(
        "authorization",
        [
            "Basic YWRtaW46YWRtaW4=",
            "MiniDropbox-HMAC",
            "MiniDropbox-HMAC node=8001,signature=",
            "MiniDropbox-HMAC node=8001,time=x,nonce=,body=,signature=00",
            "MiniDropbox-HMAC " + "," * 5000 + "signature=\u00e4",
        ],
    )
    def test_p24_are_closed_with_a_broken_one(self, cluster: Cluster, authorization: str) -> None:
        headers = {**JSON_TYPE, "Authorization": authorization.encode("latin-1")}
        for server, method, path in self.paths(cluster)[:-1]:
            answer = server.request(method, path, data=self.BODY, headers=headers)
            assert (answer.status_code, error_of(answer)["code"]) == (401, "not_signed"), path

    def test_p24_are_closed_with_another_secret(self, cluster: Cluster) -> None:
        signer = Signer("another cluster's secret", cluster.nodes[1].node_id)
        digest = hashlib.sha256(self.BODY).hexdigest()
        for server, method, path in self.paths(cluster)[:-1]:
            headers = {**JSON_TYPE, "Authorization": signer.sign(method, path, digest)}
            answer = server.request(method, path, data=self.BODY, headers=headers)
            assert (answer.status_code, error_of(answer)["code"]) == (401, "not_signed"), path

    def test_p24_are_closed_when_the_body_is_not_the_signed_one(self, cluster: Cluster) -> None:
        secret = secret_files.cluster_secret_path(cluster.data_dir).read_text().strip()
        signer = Signer(secret, cluster.nodes[1].node_id)
        for server, method, path in self.paths(cluster)[:-1]:
            signed = signer.sign(method, path, hashlib.sha256(b"another body").hexdigest())
            headers = {**JSON_TYPE, "Authorization": signed}
            answer = server.request(method, path, data=self.BODY, headers=headers)
            assert (answer.status_code, error_of(answer)["code"]) == (401, "not_signed"), path

    def test_p24_are_closed_when_the_signature_is_for_another_path_or_too_old(
        self, cluster: Cluster
    ) -> None:
        secret = secret_files.cluster_secret_path(cluster.data_dir).read_text().strip()
        digest = hashlib.sha256(self.BODY).hexdigest()
        for server, method, path in self.paths(cluster)[:-1]:
            for signed in (
                Signer(secret, "8001").sign(method, path + "x", digest),
                Signer(secret, "8001", clock=lambda: 1_000_000.0).sign(method, path, digest),
            ):
                headers = {**JSON_TYPE, "Authorization": signed}
                answer = server.request(method, path, data=self.BODY, headers=headers)
                assert (answer.status_code, error_of(answer)["code"]) == (401, "not_signed"), path


class TestBrokenHttp:
    def test_p24_a_header_section_that_is_too_large(self, cluster: Cluster) -> None:
        for server in servers(cluster):
            answer = send(server, "GET", "/health", {"X-Large": "x" * 300_000})
            assert answer.status in {400, 431}
            error_of(answer)

    def test_p24_too_many_headers(self, cluster: Cluster) -> None:
        for server in servers(cluster):
            headers = {f"X-Header-{n}": "value" for n in range(10_000)}
            answer = send(server, "GET", "/health", headers)
            assert answer.status in {400, 431}
            error_of(answer)

    def test_p24_a_path_that_is_too_long(self, cluster: Cluster) -> None:
        for server in servers(cluster):
            answer = send(server, "GET", "/health?" + "x" * 200_000)
            assert answer.status in {400, 414, 431}
            error_of(answer)

    @pytest.mark.parametrize(
        "request_bytes",
        [
            b"nonsense\r\n\r\n",
            b"GET\r\n\r\n",
            b"GET / HTTP/9.9\r\n\r\n",
            b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
            b"GET /\xff\xfe HTTP/1.1\r\nHost: localhost\r\n\r\n",
            b"GET / HTTP/1.1\r\nHost: localhost\r\nbroken header\r\n\r\n",
            b"GET / HTTP/1.1\r\nHost: localhost\r\nX: a\x00b\r\n\r\n",
        ],
    )
    def test_p24_what_is_no_http(self, cluster: Cluster, request_bytes: bytes) -> None:
        for server in servers(cluster):
            with connect(server) as connection:
                connection.send(request_bytes)
                answer = connection.read()
            assert answer.status == 400
            error_of(answer)

    @pytest.mark.parametrize("target", ["*", "http://[::1", "//", "/%", "/?%zz", "?", "/#x"])
    def test_p24_a_strange_target_is_answered(self, cluster: Cluster, target: str) -> None:
        for server in servers(cluster):
            for method in ("GET", "OPTIONS", "BREW"):
                answer = send(server, method, target)
                assert answer.status < 500, (server, method, target)
