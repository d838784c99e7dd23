"""gunicorn's worker of both roles; apart from `server`, because gunicorn is POSIX only."""

import asyncio
import os
from typing import Any

from uvicorn_worker import UvicornWorker

from mini_dropbox import env
from mini_dropbox.server import uvicorn_options

PARENT_CHECK_SECONDS = 0.5


class Worker(UvicornWorker):
    """uvicorn's worker that ends with its arbiter.

    An arbiter killed with SIGKILL leaves its worker behind, which would keep the port and make
    every restart fail with "address in use".
    """

    CONFIG_KWARGS: dict[str, Any] = {"loop": "auto", **uvicorn_options(env.read().role)}

    async def _serve(self) -> None:
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
