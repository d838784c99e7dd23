"""What clients get wrong or mean badly: always one clear refusal, and nothing kept."""

import hashlib
import json
import secrets
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
import requests

from mini_dropbox import secret_files
from mini_dropbox.signing import Signer
from tests.support import md5_collision
from tests.support.cluster import Cluster, Server
from tests.support.raw_http import (
    BOUNDARY,
    Answer,
    Form,
    chunked,
    connect,
    form,
    part,
    send,
    send_form,
)
from tests.support.waiting import eventually

pytestmark = pytest.mark.cluster

LIMIT = 10 * 1024 * 1024
# A worker may keep this many more connections to its peers than before.
SPARE_DESCRIPTORS = 6
JSON_TYPE = {"Content-Type": "application/json"}
# No file of this name may ever be listed.
REFUSED = "refused.bin"
REFUSED_FILE = f'name="file"; filename="{REFUSED}"'


@pytest.fixture(scope="module")
def node(cluster: Cluster) -> Server:
    return cluster.nodes[0]


@pytest.fixture(scope="module", autouse=True)
def nothing_is_left_behind(cluster: Cluster) -> Iterator[None]:
    """Compare descriptors, temporary files, rows and logs before and after all of these tests."""
    for each in cluster.nodes:
        assert each.upload(b"open the connections between the nodes").ok
    before = [descriptors(cluster, server) for server in servers(cluster)]
    yield
    limits = [count + SPARE_DESCRIPTORS for count in before]
    eventually(
        lambda: all(
            descriptors(cluster, server) <= limit
            for server, limit in zip(servers(cluster), limits, strict=True)
        ),
        20,
        what="the open descriptors are as few as before",
    )
    eventually(lambda: not cluster.temporary_files(), what="no temporary files are left")
    assert REFUSED not in names_listed(cluster)
    assert "Traceback" not in cluster.log


def servers(cluster: Cluster) -> list[Server]:
    return [cluster.master, *cluster.nodes]


def descriptors(cluster: Cluster, server: Server) -> int:
    return int(cluster.worker(server).num_fds())


def names_listed(cluster: Cluster) -> set[str]:
    return {record["name"] for record in cluster.master.get("/list").json()}


def error_of(answer: Answer | requests.Response) -> dict[str, Any]:
    """Return an error's body after a look at what every error has."""
    content_type = answer.headers.get("content-type", "")
    assert content_type.startswith("application/json"), answer
    body = answer.json()
    assert isinstance(body["detail"], str)
    assert body["detail"]
    assert isinstance(body["code"], str)
    return dict(body)


def refusal(answer: Answer | requests.Response) -> tuple[int, str]:
    """Return status and code of a node's refusal, as the original's clients and ours read it."""
    body = error_of(answer)
    assert body["success"] is False
    assert body["message"] == body["detail"]
    status = answer.status if isinstance(answer, Answer) else answer.status_code
    return status, body["code"]


class TestBrokenForms:
    def test_a_form_without_a_file_field(self, node: Server) -> None:
        for sent in (
            form(b"x", disposition='name="other"; filename="refused.bin"'),
            form(b"x", disposition='name="file"'),
            Form(b""),
        ):
            assert refusal(send_form(node, sent)) == (400, "missing_file")

    @pytest.mark.parametrize(
        "content_type",
        ["", "application/json", "text/plain", "multipart/form-data", "multipart/form-data; ="],
    )
    def test_a_body_that_is_no_form(self, node: Server, content_type: str) -> None:
        answer = node.post("/upload", data=b"{}", headers={"Content-Type": content_type})

        assert refusal(answer)[0] == 400

    def test_no_body_at_all(self, node: Server) -> None:
        headers = form(b"").headers()

        assert refusal(send(node, "POST", "/upload", headers))[0] in {400, 411}
        assert refusal(send(node, "POST", "/upload", {**headers, "Content-Length": "0"}))[0] == 400

    def test_a_missing_closing_boundary(self, node: Server) -> None:
        whole = form(b"no end", disposition=REFUSED_FILE)

        assert refusal(send_form(node, Form(whole.parts, closing=b""))) == (400, "bad_form")

    def test_a_part_without_its_header(self, node: Server) -> None:
        broken = Form(f"--{BOUNDARY}\r\nno header\r\n".encode())

        assert refusal(send_form(node, broken)) == (400, "bad_form")

    def test_a_boundary_that_never_comes(self, node: Server) -> None:
        assert refusal(send_form(node, Form(b"just bytes", closing=b"")))[0] == 400

    def test_a_huge_number_of_fields(self, node: Server) -> None:
        many = b"".join(part(b"v", disposition=f'name="f{n}"') for n in range(500))
        whole = many + part(b"x", disposition=REFUSED_FILE)

        assert refusal(send_form(node, Form(whole))) == (400, "bad_form")

    def test_a_field_that_is_larger_than_any_field_may_be(self, node: Server) -> None:
        huge = part(b"v" * (LIMIT + 200_000), disposition='name="comment"')

        assert refusal(send_form(node, Form(huge)))[0] in {400, 413}

    def test_of_two_files_the_first_is_kept(self, node: Server) -> None:
        two = Form(
            part(b"the first", disposition='name="file"; filename="first.txt"')
            + part(b"the second", disposition=REFUSED_FILE)
        )

        answer = send_form(node, two)

        assert answer.status == 200
        assert answer.json()["hash"] == hashlib.md5(b"the first").hexdigest()


class TestCutOffBodies:
    def test_a_client_that_vanishes_leaves_nothing(self, cluster: Cluster, node: Server) -> None:
        whole = form(secrets.token_bytes(1_000_000), disposition=REFUSED_FILE)
        with connect(node) as connection:
            connection.head(
                "POST", "/upload", whole.headers(**{"Content-Length": str(len(whole.body))})
            )
            connection.send(whole.body[:500_000])
            eventually(cluster.temporary_files, what="the upload is under way")

        eventually(lambda: not cluster.temporary_files(), what="its bytes are removed")

    def test_a_client_that_half_closes_reads_why(self, node: Server) -> None:
        whole = form(b"x" * 10_000, disposition=REFUSED_FILE)
        with connect(node) as connection:
            connection.head(
                "POST", "/upload", whole.headers(**{"Content-Length": str(len(whole.body))})
            )
            connection.send(whole.body[:5_000])
            connection.half_close()

            assert refusal(connection.read()) == (400, "truncated_body")

    def test_a_client_that_half_closes_after_its_request_reads_the_answer(
        self, node: Server
    ) -> None:
        whole = form(b"all of it is there")
        with connect(node) as connection:
            connection.head(
                "POST", "/upload", whole.headers(**{"Content-Length": str(len(whole.body))})
            )
            connection.send(whole.body)
            connection.half_close()

            assert connection.read().json()["registered"] is True

    def test_a_content_length_that_ends_before_the_form_does(self, node: Server) -> None:
        whole = form(b"x" * 10_000, disposition=REFUSED_FILE)
        with connect(node) as connection:
            headers = {"Content-Length": str(len(whole.body) - 10), "Connection": "close"}
            connection.head("POST", "/upload", whole.headers(**headers))
            connection.send(whole.body)

            assert refusal(connection.read()) == (400, "bad_form")

    @pytest.mark.parametrize("with_closing_boundary", [True, False])
    def test_a_chunked_body_without_its_last_chunk(
        self, node: Server, *, with_closing_boundary: bool
    ) -> None:
        whole = form(b"x" * 10_000, disposition=REFUSED_FILE)
        body = whole.body if with_closing_boundary else whole.parts
        with connect(node) as connection:
            connection.head("POST", "/upload", whole.headers(**{"Transfer-Encoding": "chunked"}))
            connection.send(chunked(body, end=False))
            connection.half_close()

            assert refusal(connection.read()) == (400, "truncated_body")

    def test_a_chunked_body_without_its_closing_boundary(self, node: Server) -> None:
        whole = form(b"x" * 10_000, disposition=REFUSED_FILE)
        headers = whole.headers(**{"Transfer-Encoding": "chunked"})

        answer = send(node, "POST", "/upload", headers, chunked(whole.parts))

        assert refusal(answer) == (400, "bad_form")

    def test_a_chunked_body_in_many_small_pieces_is_whole(self, node: Server) -> None:
        content = secrets.token_bytes(2_000)
        body = form(content).body
        pieces = [body[n : n + 7] for n in range(0, len(body), 7)]
        headers = form(b"").headers(**{"Transfer-Encoding": "chunked"})

        answer = send(node, "POST", "/upload", headers, chunked(*pieces))

        assert answer.json()["hash"] == hashlib.md5(content).hexdigest()

    def test_a_broken_chunk(self, node: Server) -> None:
        headers = form(b"").headers(**{"Transfer-Encoding": "chunked"})

        answer = send(node, "POST", "/upload", headers, b"this is no length\r\n")

        assert refusal(answer)[0] == 400

    def test_both_a_length_and_chunks(self, node: Server) -> None:
        whole = form(b"smuggled", disposition=REFUSED_FILE)
        headers = whole.headers(**{"Transfer-Encoding": "chunked", "Content-Length": "5"})

        answer = send(node, "POST", "/upload", headers, chunked(whole.body))

        assert refusal(answer)[0] == 400

    @pytest.mark.parametrize("length", ["-1", "abc", "1e3", "99999999999999999999999", "5, 6"])
    def test_a_content_length_that_is_no_length(self, node: Server, length: str) -> None:
        headers = form(b"").headers(**{"Content-Length": length})

        assert refusal(send(node, "POST", "/upload", headers))[0] in {400, 413}


class TestSizes:
    def test_exactly_the_limit_is_kept(self, cluster: Cluster, node: Server) -> None:
        content = secrets.token_bytes(LIMIT)

        answer = node.upload(content, "exactly.bin").json()

        assert answer["size"] == LIMIT
        assert cluster.nodes[1].retrieve(answer["hash"]).content == content

    @pytest.mark.parametrize("size", [LIMIT + 1, 11 * 1024 * 1024])
    @pytest.mark.parametrize("as_chunks", [False, True])
    def test_more_is_refused_and_nothing_is_kept(
        self, cluster: Cluster, node: Server, size: int, *, as_chunks: bool
    ) -> None:
        content = secrets.token_bytes(size)
        body = form(content, disposition=REFUSED_FILE).body
        headers = form(b"").headers()

        answer = node.post("/upload", data=iter([body]) if as_chunks else body, headers=headers)

        assert refusal(answer) == (413, "too_large")
        for kept in (content, content[:LIMIT]):
            assert cluster.blob_paths(hashlib.md5(kept).hexdigest()) == []

    @pytest.mark.parametrize("expect", ["Expect: 100-continue", "Expect:"])
    def test_curl_reads_why_a_file_is_too_large(
        self, node: Server, tmp_path: Path, expect: str
    ) -> None:
        (tmp_path / REFUSED).write_bytes(secrets.token_bytes(11 * 1024 * 1024))

        curl = subprocess.run(
            [
                *("curl", "-sS", "-w", "\n%{http_code}", "-H", expect),
                *("-F", f"file=@{tmp_path / REFUSED}", f"{node.url}/upload"),
            ],
            check=True,
            capture_output=True,
            text=True,
            timeout=30,
        )

        body, status = curl.stdout.rsplit("\n", 1)
        assert (status, json.loads(body)["code"]) == ("413", "too_large")
        assert curl.stderr == ""

    def test_an_empty_file_is_a_file(self, cluster: Cluster, node: Server) -> None:
        answer = node.upload(b"", "nothing-in-it.txt").json()

        assert (answer["success"], answer["size"]) == (True, 0)
        assert "nothing-in-it.txt" in names_listed(cluster)


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
    def test_nothing_but_an_md5_reaches_the_disk(self, node: Server, blob_hash: str) -> None:
        answer = send(node, "GET", f"/retrieve?hash={blob_hash}")

        assert refusal(answer) == (400, "bad_hash")

    @pytest.mark.parametrize("query", ["", "?", "?hash", "?other=1", "?" + "&" * 5000, "?%"])
    def test_a_missing_hash(self, node: Server, query: str) -> None:
        assert refusal(send(node, "GET", "/retrieve" + query)) == (400, "bad_hash")

    def test_an_unknown_hash(self, cluster: Cluster) -> None:
        for each in cluster.nodes:
            answer = each.retrieve(hashlib.md5(b"in no cluster").hexdigest())
            assert refusal(answer) == (404, "unknown_hash")

    @pytest.mark.parametrize(
        "blob_hash", [value for value in BAD_HASHES if value not in {"", "test123"}]
    )
    def test_the_master_finds_nothing_under_them(self, cluster: Cluster, blob_hash: str) -> None:
        answer = send(cluster.master, "GET", f"/get?hash={blob_hash}")

        error_of(answer)
        assert answer.status == 404

    def test_a_record_of_no_md5_cannot_be_retrieved(self, cluster: Cluster, node: Server) -> None:
        record = {"hash": "test456", "name": "test.txt", "size": 1, "replicas": []}
        assert cluster.master.post("/register", json=record).ok

        assert refusal(node.retrieve("test456")) == (400, "bad_hash")


class TestRegisterBodies:
    RECORD = {"hash": "bad-input", "name": "test.txt", "size": 1, "replicas": ["8001"]}

    @pytest.mark.parametrize(
        "body",
        [
            b"",
            b"{",
            b"[]",
            b'"text"',
            b"17",
            b"null",
            b"\xff\xfe",
            b'{"hash": "a", "hash"}',
            b"[" * 100_000,
            b'{"a":' * 100_000,
            b'{"size": ' + b"9" * 10_000 + b"}",
        ],
        ids=lambda body: repr(body[:12]),
    )
    def test_a_body_that_is_no_json_object(self, cluster: Cluster, body: bytes) -> None:
        answer = cluster.master.post("/register", data=body, headers=JSON_TYPE)

        assert answer.status_code == 400
        error_of(answer)

    def test_a_body_of_another_type(self, cluster: Cluster) -> None:
        answer = cluster.master.post("/register", data={"hash": "a"})

        assert answer.status_code in {400, 415}
        error_of(answer)

    def test_a_body_that_is_far_too_large(self, cluster: Cluster) -> None:
        body = json.dumps({**self.RECORD, "comment": "x" * 5_000_000})

        answer = cluster.master.post("/register", data=body, headers=JSON_TYPE)

        assert answer.status_code in {400, 413}
        error_of(answer)

    def test_a_truncated_body(self, cluster: Cluster) -> None:
        body = json.dumps(self.RECORD).encode()
        with connect(cluster.master) as connection:
            headers = {**JSON_TYPE, "Content-Length": str(len(body) + 10)}
            connection.head("POST", "/register", headers)
            connection.send(body)
            connection.half_close()
            answer = connection.read()

        assert answer.status == 400
        error_of(answer)
        assert cluster.master.get("/get?hash=bad-input").status_code == 404

    @pytest.mark.parametrize(
        ("field", "value"),
        [
            ("size", -1),
            ("size", "1"),
            ("size", 1.5),
            ("size", 1.0),
            ("size", True),
            ("size", None),
            ("size", 2**63),
            ("size", 10**400),
            ("hash", ""),
            ("hash", "a/b"),
            ("hash", "../etc"),
            ("hash", "a" * 129),
            ("hash", "a\n"),
            ("hash", "ä"),
            ("hash", 17),
            ("hash", None),
            ("hash", ["a"]),
            ("name", ""),
            ("name", " "),
            ("name", "/"),
            ("name", ".."),
            ("name", "a\r\nb"),
            ("name", "a\x00b"),
            ("name", "a" * 300),
            ("name", 17),
            ("name", {"a": 1}),
            ("replicas", "8001"),
            ("replicas", [8001, None]),
            ("replicas", ["../x"]),
            ("replicas", [["8001"]]),
            ("replicas", {"8001": 1}),
            ("replicas", ["8001"] * 5000),
        ],
        ids=lambda value: repr(value)[:24],
    )
    def test_a_field_of_the_wrong_form(self, cluster: Cluster, field: str, value: object) -> None:
        answer = cluster.master.post("/register", json={**self.RECORD, field: value})

        assert answer.status_code == 400
        assert list(error_of(answer)["errors"]) == [field]
        assert cluster.master.get("/get?hash=bad-input").status_code == 404

    @pytest.mark.parametrize("field", ["hash", "name", "size"])
    def test_a_missing_field(self, cluster: Cluster, field: str) -> None:
        body = {name: value for name, value in self.RECORD.items() if name != field}

        answer = cluster.master.post("/register", json=body)

        assert answer.status_code == 400
        assert list(error_of(answer)["errors"]) == [field]

    def test_a_lone_surrogate_in_the_name(self, cluster: Cluster) -> None:
        body = b'{"hash": "bad-input", "name": "a\\ud800b", "size": 1}'

        answer = cluster.master.post("/register", data=body, headers=JSON_TYPE)

        assert answer.status_code == 400
        error_of(answer)

    @pytest.mark.parametrize("value", [b"NaN", b"Infinity", b"-Infinity", b"1e999"])
    def test_a_number_that_json_does_not_have(self, cluster: Cluster, value: bytes) -> None:
        body = b'{"hash": "bad-input", "name": "a", "size": ' + value + b"}"

        answer = cluster.master.post("/register", data=body, headers=JSON_TYPE)

        assert answer.status_code == 400
        error_of(answer)

    @pytest.mark.parametrize(
        ("given", "kept"),
        [
            ("/home/me/notes.txt", "notes.txt"),
            ("C:\\Users\\me\\notes.txt", "notes.txt"),
            ("../../etc/passwd", "passwd"),
            (" notes.txt ", "notes.txt"),
        ],
    )
    def test_of_a_path_the_last_part_is_kept(self, cluster: Cluster, given: str, kept: str) -> None:
        blob_hash = secrets.token_hex(16)

        assert cluster.master.post(
            "/register", json={**self.RECORD, "hash": blob_hash, "name": given}
        ).ok
        assert cluster.master.get("/get", params={"hash": blob_hash}).json()["name"] == kept


class TestNamesOfUploads:
    @pytest.mark.parametrize(
        "name",
        [
            'with "quotes" and \\ in it.txt',
            "Übergröße-文件-🎉.txt",
            "\u202egnp.exe",
            "semi;colon, comma=equals%41.txt",
            "<img src=x onerror=alert(1)>.html",
            "a" * 251 + ".txt",
        ],
    )
    def test_come_back_safely_in_content_disposition(
        self, cluster: Cluster, node: Server, name: str
    ) -> None:
        content = secrets.token_bytes(20)
        blob_hash = node.upload(content).json()["hash"]

        answer = node.get("/retrieve", params={"hash": blob_hash, "name": name})

        kept = name.rsplit("\\", 1)[-1].strip()
        disposition = answer.headers["Content-Disposition"]
        assert disposition.isascii()
        assert disposition.startswith('attachment; filename="')
        assert disposition.count('"') == 2
        assert disposition.endswith(f"; filename*=UTF-8''{quote(kept, safe='')}")
        assert answer.headers["X-Content-Type-Options"] == "nosniff"

    @pytest.mark.parametrize("name", ["a\r\nSet-Cookie: x=1", "a\x00b", "", "..", "x" * 300])
    def test_an_unusable_name_is_replaced_by_the_hash(self, node: Server, name: str) -> None:
        blob_hash = node.upload(b"asked for under a bad name").json()["hash"]

        answer = node.get("/retrieve", params={"hash": blob_hash, "name": name})

        assert answer.status_code == 200
        assert "Set-Cookie" not in answer.headers
        assert f'filename="{blob_hash}"' in answer.headers["Content-Disposition"]

    def test_the_same_name_with_another_content_is_another_file(
        self, cluster: Cluster, node: Server
    ) -> None:
        hashes = {node.upload(content, "same-name.txt").json()["hash"] for content in (b"1", b"2")}

        listed = cluster.master.get("/list").json()

        assert {f["hash"] for f in listed if f["name"] == "same-name.txt"} == hashes

    def test_a_name_in_utf_8_is_kept(self, cluster: Cluster, node: Server) -> None:
        sent = form(b"utf-8 name", disposition='name="file"; filename="Größe 文件.txt"')

        assert send_form(node, sent).status == 200
        assert "Größe 文件.txt" in names_listed(cluster)

    @pytest.mark.parametrize("given", ["..", "/", "a\x01b", "x" * 300])
    def test_an_unusable_name_is_refused(self, node: Server, given: str) -> None:
        sent = form(b"bad name", disposition=f'name="file"; filename="{given}"')

        assert refusal(send_form(node, sent))[0] == 400

    def test_of_a_path_the_last_part_is_kept(self, cluster: Cluster, node: Server) -> None:
        disposition = 'name="file"; filename="C:\\temp\\..\\cut to this.txt"'

        assert send_form(node, form(b"path", disposition=disposition)).status == 200
        assert "cut to this.txt" in names_listed(cluster)


class TestContradictions:
    def test_two_contents_with_one_md5_collide(self, cluster: Cluster) -> None:
        first, second = cluster.nodes
        assert first.upload(md5_collision.FIRST, "first.bin").ok

        for node in (first, second):
            answer = node.upload(md5_collision.SECOND, REFUSED)
            assert refusal(answer) == (409, "hash_collision")

        for node in (first, second):
            assert node.retrieve(md5_collision.COLLIDING_MD5).content == md5_collision.FIRST
        assert {p.read_bytes() for p in cluster.blob_paths(md5_collision.COLLIDING_MD5)} == {
            md5_collision.FIRST
        }

    def test_a_size_that_contradicts_verified_bytes(self, cluster: Cluster, node: Server) -> None:
        blob_hash = node.upload(b"five bytes", "size.txt").json()["hash"]

        record = {"hash": blob_hash, "name": REFUSED, "size": 5, "replicas": []}
        answer = cluster.master.post("/register", json=record)

        assert (answer.status_code, error_of(answer)["code"]) == (409, "size_conflict")


class TestForeignPages:
    def test_may_not_upload_or_read(self, node: Server) -> None:
        blob_hash = node.upload(b"not for other sites").json()["hash"]
        for origin in ("https://evil.example", "null", "http://127.0.0.1:1"):
            headers = {"Origin": origin}
            assert refusal(node.upload(b"x", REFUSED, headers=headers)) == (403, "foreign_origin")
            assert refusal(node.retrieve(blob_hash, headers=headers)) == (403, "foreign_origin")

    def test_may_not_ask_before(self, node: Server) -> None:
        headers = {"Origin": "https://evil.example", "Access-Control-Request-Method": "POST"}

        answer = node.request("OPTIONS", "/upload", headers=headers)

        assert answer.status_code == 403
        assert "Access-Control-Allow-Origin" not in answer.headers

    def test_the_masters_own_pages_may(self, cluster: Cluster, node: Server) -> None:
        for origin in (cluster.master.url, cluster.master.url.replace("127.0.0.1", "localhost")):
            asked = {"Origin": origin, "Access-Control-Request-Method": "POST"}
            preflight = node.request("OPTIONS", "/upload", headers=asked)
            assert preflight.status_code == 204
            assert preflight.headers["Access-Control-Allow-Origin"] == origin
            assert "POST" in preflight.headers["Access-Control-Allow-Methods"]
            upload = node.upload(b"from the page", headers={"Origin": origin})
            assert upload.ok
            assert upload.headers["Access-Control-Allow-Origin"] == origin

    def test_a_foreign_host_name_is_refused(self, cluster: Cluster) -> None:
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

    def test_are_closed_without_a_signature(self, cluster: Cluster) -> None:
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
    def test_are_closed_with_a_broken_one(self, cluster: Cluster, authorization: str) -> None:
        headers = {**JSON_TYPE, "Authorization": authorization.encode("latin-1")}
        for server, method, path in self.paths(cluster)[:-1]:
            answer = server.request(method, path, data=self.BODY, headers=headers)
            assert (answer.status_code, error_of(answer)["code"]) == (401, "not_signed"), path

    def test_are_closed_with_another_secret(self, cluster: Cluster) -> None:
        signer = Signer("another cluster's secret", cluster.nodes[1].node_id)
        digest = hashlib.sha256(self.BODY).hexdigest()
        for server, method, path in self.paths(cluster)[:-1]:
            headers = {**JSON_TYPE, "Authorization": signer.sign(method, path, digest)}
            answer = server.request(method, path, data=self.BODY, headers=headers)
            assert (answer.status_code, error_of(answer)["code"]) == (401, "not_signed"), path

    def test_are_closed_when_the_body_is_not_the_signed_one(self, cluster: Cluster) -> None:
        secret = secret_files.cluster_secret_path(cluster.data_dir).read_text().strip()
        signer = Signer(secret, cluster.nodes[1].node_id)
        for server, method, path in self.paths(cluster)[:-1]:
            signed = signer.sign(method, path, hashlib.sha256(b"another body").hexdigest())
            headers = {**JSON_TYPE, "Authorization": signed}
            answer = server.request(method, path, data=self.BODY, headers=headers)
            assert (answer.status_code, error_of(answer)["code"]) == (401, "not_signed"), path

    def test_are_closed_when_the_signature_is_for_another_path_or_too_old(
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
    def test_a_header_section_that_is_too_large(self, cluster: Cluster) -> None:
        for server in servers(cluster):
            answer = send(server, "GET", "/health", {"X-Large": "x" * 300_000})
            assert answer.status in {400, 431}
            error_of(answer)

    def test_too_many_headers(self, cluster: Cluster) -> None:
        for server in servers(cluster):
            headers = {f"X-Header-{n}": "value" for n in range(10_000)}
            answer = send(server, "GET", "/health", headers)
            assert answer.status in {400, 431}
            error_of(answer)

    def test_a_path_that_is_too_long(self, cluster: Cluster) -> None:
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
    def test_what_is_no_http(self, cluster: Cluster, request_bytes: bytes) -> None:
        for server in servers(cluster):
            with connect(server) as connection:
                connection.send(request_bytes)
                answer = connection.read()
            assert answer.status == 400
            error_of(answer)

    @pytest.mark.parametrize("target", ["*", "http://[::1", "//", "/%", "/?%zz", "?", "/#x"])
    def test_a_strange_target_is_answered(self, cluster: Cluster, target: str) -> None:
        for server in servers(cluster):
            for method in ("GET", "OPTIONS", "BREW"):
                answer = send(server, method, target)
                assert answer.status < 500, (server, method, target)
