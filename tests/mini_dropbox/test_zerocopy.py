"""Files that the kernel sends, over real sockets: whole, slow, unread, cut off and too short."""

import asyncio
import itertools
import os
import random
import socket
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, suppress
from pathlib import Path
from typing import Any

import pytest
import uvicorn

from mini_dropbox import zerocopy
from mini_dropbox.patient_protocol import PatientProtocol
from mini_dropbox.zerocopy import (
    EXTENSION,
    FileCutShort,
    FileSending,
    ReaderGone,
    is_in_memory,
)
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
# More than the kernels of both sides hold together.
FILE_BYTES = 32 * 1024 * 1024
STALLED_READERS = 200

pytestmark = pytest.mark.skipif(not zerocopy.IS_SUPPORTED, reason="the system has no sendfile")

_paths = (f"/{number}" for number in itertools.count())


class ImpatientProtocol(PatientProtocol):
    read_limit = READ_LIMIT


class Application:
    """Sends a file, `?<offset>-<stop>` of it; remembers how each path's requests ended.

    What the answer announces is `count`; what the file has may be less.
    """

    def __init__(self, path: Path) -> None:
        self.file = path
        self.ends: dict[str, list[str]] = defaultdict(list)

    async def __call__(self, scope: dict[str, Any], receive: Receive, send: Send) -> None:
        assert EXTENSION in scope["extensions"]
        while (await receive()).get("more_body"):
            pass
        start, _, stop = scope["query_string"].partition(b"-")
        offset, count = int(start or 0), int(stop or FILE_BYTES) - int(start or 0)
        framing = (b"content-length", str(count).encode())
        if scope["path"] == "/chunked":
            framing = (b"transfer-encoding", b"chunked")
        await send({"type": "http.response.start", "status": 200, "headers": [framing]})
        descriptor = os.open(self.file, os.O_RDONLY)
        try:
            await send({"type": EXTENSION, "file": descriptor, "offset": offset, "count": count})
        except BaseException as error:
            self.ends[scope["path"]].append(type(error).__name__)
            raise
        finally:
            os.close(descriptor)
        self.ends[scope["path"]].append("returned")


@pytest.fixture(scope="module")
def content() -> bytes:
    return random.Random(1).randbytes(FILE_BYTES)


@pytest.fixture(scope="module")
def application(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> Application:
    path = tmp_path_factory.mktemp("files") / "file"
    path.write_bytes(content)
    return Application(path)


@pytest.fixture(scope="module")
def server(application: Application) -> Iterator[uvicorn.Server]:
    with serving(application, ImpatientProtocol) as running:
        yield running


@pytest.fixture(params=["memory", "disk"], autouse=True)
def whence(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Let the file be sent on the event loop, or in threads."""
    if request.param == "disk":
        monkeypatch.setattr(zerocopy, "is_in_memory", lambda *_: False)
    return str(request.param)


@pytest.fixture
def path() -> str:
    """Return a path of the test's own."""
    return next(_paths)


def ask(target: str, method: str = "GET") -> bytes:
    return f"{method} {target} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode()


def descriptors() -> set[str]:
    """Return what this process has open, except event loops' own."""
    found = set()
    for link in Path("/proc/self/fd").iterdir():
        try:
            found.add(f"{link.name} {link.readlink()}")
        except FileNotFoundError:
            continue
    return {name for name in found if "socket" in name or "file" in name}


class TestFiles:
    def test_arrive_whole_one_after_another(
        self, server: uvicorn.Server, content: bytes, path: str
    ) -> None:
        with connected(server) as connection:
            for _ in range(2):
                connection.sendall(ask(path))
                assert read_answer(connection) == (200, content)

    @pytest.mark.parametrize(
        ("start", "stop"), [(0, 1), (1, 2), (100_000, 3_000_000), (FILE_BYTES - 1, FILE_BYTES)]
    )
    def test_arrive_in_part(
        self, server: uvicorn.Server, content: bytes, path: str, start: int, stop: int
    ) -> None:
        with connected(server) as connection:
            connection.sendall(ask(f"{path}?{start}-{stop}"))
            assert read_answer(connection) == (200, content[start:stop])

    def test_arrive_in_the_order_of_pipelined_requests(
        self, server: uvicorn.Server, content: bytes, path: str
    ) -> None:
        ranges = [(start, start + 700_000) for start in range(0, 7_000_000, 1_000_000)]
        with connected(server) as connection:
            connection.sendall(b"".join(ask(f"{path}?{a}-{b}") for a, b in ranges))
            with connection.makefile("rb") as stream:
                for start, stop in ranges:
                    while stream.readline() != b"\r\n":
                        pass
                    assert stream.read(stop - start) == content[start:stop]

    def test_are_not_sent_for_head(self, server: uvicorn.Server, content: bytes, path: str) -> None:
        with connected(server) as connection:
            connection.sendall(ask(path, "HEAD"))
            assert read_answer(connection, "HEAD") == (200, b"")
            connection.sendall(ask(f"{path}?5-9"))
            assert read_answer(connection) == (200, content[5:9])

    def test_are_sent_to_a_client_that_will_send_no_more(
        self, server: uvicorn.Server, content: bytes, path: str
    ) -> None:
        with connected(server) as connection:
            connection.sendall(ask(path))
            connection.shutdown(socket.SHUT_WR)
            assert read_answer(connection) == (200, content)
            assert is_closed(connection)

    def test_are_sent_by_the_loop_of_every_system(
        self, application: Application, content: bytes, path: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(uvicorn.Config, "get_loop_factory", lambda _: asyncio.new_event_loop)
        with serving(application, ImpatientProtocol) as server, connected(server) as connection:
            for _ in range(2):
                connection.sendall(ask(path))
                assert read_answer(connection) == (200, content)

    def test_that_end_early_break_the_connection(
        self, server: uvicorn.Server, application: Application, path: str
    ) -> None:
        with connected(server) as connection:
            connection.sendall(ask(f"{path}?{FILE_BYTES - 5}-{FILE_BYTES + 5}"))
            head, _, body = read_to_the_end(connection).partition(b"\r\n\r\n")
            assert b"content-length: 10" in head
            assert len(body) == 5
        eventually(lambda: application.ends[path] == ["FileCutShort"])

    def test_need_a_length_that_was_announced(
        self, server: uvicorn.Server, application: Application
    ) -> None:
        with connected(server) as connection:
            connection.sendall(ask("/chunked"))
            assert read_to_the_end(connection).endswith(b"\r\n\r\n")
        assert application.ends.pop("/chunked") == ["RuntimeError"]


class TestReaders:
    def test_one_that_reads_nothing_is_cut_off(
        self, server: uvicorn.Server, application: Application, path: str
    ) -> None:
        with connected(server) as connection:
            connection.sendall(ask(path))
            eventually(lambda: application.ends[path], PATIENCE)
            assert len(read_to_the_end(connection)) < FILE_BYTES
        assert application.ends[path] == ["returned"]

    def test_one_that_reads_slowly_is_waited_for(
        self, server: uvicorn.Server, content: bytes, path: str
    ) -> None:
        with connected(server, receive_buffer=8_192) as connection:
            connection.sendall(ask(path))
            received, slow_until = bytearray(), time.monotonic() + READ_LIMIT * 6
            while time.monotonic() < slow_until:
                time.sleep(READ_LIMIT / 8)
                # Far less than the kernel has to get rid of before it takes more of the file.
                received += connection.recv(4_096)
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
            while not received.endswith(content[-100:]):
                received += connection.recv(1 << 20)

            assert received.partition(b"\r\n\r\n")[2] == content

    def test_those_that_leave_half_way_leave_nothing_open(
        self, server: uvicorn.Server, application: Application, path: str
    ) -> None:
        before = descriptors()
        for _ in range(20):
            with connected(server) as connection:
                connection.sendall(ask(path))
                assert connection.recv(100_000)
        eventually(lambda: len(application.ends[path]) == 20)
        eventually(lambda: descriptors() <= before, what="all descriptors are closed")

    def test_many_that_do_not_read_are_in_nobodys_way(
        self, server: uvicorn.Server, application: Application, content: bytes, path: str
    ) -> None:
        before = descriptors()
        with ExitStack() as stack:
            readers = [
                stack.enter_context(connected(server, receive_buffer=4_096))
                for _ in range(STALLED_READERS)
            ]
            for reader in readers:
                reader.sendall(ask(path))
            with connected(server) as connection:
                connection.sendall(ask(f"{path}-other"))
                assert read_answer(connection) == (200, content)
            eventually(lambda: application.ends[f"{path}-other"] == ["returned"])
        eventually(lambda: len(application.ends[path]) == STALLED_READERS)
        eventually(lambda: descriptors() <= before, what="all descriptors are closed")


class TestServersThatStop:
    def test_close_what_they_are_sending(self, application: Application, path: str) -> None:
        before = descriptors()
        with serving(application, PatientProtocol) as server, connected(server) as connection:
            connection.sendall(ask(path))
            assert connection.recv(1_000)
            server.should_exit = True
            eventually(lambda: application.ends[path] == ["CancelledError"])
            assert len(read_to_the_end(connection)) < FILE_BYTES
        eventually(lambda: descriptors() <= before, what="all descriptors are closed")


class TestSending:
    """`FileSending` by itself, over a pair of sockets."""

    @pytest.fixture
    def pair(self) -> Iterator[tuple[socket.socket, socket.socket]]:
        sender, reader = socket.socketpair()
        sender.setblocking(False)
        with closing(sender), closing(reader):
            yield sender, reader

    async def test_ends_when_it_is_abandoned(
        self, pair: tuple[socket.socket, socket.socket], application: Application
    ) -> None:
        with application.file.open("rb") as file:
            sending = FileSending(pair[0].fileno())
            task = asyncio.create_task(sending.send(file.fileno(), 0, FILE_BYTES))
            await _until(lambda: sending.waits_for_reader)
            assert 0 < sending.sent < FILE_BYTES
            sending.abandon()
            with pytest.raises(ReaderGone):
                await task

    async def test_ends_when_the_reader_leaves(
        self, pair: tuple[socket.socket, socket.socket], application: Application
    ) -> None:
        with application.file.open("rb") as file:
            sending = FileSending(pair[0].fileno())
            task = asyncio.create_task(sending.send(file.fileno(), 0, FILE_BYTES))
            await _until(lambda: sending.waits_for_reader)
            pair[1].close()
            with pytest.raises(ReaderGone):
                await task

    async def test_does_not_end_before_its_thread(
        self,
        pair: tuple[socket.socket, socket.socket],
        application: Application,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        begun, may_end = threading.Event(), threading.Event()

        def wait_for_the_disk(*_: int) -> int:
            begun.set()
            may_end.wait(PATIENCE)
            return 0

        monkeypatch.setattr(zerocopy, "is_in_memory", lambda *_: False)
        monkeypatch.setattr(zerocopy, "_send_some", wait_for_the_disk)
        with application.file.open("rb") as file:
            sending = FileSending(pair[0].fileno())
            task = asyncio.create_task(sending.send(file.fileno(), 0, FILE_BYTES))
            await _until(begun.is_set)
            task.cancel()
            for _ in range(10):
                await asyncio.sleep(0)
            assert not task.done()
            may_end.set()
            with pytest.raises(asyncio.CancelledError):
                await task

    async def test_ends_when_it_is_abandoned_while_a_thread_sends(
        self,
        pair: tuple[socket.socket, socket.socket],
        application: Application,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        begun, may_end = threading.Event(), threading.Event()

        def wait_for_the_disk(*_: int) -> int:
            begun.set()
            may_end.wait(PATIENCE)
            return 0

        monkeypatch.setattr(zerocopy, "is_in_memory", lambda *_: False)
        monkeypatch.setattr(zerocopy, "_send_some", wait_for_the_disk)
        with suppress(BlockingIOError):
            while True:
                pair[0].send(bytes(100_000))
        with application.file.open("rb") as file:
            sending = FileSending(pair[0].fileno())
            task = asyncio.create_task(sending.send(file.fileno(), 0, FILE_BYTES))
            await _until(begun.is_set)
            sending.abandon()
            may_end.set()
            with pytest.raises(ReaderGone):
                await asyncio.wait_for(task, PATIENCE)

    async def test_says_that_the_file_is_too_short(
        self, pair: tuple[socket.socket, socket.socket], application: Application
    ) -> None:
        with application.file.open("rb") as file:
            sending = FileSending(pair[0].fileno())
            with pytest.raises(FileCutShort):
                await sending.send(file.fileno(), FILE_BYTES - 1, 2)
            assert pair[1].recv(10) != b""


class TestMemory:
    """`is_in_memory` where the system cannot tell."""

    @pytest.mark.parametrize("missing", ["RWF_NOWAIT", "preadv"])
    def test_is_not_claimed_without_the_means_to_ask(
        self, application: Application, monkeypatch: pytest.MonkeyPatch, missing: str
    ) -> None:
        monkeypatch.delattr(os, missing, raising=False)
        with application.file.open("rb") as file:
            assert not is_in_memory(file.fileno(), 0, FILE_BYTES)

    def test_is_not_claimed_where_the_c_library_cannot_ask(
        self, application: Application, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def refuse(*_: object) -> int:
            raise NotImplementedError("preadv2 is not available")

        monkeypatch.setattr(os, "preadv", refuse, raising=False)
        with application.file.open("rb") as file:
            assert not is_in_memory(file.fileno(), 0, FILE_BYTES)


async def _until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(PATIENCE):
        while not condition():  # noqa: ASYNC110  nothing tells of it
            await asyncio.sleep(0.001)
