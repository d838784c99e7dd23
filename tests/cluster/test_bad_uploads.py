"""Uploads that are broken, cut off, too large, badly named or contradict what is stored."""

import hashlib
import json
import secrets
import subprocess
from pathlib import Path
from urllib.parse import quote

import pytest

from tests.support import md5_collision
from tests.support.cluster import Cluster, Server
from tests.support.raw_http import BOUNDARY, Form, form, part, send, send_form
from tests.support.refusals import (
    REFUSED,
    REFUSED_FILE,
    error_of,
    names_listed,
    refusal,
)

pytestmark = [pytest.mark.cluster, pytest.mark.usefixtures("nothing_is_left_behind")]

LIMIT = 10 * 1024 * 1024


class TestBrokenForms:
    def test_a_form_without_a_file_field(self, node: Server) -> None:
        for sent in (
            form(b"x", disposition='name="other"; filename="refused.bin"'),
            form(b"x", disposition='name="file"'),
            Form(b""),
        ):
            assert refusal(send_form(node, sent)) == (400, "missing_file")

    def test_a_file_field_that_is_text_is_told_how_to_be_a_file(self, node: Server) -> None:
        answer = node.post("/upload", files={"file": (None, "README.md")})

        assert "file=@" in answer.json()["message"]

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
