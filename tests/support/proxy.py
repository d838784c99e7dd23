"""A line between two servers that tests can cut."""

import contextlib
import socket
import struct
import threading

from tests.support.cluster import HOST, free_ports

PIECE_BYTES = 65_536
CONNECT_SECONDS = 2.0
# Closing with this option and no time resets the connection.
RESET = struct.pack("ii", 1, 0)


class Proxy:
    """Passes TCP connections on to a port of this machine, until it is cut."""

    def __init__(self, target: int) -> None:
        (self.port,) = free_ports(1)
        self.url = f"http://{HOST}:{self.port}"
        self.lost_answers = 0
        self._target = target
        self._refuses = False
        self._passes = threading.Event()
        self._passes.set()
        self._losing = b""
        self._guard = threading.Lock()
        self._sockets: set[socket.socket] = set()
        self._listener = socket.create_server((HOST, self.port))
        threading.Thread(target=self._accept, daemon=True).start()

    def cut(self, *, silently: bool = False) -> None:
        """Reset every connection, old and new; silently, hold back every byte instead."""
        if silently:
            self._passes.clear()
        else:
            self._refuses = True
            self._reset_all()

    def heal(self) -> None:
        """Pass everything on again; what was held back arrives now."""
        self._refuses = False
        self._losing = b""
        self._passes.set()

    def lose_answers_to(self, request: bytes) -> None:
        """From now on, let requests with these bytes through and reset instead of the answer."""
        self._losing = request

    def close(self) -> None:
        # An accept that waits is woken only by this.
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._reset_all()
        self._passes.set()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        self._passes.wait()
        if self._refuses:
            _reset(client)
            return
        try:
            target = socket.create_connection((HOST, self._target), CONNECT_SECONDS)
        except OSError:
            _reset(client)
            return
        target.settimeout(None)
        with self._guard:
            self._sockets |= {client, target}
        is_losing = threading.Event()
        answers = threading.Thread(
            target=self._pump_answers, args=(target, client, is_losing), daemon=True
        )
        answers.start()
        self._pump_requests(client, target, is_losing)
        answers.join()
        with self._guard:
            self._sockets -= {client, target}
        for each in (client, target):
            each.close()

    def _pump_requests(
        self, client: socket.socket, target: socket.socket, is_losing: threading.Event
    ) -> None:
        with contextlib.suppress(OSError):
            while piece := client.recv(PIECE_BYTES):
                self._passes.wait()
                if self._losing and self._losing in piece:
                    is_losing.set()
                target.sendall(piece)
        _end(target)

    def _pump_answers(
        self, target: socket.socket, client: socket.socket, is_losing: threading.Event
    ) -> None:
        with contextlib.suppress(OSError):
            while piece := target.recv(PIECE_BYTES):
                self._passes.wait()
                if is_losing.is_set():
                    self.lost_answers += 1
                    _shut(client)
                    _shut(target)
                    return
                client.sendall(piece)
        _end(client)

    def _reset_all(self) -> None:
        with self._guard:
            for each in self._sockets:
                _shut(each)


def _end(connection: socket.socket) -> None:
    """Say that nothing more comes, as whoever is behind the proxy did."""
    with contextlib.suppress(OSError):
        connection.shutdown(socket.SHUT_WR)


def _shut(connection: socket.socket) -> None:
    """Wake whoever waits on a connection, which is reset once it is closed."""
    with contextlib.suppress(OSError):
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
        connection.shutdown(socket.SHUT_RDWR)


def _reset(connection: socket.socket) -> None:
    _shut(connection)
    connection.close()
