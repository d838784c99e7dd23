"""Whether the master's database can be read and written now, and what keeps it from that."""

import logging
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from django.conf import settings
from django.db import DatabaseError, connection, transaction

from master_app.errors import DatabaseUnavailable
from master_app.models import Node
from mini_dropbox.errors import database_error_kind
from mini_dropbox.shared_check import SharedCheck

logger = logging.getLogger(__name__)

# A check writes a page and waits for the disk, so that it is made at most once in this time,
# whoever asks. Registrations wait for ten seconds; who asks for health wants to know earlier.
CHECK_SECONDS: Final = 1.0
LOCK_SECONDS: Final = 2.0
# As much as SQLite lets its log of writes grow. It goes on for a while in what it has already,
# which says nothing of the next file.
RESERVED_BYTES: Final = 4 * 1024 * 1024

SENTENCES: Final = {
    "locked": f"The database has been locked for {LOCK_SECONDS:g} seconds; end what holds it.",
    "read_only": "The database cannot be written; make its file and its folder writable.",
    "full": "The disk of the database is full; free some space.",
    "failed": "The database cannot be {act}; look after its disk. The log says more.",
}


def _check() -> None:
    with _failures("read"), _patience(LOCK_SECONDS):
        Node.objects.exists()
    if shutil.disk_usage(settings.MASTER_DIR).free < RESERVED_BYTES:
        raise _unavailable("full")
    with _failures("written"), _patience(LOCK_SECONDS), transaction.atomic():
        _write()


def _write() -> None:
    with connection.cursor() as cursor:
        # To the first page of the file; it is a number that nobody reads.
        cursor.execute("PRAGMA user_version = 0")


@contextmanager
def _failures(act: str) -> Iterator[None]:
    """Turn the database's errors into DatabaseUnavailable."""
    try:
        yield
    except DatabaseError as error:
        logger.error("The database cannot be %s: %s", act, error)  # noqa: TRY400  no traceback
        raise _unavailable(database_error_kind(error), act) from error


@contextmanager
def _patience(seconds: float) -> Iterator[None]:
    """Wait less than usual for a lock."""
    with connection.cursor() as cursor:
        cursor.execute("PRAGMA busy_timeout")
        (usual,) = cursor.fetchone()
        cursor.execute(f"PRAGMA busy_timeout = {int(seconds * 1000)}")
    try:
        yield
    finally:
        with connection.cursor() as cursor:
            cursor.execute(f"PRAGMA busy_timeout = {usual}")


def _unavailable(kind: str, act: str = "") -> DatabaseUnavailable:
    return DatabaseUnavailable(SENTENCES[kind].format(act=act), code=f"database_{kind}")


# Of this process. Raises DatabaseUnavailable.
check_database: Final = SharedCheck(_check, seconds=CHECK_SECONDS)
