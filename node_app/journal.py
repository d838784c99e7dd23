"""Small contents on their way to being durable files.

To make a small file durable, and its name, takes several waits for the disk, and a young store
makes a folder for nearly each. A commit of the node's database takes one for all contents of a
group. So they are committed there, with their records; the files are written without waiting, one
sync of the file system makes many of them durable later, and then the database can forget the
contents. Where a crash came between, the next start writes the files that are missing.
"""

import json
import logging
import os
import threading
from collections.abc import Callable, Sequence
from itertools import count
from pathlib import Path
from typing import Final, NamedTuple

from mini_dropbox.durability import can_sync_file_system, sync_file_system
from node_app.database import NodeDatabase, Statement, wait_for
from node_app.disk import storage_errors
from node_app.errors import NodeError

logger = logging.getLogger(__name__)

# Larger contents are better written once.
MAX_CONTENT_BYTES: Final = 16 * 1024
# What waits longer costs no less, and makes the next start after a crash slower.
SETTLE_SECONDS: Final = 1.0
RETRY_SECONDS: Final = 5.0
# The files of more than this are made durable one by one, so that the disk sets the pace.
MAX_WAITING: Final = 4096
MAX_WAITING_BYTES: Final = 32 * 1024 * 1024


class Entry(NamedTuple):
    """A content whose file may not be durable."""

    id: int
    hash: str
    content: bytes

    @property
    def statement(self) -> Statement:
        """What keeps it, to be committed before its file is begun."""
        return "INSERT INTO journal (id, hash, content) VALUES (?, ?, ?)", self


class Journal:
    """The table `journal` of a node's database, and the thread that empties it.

    StoreFull or StoreFailed when the disk or the database fails.
    """

    def __init__(self, database: NodeDatabase, folder: Path) -> None:
        self._database = database
        # Opened before any file is written, because it tells of errors from then on.
        self._folder = os.open(folder, os.O_RDONLY)
        self.can_sync = can_sync_file_system(folder)
        # Writes the files of entries anew, durably where that is not done by a sync; set by the
        # store that they belong to.
        self.rewrite: Callable[[Sequence[Entry]], None] = lambda _: None
        ((newest,),) = database.read("SELECT COALESCE(MAX(id), 0) FROM journal")
        self._ids = count(newest + 1)
        self._guard = threading.Lock()
        # Entries whose files are written.
        self._written: list[int] = []
        self._waiting = self._waiting_bytes = 0
        self._is_failing = False
        self._complaint = ""
        self._work = threading.Event()
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None

    def takes(self, size: int) -> bool:
        """Tell whether a content of `size` bytes had better go this way."""
        return (
            self.can_sync
            and size <= MAX_CONTENT_BYTES
            and self._waiting < MAX_WAITING
            and self._waiting_bytes < MAX_WAITING_BYTES
            and not self._is_failing
        )

    @property
    def backlog(self) -> tuple[int, int]:
        """How many contents wait to become durable files, and their bytes."""
        return self._waiting, self._waiting_bytes

    def entry(self, blob_hash: str, content: bytes) -> Entry:
        """Return an entry to be committed."""
        return Entry(next(self._ids), blob_hash, content)

    def written(self, entries: Sequence[Entry]) -> None:
        """Note that the files of committed entries are written, and let them become durable."""
        with self._guard:
            self._written += [entry.id for entry in entries]
            self._waiting += len(entries)
            self._waiting_bytes += sum(len(entry.content) for entry in entries)
        self._work.set()

    def unsettled(self) -> list[Entry]:
        """Return what an earlier process may not have made durable."""
        rows = self._database.read("SELECT id, hash, content FROM journal ORDER BY id")
        return [Entry(*row) for row in rows]

    def settle(self) -> None:
        """Make durable what is written, and forget its contents."""
        with self._guard:
            written, self._written = self._written, []
            waiting, waiting_bytes = self._waiting, self._waiting_bytes
        if not written:
            return
        try:
            if self._is_failing:
                # What could not be written once may be lost, and a second sync would not tell.
                lost = set(written)
                self.rewrite([entry for entry in self.unsettled() if entry.id in lost])
            if self.can_sync:
                with storage_errors():
                    sync_file_system(self._folder)
            self._forget(written)
        except NodeError:
            self._is_failing = True
            with self._guard:
                self._written += written
            raise
        self._is_failing = False
        with self._guard:
            self._waiting -= waiting
            self._waiting_bytes -= waiting_bytes

    def recover(self) -> None:
        """Write anew, and make durable, what an earlier process may not have.

        What cannot be written now waits for a later settling; NodeError is logged, not raised.
        """
        if entries := self.unsettled():
            self.written(entries)
            self._is_failing = True
            self._fails_to_settle()

    def start(self) -> None:
        """Settle from now on, about once a second while there is something."""
        self._thread = threading.Thread(target=self._run, name="journal", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Settle what waits, and end; blocks until then."""
        self._stopping.set()
        self._work.set()
        if self._thread is not None:
            self._thread.join()
        self._fails_to_settle()
        self.close()

    def close(self) -> None:
        """Let go of the folder, as a kill does."""
        os.close(self._folder)

    def _run(self) -> None:
        pause = SETTLE_SECONDS
        while not self._stopping.is_set():
            self._work.wait()
            self._stopping.wait(pause)
            self._work.clear()
            pause = RETRY_SECONDS if self._fails_to_settle() else SETTLE_SECONDS

    def _fails_to_settle(self) -> bool:
        try:
            self.settle()
        except NodeError as error:
            if str(error) != self._complaint:
                logger.error("Small files cannot be made durable: %s", error)  # noqa: TRY400  no traceback
            self._complaint = str(error)
            self._work.set()
            return True
        self._complaint = ""
        return False

    def _forget(self, ids: Sequence[int]) -> None:
        sql = "DELETE FROM journal WHERE id IN (SELECT value FROM json_each(?))"
        wait_for(self._database.write(sql, (json.dumps(ids),)))
