"""gunicorn's worker of both roles; apart from `server`, because gunicorn is POSIX only."""

import asyncio
import os
import socket
from collections.abc import Iterable
from typing import Any

from gunicorn.sock import BaseSocket
from uvicorn_worker import UvicornWorker

from mini_dropbox import env
from mini_dropbox.server import uvicorn_options

PARENT_CHECK_SECONDS = 0.5


class Worker(UvicornWorker):
    """uvicorn's worker that ends with its arbiter.

    An arbiter killed with SIGKILL leaves its worker behind, which would keep the port and make
    every restart fail with "address in use".
    """

    sockets: list[Any]
    CONFIG_KWARGS: dict[str, Any] = {"loop": "auto", **uvicorn_options(env.read().role)}

    async def _serve(self) -> None:
        self.sockets = plain_sockets(self.sockets)
        watch = asyncio.create_task(self._end_with_parent())
        try:
            await super()._serve()
        finally:
            watch.cancel()

    async def _end_with_parent(self) -> None:
        while os.getppid() == self.ppid:  # noqa: ASYNC110  no event tells of a parent's death
            await asyncio.sleep(PARENT_CHECK_SECONDS)
        # Nobody is left to restart anything from here, so nothing may be waited for.
        os._exit(1)


def plain_sockets(listeners: Iterable[BaseSocket]) -> list[socket.socket]:
    """Return what gunicorn's listeners wrap, for an event loop to take over.

    An event loop detaches a socket that it closes itself. It cannot detach a listener, which would
    close the same descriptor once more: by then perhaps that of a file being written by a thread.
    """
    return [listener.sock for listener in listeners]
