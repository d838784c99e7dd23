"""What the master has still to be told, and what it does not take, kept on disk."""

import json
from collections.abc import Sequence
from typing import Final

from mini_dropbox.wire import Registration
from node_app.database import NodeDatabase

BATCH: Final = 500


class Outbox:
    """The table `outbox` of a node's database, first in, first out, and the table `refused`.

    Errors are sqlite3's own.
    """

    def __init__(self, database: NodeDatabase) -> None:
        self._database = database

    def add(self, registrations: Sequence[Registration]) -> None:
        """Keep registrations; returns once they are on disk."""
        sql = "INSERT INTO outbox (registration) VALUES (?)"
        self._write(sql, [(_text(registration),) for registration in registrations])

    def oldest(self) -> tuple[list[Registration], int]:
        """Return the oldest registrations and the id of the last of them, to `remove` by."""
        sql = "SELECT id, registration FROM outbox ORDER BY id LIMIT ?"
        rows = self._database.read(sql, (BATCH,))
        return [_registration(text) for _, text in rows], rows[-1][0] if rows else 0

    def remove_up_to(self, last_id: int) -> None:
        """Forget what has been delivered."""
        self._database.write("DELETE FROM outbox WHERE id <= ?", (last_id,)).result()

    def refuse(self, refusals: Sequence[tuple[Registration, str]]) -> None:
        """Keep what the master will never take, each with the reason, for whoever can mend it.

        Returns once they are on disk; what is there already stays as it is.
        """
        sql = "INSERT OR IGNORE INTO refused (registration, reason) VALUES (?, ?)"
        self._write(sql, [(_text(registration), reason) for registration, reason in refusals])

    def refused_count(self) -> int:
        """Return how many registrations the master did not take."""
        ((count,),) = self._database.read("SELECT COUNT(*) FROM refused")
        return int(count)

    def __len__(self) -> int:
        ((count,),) = self._database.read("SELECT COUNT(*) FROM outbox")
        return int(count)

    def _write(self, sql: str, rows: Sequence[tuple[str, ...]]) -> None:
        for write in [self._database.write(sql, row) for row in rows]:
            write.result()


def _text(registration: Registration) -> str:
    return json.dumps(registration.to_json())


def _registration(text: str) -> Registration:
    fields = json.loads(text)
    return Registration(**{**fields, "replicas": tuple(fields["replicas"])})
