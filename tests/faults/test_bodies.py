"""Bodies that are cut off, or that are not what was announced: exact bytes, or a refusal."""

import hashlib
import secrets

import pytest

from tests.support.cluster import Cluster, Server
from tests.support.raw_http import chunked, connect, form, send
from tests.support.refusals import REFUSED, REFUSED_FILE, refusal
from tests.support.waiting import eventually

pytestmark = [pytest.mark.faults, pytest.mark.usefixtures("nothing_is_left_behind")]


def test_p20_a_client_that_vanishes_leaves_nothing(cluster: Cluster, node: Server) -> None:
    whole = form(secrets.token_bytes(1_000_000), disposition=REFUSED_FILE)
    with connect(node) as connection:
        connection.head(
            "POST", "/upload", whole.headers(**{"Content-Length": str(len(whole.body))})
        )
        connection.send(whole.body[:700_000])
        eventually(cluster.temporary_files, what="the upload is under way")

    eventually(lambda: not cluster.temporary_files(), what="its bytes are removed")


def test_p20_a_client_that_half_closes_reads_why(node: Server) -> None:
    whole = form(b"x" * 10_000, disposition=REFUSED_FILE)
    with connect(node) as connection:
        connection.head(
            "POST", "/upload", whole.headers(**{"Content-Length": str(len(whole.body))})
        )
        connection.send(whole.body[:5_000])
        connection.half_close()

        assert refusal(connection.read()) == (400, "truncated_body")


def test_p20_a_client_that_half_closes_after_its_request_reads_the_answer(node: Server) -> None:
    whole = form(b"all of it is there")
    with connect(node) as connection:
        connection.head(
            "POST", "/upload", whole.headers(**{"Content-Length": str(len(whole.body))})
        )
        connection.send(whole.body)
        connection.half_close()

        assert connection.read().json()["registered"] is True


def test_p20_a_content_length_that_ends_before_the_form_does(node: Server) -> None:
    whole = form(b"x" * 10_000, disposition=REFUSED_FILE)
    with connect(node) as connection:
        headers = {"Content-Length": str(len(whole.body) - 10), "Connection": "close"}
        connection.head("POST", "/upload", whole.headers(**headers))
        connection.send(whole.body)

        assert refusal(connection.read()) == (400, "bad_form")


@pytest.mark.parametrize("with_closing_boundary", [True, False])
def test_p20_a_chunked_body_without_its_last_chunk(
    node: Server, *, with_closing_boundary: bool
) -> None:
    whole = form(b"x" * 10_000, disposition=REFUSED_FILE)
    body = whole.body if with_closing_boundary else whole.parts
    with connect(node) as connection:
        connection.head("POST", "/upload", whole.headers(**{"Transfer-Encoding": "chunked"}))
        connection.send(chunked(body, end=False))
        connection.half_close()

        assert refusal(connection.read()) == (400, "truncated_body")


def test_p20_a_chunked_body_without_its_closing_boundary(node: Server) -> None:
    whole = form(b"x" * 10_000, disposition=REFUSED_FILE)
    headers = whole.headers(**{"Transfer-Encoding": "chunked"})

    answer = send(node, "POST", "/upload", headers, chunked(whole.parts))

    assert refusal(answer) == (400, "bad_form")


def test_p20_a_chunked_body_in_many_small_pieces_is_whole(node: Server) -> None:
    content = secrets.token_bytes(2_000)
    body = form(content).body
    pieces = [body[n : n + 7] for n in range(0, len(body), 7)]
    headers = form(b"").headers(**{"Transfer-Encoding": "chunked"})

    answer = send(node, "POST", "/upload", headers, chunked(*pieces))

    assert answer.json()["hash"] == hashlib.md5(content).hexdigest()


def test_p20_a_broken_chunk(node: Server) -> None:
    headers = form(b"").headers(**{"Transfer-Encoding": "chunked"})

    answer = send(node, "POST", "/upload", headers, b"this is no length\r\n")

    assert refusal(answer)[0] == 400


def test_p20_both_a_length_and_chunks(node: Server) -> None:
    whole = form(b"smuggled", disposition=REFUSED_FILE)
    headers = whole.headers(**{"Transfer-Encoding": "chunked", "Content-Length": "5"})

    answer = send(node, "POST", "/upload", headers, chunked(whole.body))

    assert refusal(answer)[0] == 400


@pytest.mark.parametrize("length", ["-1", "abc", "1e3", "99999999999999999999999", "5, 6"])
def test_p20_a_content_length_that_is_no_length(node: Server, length: str) -> None:
    headers = form(b"").headers(**{"Content-Length": length})

    assert refusal(send(node, "POST", "/upload", headers))[0] in {400, 413}


def test_p20_a_body_that_is_not_what_was_announced(cluster: Cluster, node: Server) -> None:
    announced, sent = (secrets.token_bytes(1_000_000) for _ in range(2))
    address = hashlib.md5(announced, usedforsecurity=False).hexdigest()

    answer = node.request("PUT", f"/blobs/{address}", data=sent, headers={"X-File-Name": REFUSED})

    assert refusal(answer) == (400, "digest_mismatch")
    assert cluster.blob_paths(address) == []
    assert node.retrieve(address).status_code == 404
