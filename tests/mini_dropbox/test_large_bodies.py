"""Large bodies over real sockets: whole, in odd pieces, cut off, refused, unread and pipelined."""

import asyncio
import hashlib
import random
import socket
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest
import uvicorn

from mini_dropbox.large_bodies import LARGE_BYTES, PIECE_BYTES
from mini_dropbox.patient_protocol import PatientProtocol
from tests.support.protocol_server import (
    Receive,
    Send,
    connected,
    is_closed,
    read_answer,
    read_to_the_end,
    serving,
)
from tests.support.waiting import eventually

READ_LIMIT = 0.4
CONTENT = random.Random(1).randbytes(3 * PIECE_BYTES + 12_345)


class ImpatientProtocol(PatientProtocol):
    """The protocol under test, with a limit that a test can wait for."""

    read_limit = READ_LIMIT


@dataclass
class Reading:
    """What the application got of one path's requests."""

    content: bytes = b""
    sizes: list[int] = field(default_factory=list)
    is_cut_off: bool = False


class Application:
    """Reads bodies and answers with their digest; some paths are slow to, or never do."""

    def __init__(self) -> None:
        self.readings: dict[str, Reading] = defaultdict(Reading)
        self.may_go_on = asyncio.Event()

    async def __call__(self, scope: dict[str, Any], receive: Receive, send: Send) -> None:
        path = scope["path"]
        reading = self.readings[path] = Reading()
        if path == "/begins-late":
            await asyncio.sleep(READ_LIMIT / 2)
        while path != "/answers-early":
            message = await receive()
            if message["type"] == "http.disconnect":
                reading.is_cut_off = True
                return
            reading.content += message["body"]
            reading.sizes.append(len(message["body"]))
            if path == "/reads-slowly":
                await asyncio.sleep(READ_LIMIT / 2)
            if not message["more_body"]:
                break
        answer = hashlib.md5(reading.content).hexdigest().encode()
        headers = [(b"content-length", str(len(answer)).encode())]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": answer})
        if path == "/waits":
            assert (await receive())["type"] == "http.disconnect"


@pytest.fixture(scope="module")
def application() -> Application:
    return Application()


@pytest.fixture(scope="module")
def server(application: Application) -> Iterator[uvicorn.Server]:
    with serving(application, ImpatientProtocol) as running:
        yield running


def head(path: str = "/", size: int = len(CONTENT), **fields: str) -> bytes:
    lines = [f"PUT {path} HTTP/1.1", "Host: localhost", f"Content-Length: {size}"]
    lines += [f"{name}: {value}" for name, value in fields.items()]
    return ("\r\n".join(lines) + "\r\n\r\n").encode()


def answer(content: bytes = CONTENT) -> tuple[int, bytes]:
    return 200, hashlib.md5(content).hexdigest().encode()


@pytest.mark.parametrize("with_head", [0, 1, 1000, LARGE_BYTES])
def test_it_arrives_whole_in_full_pieces(
    server: uvicorn.Server, application: Application, with_head: int
) -> None:
    with connected(server) as connection:
        connection.sendall(head() + CONTENT[:with_head])
        connection.sendall(CONTENT[with_head:])

        assert read_answer(connection) == answer()
    assert set(application.readings["/"].sizes[:-1]) == {PIECE_BYTES}


@pytest.mark.parametrize("path", ["/reads-slowly", "/begins-late"])
def test_it_waits_for_the_application(server: uvicorn.Server, path: str) -> None:
    """However long that takes: the client is owed its turn."""
    content = CONTENT * 8
    with connected(server) as connection:
        connection.settimeout(60)
        connection.sendall(head(path, len(content)) + content)

        assert read_answer(connection) == answer(content)


def test_a_small_rest_goes_the_usual_way(server: uvicorn.Server, application: Application) -> None:
    content = CONTENT[: LARGE_BYTES - 1]
    with connected(server) as connection:
        connection.sendall(head(size=len(content)) + content)

        assert read_answer(connection) == answer(content)
    assert len(application.readings["/"].sizes) > 1


def test_the_connection_is_kept(server: uvicorn.Server) -> None:
    with connected(server) as connection:
        for size in (len(CONTENT), 10, LARGE_BYTES, 0, 2 * PIECE_BYTES):
            connection.sendall(head(size=size) + CONTENT[:size])

            assert read_answer(connection) == answer(CONTENT[:size])


def test_requests_may_follow_one_another_unasked(server: uvicorn.Server) -> None:
    small, closing = CONTENT[:5], {"Connection": "close"}
    with connected(server) as connection:
        connection.sendall(head() + CONTENT + head(size=5) + small)
        connection.sendall(head(size=5) + small + head(**closing) + CONTENT)

        digests = [answer(content)[1] for content in (CONTENT, small, small, CONTENT)]
        answers = read_to_the_end(connection)
        assert [part[:32] for part in answers.split(b"\r\n\r\n")[1:]] == digests


def test_a_client_is_told_to_send(server: uvicorn.Server) -> None:
    with connected(server) as connection:
        connection.sendall(head(Expect="100-continue"))
        assert connection.recv(100) == b"HTTP/1.1 100 Continue\r\n\r\n"
        connection.sendall(CONTENT)

        assert read_answer(connection) == answer()


def test_what_is_chunked_goes_the_usual_way(server: uvicorn.Server) -> None:
    begin = b"PUT / HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n"
    with connected(server) as connection:
        connection.sendall(begin + b"%x\r\n%b\r\n0\r\n\r\n" % (len(CONTENT), CONTENT))

        assert read_answer(connection) == answer()


def test_what_came_of_a_body_is_handed_on_before_the_end_of_the_connection(
    server: uvicorn.Server, application: Application
) -> None:
    there = PIECE_BYTES + 1000
    with connected(server) as connection:
        connection.sendall(head("/cut-off") + CONTENT[:there])

    reading = application.readings["/cut-off"]
    eventually(lambda: application.readings["/cut-off"].is_cut_off)
    reading = application.readings["/cut-off"]
    assert reading.content == CONTENT[: len(reading.content)]
    # A reset takes away what the kernel still held; this end was an orderly one.
    assert len(reading.content) == there


def test_a_half_closed_connection_is_told_that_the_body_ended_early(
    server: uvicorn.Server, application: Application
) -> None:
    with connected(server) as connection:
        connection.sendall(head("/half") + CONTENT[:-1])
        connection.shutdown(socket.SHUT_WR)

        status, body = read_answer(connection)
        assert (status, b"truncated_body" in body) == (400, True)
    eventually(lambda: application.readings["/half"].is_cut_off)
    assert application.readings["/half"].content == CONTENT[:-1]


def test_one_that_stops_is_cut_off(server: uvicorn.Server, application: Application) -> None:
    with connected(server) as connection:
        connection.sendall(head("/stops") + CONTENT[:-1])

        status, body = read_answer(connection)
        assert (status, b"request_timeout" in body) == (408, True)
        assert is_closed(connection)
    eventually(lambda: application.readings["/stops"].is_cut_off)


def test_what_follows_an_early_answer_is_dropped(server: uvicorn.Server) -> None:
    with connected(server) as connection:
        connection.sendall(head("/answers-early") + CONTENT[:100])
        assert read_answer(connection) == answer(b"")
        connection.sendall(CONTENT[100:] + head(size=3) + b"abc")

        assert read_answer(connection) == answer(b"abc")


def test_one_that_has_sent_everything_can_leave(
    server: uvicorn.Server, application: Application
) -> None:
    with connected(server) as connection:
        connection.sendall(head("/waits") + CONTENT)

        assert read_answer(connection) == answer()


def test_nothing_that_no_parser_takes_follows_unseen(server: uvicorn.Server) -> None:
    with connected(server) as connection:
        connection.sendall(head() + CONTENT)
        assert read_answer(connection) == answer()
        connection.sendall(b"no request\r\n\r\n")

        assert read_answer(connection)[0] == 400
        assert is_closed(connection)
