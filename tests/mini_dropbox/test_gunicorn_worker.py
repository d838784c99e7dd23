"""What gunicorn hands to the event loop."""

import asyncio
import logging
import sys

import pytest

if sys.platform == "win32":
    pytest.skip("gunicorn is POSIX only", allow_module_level=True)

import uvloop
from gunicorn.config import Config
from gunicorn.sock import TCPSocket

from mini_dropbox.gunicorn_worker import plain_sockets


def test_a_listener_is_closed_once(caplog: pytest.LogCaptureFixture) -> None:
    """Closed twice, the second time takes away a descriptor that may be another file's by then."""
    caplog.set_level(logging.INFO)
    listener = TCPSocket(("127.0.0.1", 0), Config(), logging.getLogger("gunicorn"))

    async def serve_for_a_moment() -> None:
        sockets = plain_sockets([listener])
        loop = asyncio.get_running_loop()
        server = await loop.create_server(asyncio.Protocol, sock=sockets[0])
        server.close()
        await server.wait_closed()
        for taken_over in sockets:
            taken_over.close()
        listener.close()

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(serve_for_a_moment())

    assert caplog.messages == []
