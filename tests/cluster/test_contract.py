"""The wire contract of master and nodes, row by row, over a running cluster."""

import hashlib
import io
import json
import time
from collections.abc import Iterator
from dataclasses import dataclass

import pytest
import requests
from PIL import Image

from tests.support.cluster import Cluster, Server
from tests.support.raw_http import send

pytestmark = pytest.mark.cluster

CONTENT = bytes(range(256)) * 5
LARGE = bytes(range(251)) * 8000
JSON = {"Accept": "application/json"}
RECORD = {"hash": "test123", "name": "test.txt", "size": 1024, "replicas": ["8001"]}


def md5(content: bytes) -> str:
    return hashlib.md5(content, usedforsecurity=False).hexdigest()


def register(cluster: Cluster, **changes: object) -> requests.Response:
    return cluster.master.post("/register", json={**RECORD, **changes})


@pytest.fixture(scope="module")
def node(cluster: Cluster) -> Server:
    return cluster.nodes[0]


@dataclass(frozen=True)
class Stored:
    """A blob and a node to read it from."""

    content: bytes
    node: Server

    @property
    def hash(self) -> str:
        return md5(self.content)

    @property
    def etag(self) -> str:
        return f'"{self.hash}"'

    def retrieve(self, **headers: str) -> requests.Response:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return self.node.retrieve(self.hash, headers=named)


@pytest.fixture(scope="module")
def sparse(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """Start a cluster where each blob is on one node alone, and the other has to ask for it."""
    own = Cluster(tmp_path_factory.mktemp("sparse"), REPLICATION_FACTOR="1")
    try:
        own.start()
        own.wait_until_ready()
        yield own
    finally:
        own.stop()


@pytest.fixture(scope="module", params=["small", "large"])
def content(request: pytest.FixtureRequest) -> bytes:
    """Return what is answered in one go, and what is streamed."""
    return CONTENT if request.param == "small" else LARGE


@pytest.fixture(scope="module", params=["own copy", "peer's copy"])
def stored(
    request: pytest.FixtureRequest, cluster: Cluster, sparse: Cluster, content: bytes
) -> Stored:
    if request.param == "own copy":
        assert cluster.nodes[0].upload(content, "stored.bin").ok
        return Stored(content, cluster.nodes[0])
    first, second = sparse.nodes
    for number in range(100):
        varied = content + bytes([number])
        if first.upload(varied).json()["replicas"] == [second.node_id]:
            return Stored(varied, first)
    raise AssertionError("no blob went to the other node")


class TestRegister:
    def test_the_documented_example_is_registered(self, cluster: Cluster) -> None:
        answer = register(cluster)

        assert answer.status_code == 200
        assert answer.json() == {"message": "File registered", "hash": "test123"}

    def test_the_same_again_changes_nothing(self, cluster: Cluster) -> None:
        for _ in range(2):
            assert register(cluster, hash="again").status_code == 200

        assert [f["name"] for f in cluster.master.get("/list").json() if f["hash"] == "again"] == [
            "test.txt"
        ]

    def test_another_name_for_the_hash_adds_a_file(self, cluster: Cluster) -> None:
        for name in ("one.txt", "two.txt"):
            register(cluster, hash="two-names", name=name)

        listed = cluster.master.get("/list").json()
        assert [f["name"] for f in listed if f["hash"] == "two-names"] == ["one.txt", "two.txt"]

    def test_what_no_node_has_confirmed_is_not_verified(self, cluster: Cluster) -> None:
        register(cluster, hash="unconfirmed", replicas=["8001", "8002"])

        record = cluster.master.get("/get?hash=unconfirmed").json()
        assert record["verified"] is False
        assert record["replicas"] == ["8001", "8002"]
        assert record["size"] == 1024

    def test_replicas_may_be_left_out(self, cluster: Cluster) -> None:
        body = {"hash": "no-replicas", "name": "n", "size": 0}

        assert cluster.master.post("/register", json=body).status_code == 200
        assert cluster.master.get("/get?hash=no-replicas").json()["replicas"] == []


class TestGetAndList:
    def test_an_upload_is_found_with_its_replicas(self, cluster: Cluster, node: Server) -> None:
        answer = node.upload(b"to be found", "found.txt", "text/plain").json()

        record = cluster.master.get("/get", params={"hash": answer["hash"]}).json()

        assert record["created_at"]
        assert record == record | {
            "hash": answer["hash"],
            "name": "found.txt",
            "size": 11,
            "replicas": sorted(node.node_id for node in cluster.nodes),
            "verified": True,
            "sha256": hashlib.sha256(b"to be found").hexdigest(),
            "content_type": "text/plain",
        }

    def test_list_shows_the_same_object(self, cluster: Cluster, node: Server) -> None:
        blob_hash = node.upload(b"to be listed", "listed.txt").json()["hash"]

        answer = cluster.master.get("/list")

        assert answer.headers["Content-Type"] == "application/json"
        record = cluster.master.get("/get", params={"hash": blob_hash}).json()
        assert [entry for entry in answer.json() if entry["hash"] == blob_hash] == [record]

    def test_get_without_a_hash_is_refused(self, cluster: Cluster) -> None:
        answer = cluster.master.get("/get")

        assert (answer.status_code, answer.json()["code"]) == (400, "missing_hash")

    def test_get_of_an_unknown_hash_is_not_found(self, cluster: Cluster) -> None:
        answer = cluster.master.get("/get", params={"hash": md5(b"nobody has this")})

        assert (answer.status_code, answer.json()["code"]) == (404, "unknown_hash")


class TestHealth:
    def test_every_process_says_ok_as_text(self, cluster: Cluster) -> None:
        for server in (cluster.master, *cluster.nodes):
            for accept in ("*/*", "text/plain", "text/html"):
                answer = server.get("/health", headers={"Accept": accept})
                assert (answer.status_code, answer.text) == (200, "OK")
                assert answer.headers["Content-Type"].startswith("text/plain")

    def test_the_master_tells_the_nodes_in_json(self, cluster: Cluster) -> None:
        health = cluster.master.get("/health", headers=JSON).json()

        assert health["status"] == "ok"
        assert health["nodes"] == {node.node_id: "healthy" for node in cluster.nodes}

    def test_a_node_tells_disk_and_heartbeat_in_json(self, node: Server) -> None:
        health = node.get("/health", headers=JSON).json()

        assert health["node_id"] == node.node_id
        assert 0 < health["free_bytes"] < health["capacity_bytes"]
        assert time.time() - health["last_heartbeat_at"] < 10
        assert health["outbox"] == 0


class TestUpload:
    def test_the_answer_has_every_field(self, cluster: Cluster, node: Server) -> None:
        answer = node.upload(b"every field", "fields.txt")

        assert answer.status_code == 200
        assert answer.json() == {
            "success": True,
            "hash": md5(b"every field"),
            "message": "File Upload Successful",
            "size": 11,
            "sha256": hashlib.sha256(b"every field").hexdigest(),
            "replicas": sorted(node.node_id for node in cluster.nodes),
            "registered": True,
            "deduplicated": False,
        }

    def test_the_same_content_again_is_deduplicated(self, cluster: Cluster) -> None:
        first, second = (node.upload(b"twice").json() for node in cluster.nodes)

        assert (first["deduplicated"], second["deduplicated"]) == (False, True)
        assert first["hash"] == second["hash"]

    def test_both_replicas_are_on_disk_under_the_hash(self, cluster: Cluster, node: Server) -> None:
        blob_hash = node.upload(LARGE, "on-disk.bin").json()["hash"]

        paths = cluster.blob_paths(blob_hash)

        assert len(paths) == 2
        for path in paths:
            assert path.parent.relative_to(path.parents[2]).parts == (blob_hash[:2], blob_hash[2:4])
            assert path.read_bytes() == LARGE
            assert path.stat().st_mode & 0o777 == 0o644
            assert path.parent.stat().st_mode & 0o777 == 0o755

    def test_other_fields_beside_the_file_are_passed_over(self, node: Server) -> None:
        answer = node.post(
            "/upload", data={"comment": "x" * 1000}, files={"file": ("a.txt", b"beside fields")}
        )

        assert answer.json()["hash"] == md5(b"beside fields")

    def test_a_chunked_upload_is_whole(self, node: Server) -> None:
        head, _, tail = (
            requests.Request("POST", "http://localhost", files={"file": ("c.bin", LARGE)})
            .prepare()
            .body.partition(LARGE)
        )  # type: ignore[union-attr]
        boundary = head.split(b"\r\n", 1)[0][2:].decode()

        answer = node.post(
            "/upload",
            data=iter([head, LARGE[:100_000], LARGE[100_000:], tail]),
            headers={"Content-Type": f"multipart/form-data; boundary={boundary}"},
        )

        assert answer.json()["hash"] == md5(LARGE)


class TestRetrieve:
    def test_the_bytes_come_with_all_headers(self, stored: Stored) -> None:
        answer = stored.retrieve()

        assert answer.status_code == 200
        assert answer.content == stored.content
        assert answer.headers["Content-Length"] == str(len(stored.content))
        assert answer.headers["ETag"] == stored.etag
        assert answer.headers["Accept-Ranges"] == "bytes"
        assert "immutable" in answer.headers["Cache-Control"]
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
        assert answer.headers["Content-Disposition"].startswith("attachment")

    def test_head_says_the_same_without_the_bytes(self, stored: Stored) -> None:
        get = stored.retrieve()

        head = stored.node.request("HEAD", "/retrieve", params={"hash": stored.hash})

        assert (head.status_code, head.content) == (200, b"")
        assert {**head.headers, "date": ""} == {**get.headers, "date": ""}

    @pytest.mark.parametrize("etags", ["{}", "W/{}", '"other", {}', "*"])
    def test_a_known_etag_is_not_sent_again(self, stored: Stored, etags: str) -> None:
        answer = stored.retrieve(If_None_Match=etags.format(stored.etag))

        assert (answer.status_code, answer.content) == (304, b"")
        assert answer.headers["ETag"] == stored.etag

    @pytest.mark.parametrize(
        ("asked", "start", "stop"),
        [
            ("bytes=0-9", 0, 10),
            ("bytes=100-", 100, None),
            ("bytes=-7", -7, None),
            ("bytes=5-5", 5, 6),
            ("bytes=10-999999999999", 10, None),
            ("bytes=-999999999999", 0, None),
        ],
    )
    def test_one_range_is_answered_with_that_part(
        self, stored: Stored, asked: str, start: int, stop: int | None
    ) -> None:
        answer = stored.retrieve(Range=asked)

        assert answer.status_code == 206
        assert answer.content == stored.content[start:stop]
        first = start % len(stored.content)
        last = first + len(answer.content) - 1
        assert answer.headers["Content-Range"] == f"bytes {first}-{last}/{len(stored.content)}"
        assert answer.headers["Content-Length"] == str(len(answer.content))

    def test_a_range_beyond_the_end_cannot_be_satisfied(self, stored: Stored) -> None:
        for asked in (f"bytes={len(stored.content)}-", "bytes=-0"):
            answer = stored.retrieve(Range=asked)
            assert answer.status_code == 416
            assert answer.headers["Content-Range"] == f"bytes */{len(stored.content)}"

    @pytest.mark.parametrize(
        "asked", ["bytes=0-1,5-6", "lines=1-2", "bytes=9-3", "bytes=", "bytes=-", "nonsense"]
    )
    def test_several_or_unknown_ranges_are_answered_with_the_whole(
        self, stored: Stored, asked: str
    ) -> None:
        answer = stored.retrieve(Range=asked)

        assert (answer.status_code, answer.content) == (200, stored.content)

    def test_if_range_decides_between_part_and_whole(self, stored: Stored) -> None:
        current = stored.retrieve(Range="bytes=0-3", If_Range=stored.etag)
        outdated = stored.retrieve(Range="bytes=0-3", If_Range='"something else"')

        assert (current.status_code, current.content) == (206, stored.content[:4])
        assert (outdated.status_code, outdated.content) == (200, stored.content)

    def test_head_of_a_range_has_its_length(self, stored: Stored) -> None:
        answer = stored.node.request(
            "HEAD", "/retrieve", params={"hash": stored.hash}, headers={"Range": "bytes=0-9"}
        )

        assert answer.status_code == 206
        assert answer.headers["Content-Length"] == "10"

    def test_every_node_serves_what_one_has(self, cluster: Cluster, sparse: Cluster) -> None:
        for each in (cluster, sparse):
            blob_hash = each.nodes[0].upload(LARGE, "everywhere.bin").json()["hash"]
            for node in each.nodes:
                assert node.retrieve(blob_hash).content == LARGE

    def test_an_empty_file_comes_back_empty(self, cluster: Cluster, sparse: Cluster) -> None:
        for each in (cluster, sparse):
            blob_hash = each.nodes[0].upload(b"", "empty.txt").json()["hash"]
            for node in each.nodes:
                answer = node.retrieve(blob_hash)
                assert (answer.status_code, answer.content) == (200, b"")
                assert answer.headers["Content-Length"] == "0"


class TestMethods:
    @pytest.mark.parametrize(
        ("path", "method", "allowed"),
        [
            ("/register", "GET", {"POST"}),
            ("/get?hash=x", "POST", {"GET"}),
            ("/list", "DELETE", {"GET"}),
            ("/health", "POST", {"GET"}),
            ("/seedream/generate", "GET", {"POST"}),
        ],
    )
    def test_the_master_names_the_methods_it_takes(
        self, cluster: Cluster, path: str, method: str, allowed: set[str]
    ) -> None:
        answer = cluster.master.request(method, path)

        assert answer.status_code == 405
        assert allowed <= set(answer.headers["Allow"].split(", "))
        assert answer.json()["code"] == "method_not_allowed"

    @pytest.mark.parametrize(
        ("path", "method", "allowed"),
        [
            ("/upload", "GET", {"POST"}),
            ("/upload", "PUT", {"POST"}),
            ("/retrieve?hash=x", "POST", {"GET", "HEAD"}),
            ("/retrieve?hash=x", "DELETE", {"GET", "HEAD"}),
            ("/health", "POST", {"GET"}),
        ],
    )
    def test_a_node_names_the_methods_it_takes(
        self, node: Server, path: str, method: str, allowed: set[str]
    ) -> None:
        answer = node.request(method, path)

        assert answer.status_code == 405
        assert allowed <= set(answer.headers["Allow"].split(", "))
        assert answer.json()["code"] == "method_not_allowed"

    def test_a_wrong_method_leaves_the_connection_usable(self, node: Server) -> None:
        with requests.Session() as session:
            for _ in range(2):
                assert session.put(node.url + "/upload", data=b"x" * 1000).status_code == 405
                assert session.get(node.url + "/health").text == "OK"


class TestUnknownPaths:
    def test_are_json_for_programs_and_a_page_for_browsers(self, cluster: Cluster) -> None:
        for server in (cluster.master, cluster.nodes[0]):
            program = server.get("/nothing-here")
            assert (program.status_code, program.json()["code"]) == (404, "not_found")
            browser = server.get("/nothing-here", headers={"Accept": "text/html"})
            assert browser.status_code == 404
            assert browser.headers["Content-Type"].startswith("text/html")

    def test_a_path_with_strange_bytes_is_not_found(self, cluster: Cluster) -> None:
        for server in (cluster.master, cluster.nodes[0]):
            for path in ("/%00", "/%ff%fe", "/..%2f..%2fetc/passwd", "//upload", "/upload/"):
                answer = send(server, "GET", path)
                assert answer.status == 404, path
                assert json.loads(answer.body)["code"] == "not_found"


class TestSeedream:
    def image(self, colour: str) -> bytes:
        buffer = io.BytesIO()
        Image.new("RGB", (64, 64), colour).save(buffer, "PNG")
        return buffer.getvalue()

    @pytest.mark.parametrize("count", [0, 1, 2])
    def test_images_come_from_a_prompt_and_up_to_two_references(
        self, cluster: Cluster, count: int
    ) -> None:
        references = {
            f"image{number}": (f"{number}.png", self.image(colour), "image/png")
            for number, colour in list(enumerate(["red", "blue"], 1))[:count]
        }

        answer = cluster.master.post(
            "/seedream/generate",
            data={"prompt": f"a lighthouse, {count} references"},
            files=references or {"unused": b""},
            timeout=60,
        )

        assert answer.status_code == 200, answer.text
        assert answer.json()["provider"] == "placeholder"
        assert answer.json()["job_id"]
        for image in answer.json()["images"]:
            for node in cluster.nodes:
                assert md5(node.retrieve(image["hash"]).content) == image["hash"]

    def test_a_prompt_is_required(self, cluster: Cluster) -> None:
        answer = cluster.master.post("/seedream/generate", files={"image1": b"x"})

        assert answer.status_code == 400
        assert answer.json()["code"]
