"""Bodies that `/register` refuses, and names that it cuts."""

import json
import secrets

import pytest

from tests.support.cluster import Cluster
from tests.support.raw_http import connect
from tests.support.refusals import (
    JSON_TYPE,
    error_of,
)

pytestmark = [pytest.mark.cluster, pytest.mark.usefixtures("nothing_is_left_behind")]


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
