"""Large bodies over real sockets: whole, slow, cut off, refused, dropped, unread and pipelined."""

import asyncio
import hashlib
import random
import socket
import threading
from collections import defaultdict
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any

import pytest
import uvicorn

from mini_dropbox import large_bodies
from mini_dropbox.draining import DRAIN_BYTES, drain_large
from mini_dropbox.large_bodies import EXTENSION, LARGE_BYTES, PIECE_BYTES, BodyCutOff
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

pytestmark = pytest.mark.skipif(
    not large_bodies.IS_SUPPORTED, reason="no event loop of the system can wait for such sockets"
)


class ImpatientProtocol(PatientProtocol):
    """The protocol under test, with a limit that a test can wait for."""

    read_limit = READ_LIMIT


class Refused(Exception):
    """What the application's own part raises amid a body."""


@dataclass
class Reading:
    """What the application got of one path's requests."""

    content: bytes = b""
    sizes: list[int] = field(default_factory=list)
    is_cut_off: bool = False
    is_cancelled: bool = False
    threads: set[str] = field(default_factory=set)

    def take(self, piece: bytearray) -> None:
        self.content += piece
        self.sizes.append(len(piece))
        self.threads.add(threading.current_thread().name)


class Application:
    """Reads bodies and answers with their digest; what else it does, the path says."""

    def __init__(self) -> None:
        self.readings: dict[str, Reading] = defaultdict(Reading)
        self.may_go_on = threading.Event()

    async def __call__(self, scope: dict[str, Any], receive: Receive, send: Send) -> None:
        path = scope["path"]
        reading = self.readings[path] = Reading()
        read = scope["extensions"][EXTENSION]
        status = 200
        if path == "/begins-late":
            await asyncio.sleep(READ_LIMIT * 2)
        try:
            if path != "/answers-early" and not await read(self._take(path, reading)):
                await self._receive(reading, receive)
        except BodyCutOff:
            reading.is_cut_off = True
            return
        except asyncio.CancelledError:
            reading.is_cancelled = True
            raise
        except Refused:
            status = 413
            await drain_large(read)
        answer = hashlib.md5(reading.content).hexdigest().encode()
        headers = [(b"content-length", str(len(answer)).encode())]
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": answer})

    def _take(self, path: str, reading: Reading) -> large_bodies.Take:
        def take(piece: bytearray) -> None:
            reading.take(piece)
            if path == "/slow":
                assert self.may_go_on.wait(10)
            if path == "/refused":
                raise Refused

        return take

    async def _receive(self, reading: Reading, receive: Receive) -> None:
        more_body = True
        while more_body:
            message = await receive()
            if message["type"] == "http.disconnect":
                raise BodyCutOff
            reading.take(bytearray(message["body"]))
            more_body = message["more_body"]


@pytest.fixture
def application() -> Application:
    return Application()


@pytest.fixture
def server(application: Application) -> Iterator[uvicorn.Server]:
    with serving(application, ImpatientProtocol) as running:
        yield running


def head(path: str = "/", size: int = len(CONTENT), **fields: str) -> bytes:
    lines = [f"PUT {path} HTTP/1.1", "Host: localhost", f"Content-Length: {size}"]
    lines += [f"{name}: {value}" for name, value in fields.items()]
    return ("\r\n".join(lines) + "\r\n\r\n").encode()


def answer(content: bytes = CONTENT) -> tuple[int, bytes]:
    return 200, hashlib.md5(content).hexdigest().encode()


@pytest.mark.parametrize("with_head", [0, 1, 1000, 100_000, LARGE_BYTES])
def test_it_arrives_whole_by_a_thread(
    server: uvicorn.Server, application: Application, with_head: int
) -> None:
    with connected(server) as connection:
        connection.sendall(head() + CONTENT[:with_head])
        connection.sendall(CONTENT[with_head:])

        assert read_answer(connection) == answer()
    assert all(name.startswith("receive") for name in application.readings["/"].threads)


def test_it_may_have_come_before_anybody_asks(server: uvicorn.Server) -> None:
    """The client waits for the application then, and owes nothing."""
    content = CONTENT * 8
    with connected(server) as connection:
        connection.settimeout(20)
        connection.sendall(head("/begins-late", len(content)) + content)

        assert read_answer(connection) == answer(content)


def test_one_that_the_application_is_slow_with_is_not_cut_off(
    server: uvicorn.Server, application: Application
) -> None:
    with connected(server) as connection:
        connection.sendall(head("/slow") + CONTENT)
        eventually(lambda: bool(application.readings["/slow"].sizes))
        threading.Timer(READ_LIMIT * 3, application.may_go_on.set).start()

        assert read_answer(connection) == answer()


def test_a_small_rest_goes_the_usual_way(server: uvicorn.Server, application: Application) -> None:
    content = CONTENT[: LARGE_BYTES - 1]
    with connected(server) as connection:
        connection.sendall(head(size=len(content)) + content)

        assert read_answer(connection) == answer(content)
    assert not any(name.startswith("receive") for name in application.readings["/"].threads)


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


def test_one_that_comes_slowly_is_waited_for(server: uvicorn.Server) -> None:
    step = len(CONTENT) // 12 + 1
    with connected(server) as connection:
        connection.sendall(head())
        for begin in range(0, len(CONTENT), step):
            threading.Event().wait(READ_LIMIT / 4)
            connection.sendall(CONTENT[begin : begin + step])

        assert read_answer(connection) == answer()


def test_many_that_stall_hold_up_nobody(server: uvicorn.Server) -> None:
    with ExitStack() as stack:
        for _ in range(large_bodies.THREADS * 4):
            stalled = stack.enter_context(connected(server))
            stalled.sendall(head("/stalled") + CONTENT[:1000])
        with connected(server) as connection:
            connection.sendall(head() + CONTENT)

            assert read_answer(connection) == answer()


@pytest.mark.parametrize("there", [PIECE_BYTES + 1000, 1000])
def test_what_came_is_handed_on_before_the_end_of_the_connection(
    server: uvicorn.Server, application: Application, there: int
) -> None:
    with connected(server) as connection:
        connection.sendall(head("/cut-off") + CONTENT[:there])

    eventually(lambda: application.readings["/cut-off"].is_cut_off)
    assert application.readings["/cut-off"].content == CONTENT[:there]


def test_a_half_closed_connection_is_told_that_the_body_ended_early(
    server: uvicorn.Server, application: Application
) -> None:
    with connected(server) as connection:
        connection.sendall(head("/half") + CONTENT[:-1])
        connection.shutdown(socket.SHUT_WR)

        status, body = read_answer(connection)
        assert (status, b"truncated_body" in body) == (400, True)
        assert is_closed(connection)
    eventually(lambda: application.readings["/half"].is_cut_off)
    assert application.readings["/half"].content == CONTENT[:-1]


def test_what_has_come_is_handed_on_before_more_is_waited_for(
    server: uvicorn.Server, application: Application
) -> None:
    with connected(server) as connection:
        connection.sendall(head("/waits") + CONTENT[:100_000])

        eventually(lambda: application.readings["/waits"].content == CONTENT[:100_000])


def test_the_time_that_the_application_took_is_not_the_clients(
    server: uvicorn.Server, application: Application
) -> None:
    content = CONTENT * 4
    with connected(server) as connection:
        connection.sendall(head("/slow", len(content)) + content[: len(CONTENT)])
        eventually(lambda: bool(application.readings["/slow"].sizes))
        threading.Event().wait(READ_LIMIT * 2)
        application.may_go_on.set()
        threading.Event().wait(READ_LIMIT / 4)
        connection.sendall(content[len(CONTENT) :])

        assert read_answer(connection) == answer(content)


def test_one_that_stops_is_cut_off(server: uvicorn.Server, application: Application) -> None:
    with connected(server) as connection:
        connection.sendall(head("/stops") + CONTENT[:-1])

        status, body = read_answer(connection)
        assert (status, b"request_timeout" in body) == (408, True)
        assert is_closed(connection)
    eventually(lambda: application.readings["/stops"].is_cut_off)
    assert application.readings["/stops"].content == CONTENT[:-1]


def test_the_rest_of_a_refused_one_is_dropped_and_the_connection_closed(
    server: uvicorn.Server, application: Application
) -> None:
    with connected(server) as connection:
        connection.sendall(head("/refused") + CONTENT)

        assert read_answer(connection)[0] == 413
        assert is_closed(connection)
    assert len(application.readings["/refused"].sizes) == 1


def test_only_so_much_of_a_refused_one_is_read(server: uvicorn.Server) -> None:
    with connected(server) as connection:
        connection.sendall(head("/refused", 10 * DRAIN_BYTES))
        with pytest.raises(OSError, match=r"reset|pipe|timed out"):
            connection.sendall(bytes(5 * DRAIN_BYTES))


def test_what_follows_an_early_answer_is_dropped(server: uvicorn.Server) -> None:
    with connected(server) as connection:
        connection.sendall(head("/answers-early") + CONTENT[:100])
        assert read_answer(connection) == answer(b"")
        connection.sendall(CONTENT[100:] + head(size=3) + b"abc")

        assert read_answer(connection) == answer(b"abc")


def test_what_no_parser_takes_is_refused_behind_one(server: uvicorn.Server) -> None:
    with connected(server) as connection:
        connection.sendall(head() + CONTENT)
        assert read_answer(connection) == answer()
        connection.sendall(b"no request\r\n\r\n")

        assert read_answer(connection)[0] == 400
        assert is_closed(connection)


def test_it_ends_with_the_server(application: Application) -> None:
    with serving(application, PatientProtocol) as server, connected(server) as connection:
        connection.sendall(head("/stalled") + CONTENT[:-1])
        eventually(lambda: application.readings["/stalled"].content == CONTENT[:-1])
        server.should_exit = True
        eventually(lambda: application.readings["/stalled"].is_cancelled)
