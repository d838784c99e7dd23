"""The wire contract of master and nodes, row by row, over a running cluster."""

import hashlib
import io
import json
import time

import pytest
import requests
from PIL import Image

from tests.support.cluster import Cluster, Server
from tests.support.raw_http import send

pytestmark = pytest.mark.cluster

LARGE = bytes(range(251)) * 8000
JSON = {"Accept": "application/json"}
RECORD = {"hash": "test123", "name": "test.txt", "size": 1024, "replicas": ["8001"]}


def md5(content: bytes) -> str:
    return hashlib.md5(content, usedforsecurity=False).hexdigest()


def register(cluster: Cluster, **changes: object) -> requests.Response:
    return cluster.master.post("/register", json={**RECORD, **changes})


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
