"""What the master has still to be told, kept on disk while it is away."""

import json
from collections.abc import Sequence
from typing import Final

from mini_dropbox.wire import Registration
from node_app.database import NodeDatabase

BATCH: Final = 500


class Outbox:
    """The table `outbox` of a node's database, first in, first out. Errors are sqlite3's own."""

    def __init__(self, database: NodeDatabase) -> None:
        self._database = database

    def add(self, registrations: Sequence[Registration]) -> None:
        """Keep registrations; returns once they are on disk."""
        sql = "INSERT INTO outbox (registration) VALUES (?)"
        writes = [self._database.write(sql, (json.dumps(r.to_json()),)) for r in registrations]
        for write in writes:
            write.result()

    def oldest(self) -> tuple[list[Registration], int]:
        """Return the oldest registrations and the id of the last of them, to `remove` by."""
        sql = "SELECT id, registration FROM outbox ORDER BY id LIMIT ?"
        rows = self._database.read(sql, (BATCH,))
        return [_registration(text) for _, text in rows], rows[-1][0] if rows else 0

    def remove_up_to(self, last_id: int) -> None:
        """Forget what has been delivered."""
        self._database.write("DELETE FROM outbox WHERE id <= ?", (last_id,)).result()

    def __len__(self) -> int:
        ((count,),) = self._database.read("SELECT COUNT(*) FROM outbox")
        return int(count)


def _registration(text: str) -> Registration:
    fields = json.loads(text)
    return Registration(**{**fields, "replicas": tuple(fields["replicas"])})
