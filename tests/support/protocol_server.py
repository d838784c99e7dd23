"""uvicorn with a protocol under test, in a thread, and sockets to it."""

import socket
import threading
from collections.abc import Awaitable, Callable, Iterator
from contextlib import closing, contextmanager
from http.client import HTTPResponse
from typing import Any

import uvicorn

from tests.support.waiting import eventually

# Far below the keep-alive limit, far above the read limits of tests.
PATIENCE = 5.0

Receive = Callable[[], Awaitable[dict[str, Any]]]
Send = Callable[[dict[str, Any]], Awaitable[None]]


@contextmanager
def serving(application: Any, protocol: type, keep_alive: int = 60) -> Iterator[uvicorn.Server]:
    config = uvicorn.Config(
        application,
        port=0,
        http=protocol,
        lifespan="off",
        log_config=None,
        access_log=False,
        proxy_headers=False,
        server_header=False,
        timeout_keep_alive=keep_alive,
        timeout_graceful_shutdown=1,
    )
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        eventually(lambda: server.started)
        yield server
    finally:
        server.should_exit = True
        thread.join()


@contextmanager
def connected(server: uvicorn.Server, receive_buffer: int = 0) -> Iterator[socket.socket]:
    """Connect to the server; `receive_buffer` in bytes, where it has to be small."""
    with closing(socket.socket()) as connection:
        if receive_buffer:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        connection.settimeout(PATIENCE)
        connection.connect(server.servers[0].sockets[0].getsockname())
        yield connection


def read_answer(connection: socket.socket, method: str = "GET") -> tuple[int, bytes]:
    with closing(HTTPResponse(connection, method=method)) as response:
        response.begin()
        return response.status, response.read()


def read_to_the_end(connection: socket.socket) -> bytes:
    received = bytearray()
    try:
        while piece := connection.recv(1 << 20):
            received += piece
    except ConnectionResetError:
        pass
    return bytes(received)


def is_closed(connection: socket.socket) -> bool:
    try:
        return connection.recv(1) == b""
    except ConnectionResetError:
        return True
