"""The HTTP protocol's time limits and refusals, over real sockets with tiny limits."""

import asyncio
import json
import socket
import time
from collections import defaultdict
from collections.abc import Iterator
from typing import Any

import pytest
import uvicorn

from mini_dropbox.patient_protocol import MAX_HEAD_BYTES, PatientProtocol
from tests.support.protocol_server import (
    PATIENCE,
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
LARGE_ANSWER = 32 * 1024 * 1024


class ImpatientProtocol(PatientProtocol):
    """The protocol under test, with a limit that a test can wait for."""

    read_limit = READ_LIMIT


class Application:
    """Reads every body and answers with its length; remembers how each path's requests ended."""

    def __init__(self) -> None:
        self.ends: dict[str, list[str]] = defaultdict(list)

    async def __call__(self, scope: dict[str, Any], receive: Receive, send: Send) -> None:
        body = b""
        if scope["path"] != "/answers-early":
            while True:
                message = await receive()
                if message["type"] == "http.disconnect":
                    self.ends[scope["path"]].append("disconnected")
                    return
                body += message["body"]
                if not message["more_body"]:
                    break
        if scope["path"] == "/waits":
            assert (await receive())["type"] == "http.disconnect"
            self.ends[scope["path"]].append("disconnected")
            return
        if scope["path"] == "/thinks":
            await asyncio.sleep(READ_LIMIT * 3)
        content = bytes(LARGE_ANSWER) if scope["path"] == "/large" else str(len(body)).encode()
        headers = [(b"content-length", str(len(content)).encode())]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        for start in range(0, len(content), 65_536):
            piece = content[start : start + 65_536]
            more = start + len(piece) < len(content)
            await send({"type": "http.response.body", "body": piece, "more_body": more})
        self.ends[scope["path"]].append("answered")


@pytest.fixture(scope="module")
def application() -> Application:
    return Application()


@pytest.fixture(scope="module")
def server(application: Application) -> Iterator[uvicorn.Server]:
    with serving(application, ImpatientProtocol) as running:
        yield running


def read_refusal(connection: socket.socket) -> tuple[int, str]:
    status, body = read_answer(connection)
    refusal = json.loads(body)
    assert refusal["detail"] == refusal["message"]
    return status, refusal["code"]


def request(path: str = "/", **headers: str) -> bytes:
    lines = [f"POST {path} HTTP/1.1", "Host: localhost"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return ("\r\n".join(lines) + "\r\n\r\n").encode()


class TestQuietClients:
    def test_one_that_sends_nothing_is_cut_off(self, server: uvicorn.Server) -> None:
        with connected(server) as connection:
            assert read_refusal(connection) == (408, "request_timeout")
            assert is_closed(connection)

    def test_one_that_stops_in_its_headers_is_cut_off(self, server: uvicorn.Server) -> None:
        with connected(server) as connection:
            connection.sendall(b"POST / HTTP/1.1\r\nHost: loc")

            assert read_refusal(connection) == (408, "request_timeout")

    def test_one_that_stops_in_its_body_is_cut_off_and_the_application_is_told(
        self, server: uvicorn.Server, application: Application
    ) -> None:
        with connected(server) as connection:
            connection.sendall(request("/stops", Content_Length="10") + b"12345")

            assert read_refusal(connection) == (408, "request_timeout")
        eventually(lambda: application.ends["/stops"] == ["disconnected"])

    @pytest.mark.parametrize("start", [b"POST / HTTP/1.1\r\nHo", b"\r\n"])
    def test_one_that_stops_in_its_second_request_is_cut_off(
        self, server: uvicorn.Server, start: bytes
    ) -> None:
        with connected(server) as connection:
            connection.sendall(request(Content_Length="3") + b"abc")
            assert read_answer(connection) == (200, b"3")
            connection.sendall(start)

            assert read_refusal(connection) == (408, "request_timeout")

    def test_one_that_stops_in_a_body_that_was_answered_early_is_cut_off(
        self, server: uvicorn.Server
    ) -> None:
        with connected(server) as connection:
            connection.sendall(request("/answers-early", Content_Length="1000") + b"12345")
            assert read_answer(connection) == (200, b"0")
            connection.sendall(b"678")

            assert is_closed(connection)

    def test_one_that_reads_nothing_is_cut_off(
        self, server: uvicorn.Server, application: Application
    ) -> None:
        application.ends.clear()
        with connected(server) as connection:
            connection.sendall(request("/large"))

            eventually(lambda: application.ends["/large"] == ["answered"], PATIENCE)
            connection.settimeout(PATIENCE)
            received = 0
            try:
                while piece := connection.recv(1 << 20):
                    received += len(piece)
            except ConnectionResetError:
                pass
            assert received < LARGE_ANSWER

    def test_one_that_reads_slowly_is_waited_for(
        self, server: uvicorn.Server, application: Application
    ) -> None:
        with connected(server, receive_buffer=8_192) as connection:
            connection.sendall(request("/large", Content_Length="0"))
            received, slow_until = 0, time.monotonic() + READ_LIMIT * 6
            while time.monotonic() < slow_until:
                time.sleep(READ_LIMIT / 8)
                # Far less than the kernel has to get rid of before it takes more of the answer.
                received += len(connection.recv(4_096))
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
            while piece := connection.recv(1 << 20):
                received += len(piece)
                if received >= LARGE_ANSWER:
                    break

            assert received >= LARGE_ANSWER

    def test_one_that_is_slow_but_never_quiet_is_waited_for(self, server: uvicorn.Server) -> None:
        pieces = 12
        with connected(server) as connection:
            connection.sendall(request(Content_Length=str(pieces)))
            for _ in range(pieces):
                time.sleep(READ_LIMIT / 4)
                connection.sendall(b"x")

            assert read_answer(connection) == (200, str(pieces).encode())

    def test_one_that_waits_for_a_slow_answer_is_not_cut_off(self, server: uvicorn.Server) -> None:
        with connected(server) as connection:
            connection.sendall(request("/thinks", Content_Length="3") + b"abc")

            assert read_answer(connection) == (200, b"3")

    def test_one_between_two_requests_is_not_cut_off(self, server: uvicorn.Server) -> None:
        with connected(server) as connection:
            for _ in range(2):
                connection.sendall(request(Content_Length="3") + b"abc")
                assert read_answer(connection) == (200, b"3")
                time.sleep(READ_LIMIT * 2)


class TestHalfClosedConnections:
    def test_a_whole_request_is_answered(self, server: uvicorn.Server) -> None:
        with connected(server) as connection:
            connection.sendall(request("/thinks", Content_Length="3") + b"abc")
            connection.shutdown(socket.SHUT_WR)

            assert read_answer(connection) == (200, b"3")
            assert is_closed(connection)

    def test_a_cut_off_body_is_refused(self, server: uvicorn.Server) -> None:
        for headers in ({"Content_Length": "10"}, {"Transfer_Encoding": "chunked"}):
            with connected(server) as connection:
                connection.sendall(request(**headers) + b"3\r\nabc\r\n")
                connection.shutdown(socket.SHUT_WR)

                assert read_refusal(connection) == (400, "truncated_body")


class TestPipelinedRequests:
    @pytest.mark.parametrize("second", [request(Content_Length="10") + b"123", b"nonsense\r\n\r\n"])
    def test_no_refusal_is_written_into_an_answer_that_is_under_way(
        self, server: uvicorn.Server, second: bytes
    ) -> None:
        with connected(server) as connection:
            connection.sendall(request("/large", Content_Length="0") + second)
            connection.shutdown(socket.SHUT_WR)

            assert b"HTTP/1.1 400" not in read_to_the_end(connection)

    @pytest.mark.parametrize("second", [request(Content_Length="10") + b"123", b"nonsense\r\n\r\n"])
    def test_no_refusal_takes_the_place_of_an_earlier_answer(
        self, server: uvicorn.Server, second: bytes
    ) -> None:
        with connected(server) as connection:
            connection.sendall(request("/thinks", Content_Length="0") + second)
            connection.shutdown(socket.SHUT_WR)

            assert read_to_the_end(connection) == b""

    def test_the_application_is_told_that_nobody_waits_for_the_first_answer(
        self, server: uvicorn.Server, application: Application
    ) -> None:
        # In one piece: once a second request is queued, nothing more is read, its end included,
        # until the first application asks again or has answered.
        with connected(server) as connection:
            first = request("/waits", Content_Length="0")
            connection.sendall(first + request(Content_Length="10") + b"123")
            connection.shutdown(socket.SHUT_WR)

            eventually(lambda: application.ends["/waits"] == ["disconnected"], PATIENCE)

    def test_are_answered_one_after_another(self, server: uvicorn.Server) -> None:
        with connected(server) as connection:
            connection.sendall(request("/thinks", Content_Length="3") + b"abc")
            connection.sendall(request(Content_Length="4") + b"ab")
            # The second may be unfinished for longer than the limit while the first is due.
            assert read_answer(connection) == (200, b"3")
            connection.sendall(b"cd")
            assert read_answer(connection) == (200, b"4")


class TestHeads:
    @pytest.mark.parametrize(
        "head",
        [
            b"POST / HTTP/1.1\r\nX-Large: " + b"x" * MAX_HEAD_BYTES + b"\r\n\r\n",
            b"POST /" + b"x" * MAX_HEAD_BYTES + b" HTTP/1.1\r\nHost: localhost\r\n\r\n",
            b"POST / HTTP/1.1\r\n" + b"X-Header: value\r\n" * (MAX_HEAD_BYTES // 10) + b"\r\n",
            b"POST / HTTP/1.1\r\nX-Endless: " + b"x" * 4_000_000,
            b"\r\n" * 2_000_000,
        ],
        ids=["value", "path", "many", "endless", "blank"],
    )
    def test_that_are_too_large_are_refused(self, server: uvicorn.Server, head: bytes) -> None:
        with connected(server) as connection:
            connection.sendall(head)

            assert read_refusal(connection) == (431, "headers_too_large")

    def test_that_are_too_large_on_a_used_connection_are_refused(
        self, server: uvicorn.Server
    ) -> None:
        with connected(server) as connection:
            connection.sendall(request(Content_Length="3") + b"abc")
            assert read_answer(connection) == (200, b"3")
            connection.sendall(request(X_Large="x" * MAX_HEAD_BYTES))

            assert read_refusal(connection) == (431, "headers_too_large")

    def test_of_a_common_size_are_taken_with_a_large_body(self, server: uvicorn.Server) -> None:
        body = bytes(1_000_000)
        with connected(server) as connection:
            for _ in range(3):
                head = request(Content_Length=str(len(body)), Cookie="c" * 8_000)
                connection.sendall(head + body)
                assert read_answer(connection) == (200, str(len(body)).encode())

    def test_trailers_that_are_too_large_are_refused(self, server: uvicorn.Server) -> None:
        with connected(server) as connection:
            connection.sendall(request(Transfer_Encoding="chunked") + b"3\r\nabc\r\n0\r\n")
            connection.sendall(b"X-Endless: " + b"x" * 4_000_000)

            assert read_refusal(connection) == (431, "headers_too_large")

    @pytest.mark.parametrize("head", [b"nonsense\r\n\r\n", b"GET / HTTP/1.1\r\nno colon\r\n\r\n"])
    def test_that_are_no_http_are_refused(self, server: uvicorn.Server, head: bytes) -> None:
        with connected(server) as connection:
            connection.sendall(head)

            assert read_refusal(connection) == (400, "bad_request")
            assert is_closed(connection)

    def test_a_broken_chunk_is_refused_and_the_application_is_told(
        self, server: uvicorn.Server, application: Application
    ) -> None:
        with connected(server) as connection:
            connection.sendall(request("/broken", Transfer_Encoding="chunked") + b"no length\r\n")

            assert read_refusal(connection) == (400, "bad_request")
        eventually(lambda: application.ends["/broken"] == ["disconnected"])
