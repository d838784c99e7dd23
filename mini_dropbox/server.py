"""The HTTP server of both roles: uvicorn under gunicorn, with time limits for quiet clients.

gunicorn serves on Linux and macOS; elsewhere, and for `runserver`, uvicorn serves alone.
"""

import json
import sys
from asyncio import TimerHandle, Transport
from dataclasses import dataclass
from typing import Any, Final

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from mini_dropbox.env import Role

APPLICATION: Final = "mini_dropbox.asgi:application"
# What is in flight when a stop is asked for may take this long, then it is refused.
GRACEFUL_SECONDS: Final = 2


@dataclass(frozen=True)
class TimeLimits:
    """Seconds that a connection may be quiet: amid a request or answer, and between requests."""

    read: float
    idle: float


TIME_LIMITS: Final = {Role.MASTER: TimeLimits(15, 60), Role.NODE: TimeLimits(30, 120)}


class PatientProtocol(HttpToolsProtocol):
    """uvicorn's HTTP protocol, patient for a stated time and honest about cut-off bodies.

    uvicorn alone waits for ever for a request that never ends and for a reader that never
    reads, and tells an application of a half-closed body as of a vanished client.
    """

    read_limit: float = TIME_LIMITS[Role.NODE].read

    _watch: TimerHandle | None = None
    _last_data: float = 0.0
    _last_backlog: int = 0

    def connection_made(self, transport: Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._last_data = self.loop.time()
        self._watch = self.loop.call_later(self.read_limit, self._check_quiet)

    def connection_lost(self, exc: Exception | None) -> None:
        if self._watch is not None:
            self._watch.cancel()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        self._last_data = self.loop.time()
        super().data_received(data)

    def eof_received(self) -> bool:  # type: ignore[override]
        """Keep a half-closed connection open as long as it is owed an answer."""
        if self.cycle is None or self.cycle.response_complete:
            return False
        if self.cycle.more_body:
            self._refuse(400, "truncated_body", "The body ended early; send it again, whole.")
            return False
        self.cycle.keep_alive = False
        return True

    def _check_quiet(self) -> None:
        """Close the connection if the client has not moved for a whole period; else look again."""
        now = self.loop.time()
        backlog = self.transport.get_write_buffer_size()
        stalled_reader = backlog > 0 and backlog == self._last_backlog
        self._last_backlog = backlog
        awaiting = self.cycle is None or (self.cycle.more_body and not self.cycle.response_complete)
        remaining = self._last_data + self.read_limit - now
        if stalled_reader:
            self.transport.abort()
        elif awaiting and remaining <= 0 and not self.flow.read_paused:
            self._refuse(408, "request_timeout", "Nothing came for too long; send it again.")
        else:
            wait = remaining if awaiting and remaining > 0 else self.read_limit
            self._watch = self.loop.call_later(wait, self._check_quiet)

    def _refuse(self, status: int, code: str, detail: str) -> None:
        """Answer for the application, which then sees a client that has gone, and close."""
        if self.cycle is None or not self.cycle.response_started:
            body = json.dumps({"success": False, "message": detail, "detail": detail, "code": code})
            reason = {400: "Bad Request", 408: "Request Timeout"}[status]
            head = (
                f"HTTP/1.1 {status} {reason}\r\ncontent-type: application/json\r\n"
                f"content-length: {len(body)}\r\nconnection: close\r\n\r\n"
            )
            self.transport.write((head + body).encode())
        if self.cycle is not None:
            self.cycle.disconnected = True
            self.cycle.message_event.set()
        self.transport.close()


class MasterProtocol(PatientProtocol):
    """The protocol with the master's limits."""

    read_limit = TIME_LIMITS[Role.MASTER].read


PROTOCOLS: Final = {Role.MASTER: MasterProtocol, Role.NODE: PatientProtocol}


def uvicorn_options(role: Role) -> dict[str, Any]:
    """Return what both ways to serve tell uvicorn."""
    return {
        "http": PROTOCOLS[role],
        "ws": "none",
        "lifespan": "on",
        "timeout_keep_alive": int(TIME_LIMITS[role].idle),
        "timeout_graceful_shutdown": GRACEFUL_SECONDS,
        "server_header": False,
        "date_header": True,
        "proxy_headers": False,
    }


def command(host: str, port: int) -> list[str]:
    """Return the command line of a server process for production."""
    if sys.platform == "win32":
        return [sys.executable, "-m", "mini_dropbox.serve", host, str(port)]
    bind = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    configuration = "python:mini_dropbox.gunicorn_conf"
    return [sys.executable, "-m", "gunicorn", "-c", configuration, "-b", bind, APPLICATION]


def node_settings(host: str, port: int) -> dict[str, str]:
    """Return the settings that make a process the node at this address, named by its port."""
    return {"NODE_ID": str(port), "NODE_URL": base_url(host, port)}


def base_url(host: str, port: int) -> str:
    """Return the http address of a server, with IPv6 hosts in brackets."""
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
