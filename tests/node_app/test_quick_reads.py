"""What the server answers without the application: the same, or nothing."""

import random
import time
from collections.abc import Iterator
from itertools import chain, pairwise
from pathlib import Path
from typing import Final

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mini_dropbox.patient_protocol import PatientProtocol
from mini_dropbox.quick_protocol import QuickProtocol
from node_app.dataplane import quick_reads
from node_app.dataplane.retrieve import INLINE_BYTES
from node_app.small_blobs import ENTRY_BYTES, SmallBlobs
from tests.support.blob_backends import md5, sha256
from tests.support.protocol_server import PATIENCE, connected, read_answer, serving
from tests.support.reading_node import MASTER, ReadingNode, exchange
from tests.support.waiting import eventually

SMALL: Final = b"a small blob"
LARGEST: Final = random.Random(2).randbytes(INLINE_BYTES)
TEXT: Final = b"compressed at rest " * 500
DAMAGED: Final = b"as it was stored"
CONTENTS: Final = (SMALL, b"", LARGEST, DAMAGED)

HASHES: Final = [md5(content) for content in (*CONTENTS, TEXT, b"never stored")]
# The usual ones come first, and so most often.
TARGETS: Final = [
    *(f"/retrieve?hash={blob_hash}" for blob_hash in HASHES),
    f"/retrieve?hash={md5(SMALL)}&name=b.html",
    f"/retrieve?hash={md5(SMALL)}&",
    f"/retrieve?hash={md5(SMALL)}#",
    f"/retrieve?hash={md5(SMALL).upper()}",
    f"/retrieve?hash={md5(SMALL)[:-1]}%",
    f"/retrieve?hash={md5(SMALL)[:-1]}",
    f"//retrieve?hash={md5(SMALL)}",
    "/elsewhere",
]
FIELDS: Final = [
    "User-Agent: test",
    "Accept: */*",
    "accept-language:de",
    "Accept-Encoding: gzip, deflate",
    "Accept-Encoding: gzip, zstd",
    "Connection: keep-alive",
    "Connection: Keep-Alive, X-Other",
    "Connection: close",
    "X-Unknown: 1",
    "Cookie: sessionid=1",
    "Authorization: Basic eDp5",
    "Range: bytes=1-3",
    "Range: bytes=99999999-",
    f'If-None-Match: "{md5(SMALL)}"',
    'If-Range: "other"',
    "If-Modified-Since: Mon, 23 Nov 2026 00:00:00 GMT",
    f"Origin: {MASTER}",
    "Origin: http://elsewhere.example",
    "Expect: 100-continue",
    "Content-Length: 0",
    "Upgrade: h2c",
    "Connection: Upgrade",
    "Host: localhost",
    "User-Agent:  two blanks",
    "Accept: trailing \t",
]
HOSTS: Final = ["Host: 127.0.0.1:8009", "host: nas", "Host: elsewhere.example", ""]


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ReadingNode]:
    reading = ReadingNode(tmp_path_factory.mktemp("node"))
    reading.backend.put(TEXT, "text.txt")
    assert reading.backend.compress() == 1
    for content in CONTENTS:
        reading.backend.put(content)
    reading.backend.plant(md5(DAMAGED), DAMAGED.replace(b"as", b"AS"))
    reading.on_record.add(md5(DAMAGED))
    yield reading
    reading.backend.close()


def ask(
    target: str, *fields: str, host: str = HOSTS[0], version: str = "1.1", method: str = "GET"
) -> bytes:
    lines = [f"{method} {target} HTTP/{version}", *filter(None, [host, *fields]), "", ""]
    return "\r\n".join(lines).encode()


def stored(target_of: bytes) -> str:
    return f"/retrieve?hash={md5(target_of)}"


def _request(target: str, fields: list[str], host: str, version: str, method: str) -> bytes:
    return ask(target, *fields, host=host, version=version, method=method)


requests = st.builds(
    _request,
    st.sampled_from(TARGETS),
    st.lists(st.sampled_from(FIELDS), max_size=3),
    host=st.sampled_from(HOSTS),
    version=st.sampled_from(["1.1", "1.1", "1.1", "1.0"]),
    method=st.sampled_from(["GET", "GET", "GET", "HEAD", "DELETE"]),
)
USUAL: Final = ask(stored(SMALL))
# Pieces that could be taken for requests of their own, or hide one.
TRAPS: Final = [
    [USUAL],
    [ask(stored(SMALL), "Accept: */*")],
    [USUAL + USUAL],
    [ask("/elsewhere")],
    [b"\r\n"],
    [b"nonsense\r\n\r\n"],
    [b"GET /elsewhere HTTP/1.1\r\nHost: localhost\r\nX-Half: ", USUAL],
    [b"GET /elsewhere?", USUAL],
    [ask("/elsewhere", f"Content-Length: {len(USUAL)}", method="POST"), USUAL],
    [ask("/elsewhere", f"Content-Length: {len(USUAL) * 2}", method="POST"), USUAL, USUAL],
    [ask("/retrieve", f"Content-Length: {len(USUAL) * 2}", method="POST"), USUAL, USUAL],
    [ask("/elsewhere", "Transfer-Encoding: chunked", method="POST"), b"1\r\n", USUAL],
]
streams = st.lists(
    st.sampled_from(TRAPS) | requests.map(lambda request: [request]), min_size=1, max_size=6
).map(lambda parts: [USUAL, *chain.from_iterable(parts)])


class TestAnswers:
    @settings(max_examples=400, deadline=None)
    @given(request=requests, target=st.sampled_from(TARGETS))
    async def test_are_those_of_the_usual_way(
        self, node: ReadingNode, request: bytes, target: str
    ) -> None:
        other = request.replace(request.split(b" ")[1], target.encode(), 1)
        pieces = [request, other, request, other]
        usual = await exchange(node, PatientProtocol, pieces)
        assert await exchange(node, QuickProtocol, pieces) == usual

    @settings(max_examples=500, deadline=None)
    @given(
        stream=streams,
        cuts=st.none() | st.lists(st.integers(0, 1500), max_size=4),
        hasty=st.booleans(),
    )
    async def test_come_in_order_however_the_requests_are_cut(
        self, node: ReadingNode, stream: list[bytes], *, cuts: list[int] | None, hasty: bool
    ) -> None:
        pieces = stream
        if cuts is not None:
            text = b"".join(stream)
            places = sorted({0, len(text), *(cut % (len(text) + 1) for cut in cuts)})
            pieces = [text[a:b] for a, b in pairwise(places)]
        usual = await exchange(node, PatientProtocol, pieces, hasty=hasty)
        quick = await exchange(node, QuickProtocol, pieces, hasty=hasty)
        # What cannot be understood ends a connection, and what was not answered by then is not.
        assert quick.startswith(usual) if hasty else quick == usual

    @pytest.mark.parametrize("content", [SMALL, b"", LARGEST, TEXT])
    async def test_are_quick_from_the_second_on(
        self, node: ReadingNode, content: bytes, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        quick: list[bytes | None] = []
        answer = node.quick_answers.answer
        monkeypatch.setattr(
            node.quick_answers, "answer", lambda request: quick.append(answer(request)) or quick[-1]
        )
        answers = await exchange(node, QuickProtocol, [ask(stored(content), "Accept: */*")] * 3)
        assert len(quick) == 2
        assert all(text and text.endswith(content) for text in quick)
        assert answers.count(b"HTTP/1.1 200 OK") == 3


class TestContents:
    async def test_damaged_on_disk_are_not_served(self, node: ReadingNode) -> None:
        for fields in ([], ["Range: bytes=3-5"]):
            answers = await exchange(node, QuickProtocol, [ask(stored(DAMAGED), *fields)] * 2)
            assert answers.count(b"HTTP/1.1 503") == 2
            assert b"as it was" not in answers.lower()

    async def test_that_are_deleted_are_forgotten(self, tmp_path: Path) -> None:
        node = ReadingNode(tmp_path)
        node.backend.put(SMALL)
        request = ask(stored(SMALL))
        assert (await exchange(node, QuickProtocol, [request] * 2)).count(b" 200 OK") == 2
        assert node.store.delete(md5(SMALL), sha256=sha256(SMALL))
        assert (await exchange(node, QuickProtocol, [request] * 2)).count(b" 404 ") == 2
        node.backend.close()

    async def test_that_are_set_aside_are_forgotten(self, tmp_path: Path) -> None:
        node = ReadingNode(tmp_path)
        node.backend.put(SMALL)
        assert node.quick_answers.answer(ask(stored(SMALL)).partition(b" HTTP")[0])
        node.backend.plant(md5(SMALL), b"x")
        node.backend.put(SMALL)
        node.backend.plant(md5(SMALL), None)
        assert node.quick_answers.answer(ask(stored(SMALL)).partition(b" HTTP")[0]) is None
        node.backend.close()

    def test_of_an_object_store_are_left_to_the_usual_way(self, tmp_path: Path) -> None:
        node = ReadingNode(tmp_path)
        node.backend.put(SMALL)
        reads = quick_reads.QuickReads(node, node.data_plane._hosts)  # type: ignore[arg-type]
        node.store = object()
        reads.start()
        assert reads.answer(ask(stored(SMALL)).partition(b" HTTP")[0]) is None
        node.backend.close()


class TestSmallBlobs:
    def test_the_latest_used_are_kept(self) -> None:
        texts = SmallBlobs(room=3 * (ENTRY_BYTES + 10))
        for key in (b"a", b"b", b"c"):
            texts.keep(key, bytes(10), moment=texts.moment)
        assert texts.get(b"a") == bytes(10)
        texts.keep(b"d", bytes(10), moment=texts.moment)
        assert [key for key in (b"a", b"b", b"c", b"d") if texts.get(key)] == [b"a", b"c", b"d"]
        texts.forget(b"a")
        texts.keep(b"e", bytes(10), moment=texts.moment)
        assert [key for key in (b"a", b"c", b"d", b"e") if texts.get(key)] == [b"c", b"d", b"e"]

    def test_one_larger_than_the_room_is_not_kept(self) -> None:
        texts = SmallBlobs(room=1000)
        texts.keep(b"a", bytes(1000), moment=texts.moment)
        assert texts.get(b"a") is None
        texts.keep(b"b", bytes(100), moment=texts.moment)
        assert texts.get(b"b") == bytes(100)

    def test_one_that_was_forgotten_while_it_was_made_is_not_kept(self) -> None:
        texts = SmallBlobs(room=10_000)
        moment = texts.moment
        texts.forget(b"a")
        texts.keep(b"a", b"text", moment=moment)
        assert texts.get(b"a") is None


class TestConnections:
    """Over real sockets, with limits that a test can wait for."""

    class Impatient(QuickProtocol):
        read_limit = 0.4

    def test_that_go_on_asking_are_kept(self, node: ReadingNode) -> None:
        with serving(node.data_plane, QuickProtocol, keep_alive=1) as server:
            with connected(server) as connection:
                for _ in range(8):
                    connection.sendall(ask(stored(SMALL)))
                    assert read_answer(connection) == (200, SMALL)
                    time.sleep(0.25)
                start = time.monotonic()
                assert connection.recv(1) == b""
                assert time.monotonic() - start < PATIENCE
            assert server.server_state.total_requests == 8

    def test_that_ask_without_reading_are_cut_off(self, node: ReadingNode) -> None:
        request = ask(stored(LARGEST))
        with (
            serving(node.data_plane, self.Impatient) as server,
            connected(server, receive_buffer=4096) as connection,
        ):
            (protocol,) = eventually(lambda: list(server.server_state.connections))
            waiting = [0]

            def ask_for_ever() -> None:
                while True:
                    connection.sendall(request)
                    waiting.append(protocol.transport.get_write_buffer_size())

            with pytest.raises(OSError, match=r"reset|pipe|timed out"):
                ask_for_ever()
            eventually(lambda: not server.server_state.connections)
            assert max(waiting) < 4 * INLINE_BYTES

    def test_that_are_idle_are_closed_by_a_server_that_stops(self, node: ReadingNode) -> None:
        with serving(node.data_plane, QuickProtocol) as server, connected(server) as connection:
            for _ in range(2):
                connection.sendall(ask(stored(SMALL)))
                assert read_answer(connection) == (200, SMALL)
            server.should_exit = True
            assert connection.recv(1) == b""
