"""Looks after jobs whose process has gone, for as long as the master runs."""

import logging
from threading import Event
from typing import Final

from django.db import DatabaseError, connection

from seedream_app import services

logger = logging.getLogger(__name__)

# How often to look. A lease that has just run out belongs to a process that died minutes ago.
PERIOD_SECONDS: Final = 5.0


def watch_jobs(stopping: Event) -> None:
    """Resume abandoned jobs now and then until `stopping` is set."""
    while not stopping.wait(PERIOD_SECONDS):
        try:
            resumed = services.generation_resume_pending()
            if resumed:
                logger.info("Unfinished image generations taken up: %d", resumed)
        except DatabaseError as error:
            logger.error("Unfinished image generations cannot be looked up: %s", error)  # noqa: TRY400  The next look may do.
        finally:
            # This thread is no request, at whose end Django would close it.
            connection.close()
