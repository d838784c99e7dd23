"""Copies that this node has lost, kept on disk until the master has heard of them."""

from collections.abc import Sequence
from typing import Final

from mini_dropbox.wire import Loss
from node_app.database import NodeDatabase, Statement

BATCH: Final = 500


def statement(loss: Loss) -> Statement:
    """Return what keeps a loss, to be committed with whatever tells of it."""
    sql = "INSERT INTO loss (hash, reason, found_by, at) VALUES (?, ?, ?, ?)"
    return sql, (loss.hash, loss.reason, loss.found_by, loss.at)


class Losses:
    """The table `loss` of a node's database, first in, first out. Errors are sqlite3's own."""

    def __init__(self, database: NodeDatabase) -> None:
        self._database = database

    def oldest(self) -> tuple[Sequence[Loss], int]:
        """Return the oldest losses, and the id of the last of them, to `remove` by."""
        sql = "SELECT id, hash, reason, found_by, at FROM loss ORDER BY id LIMIT ?"
        rows = self._database.read(sql, (BATCH,))
        losses = [
            Loss(hash=blob_hash, reason=reason, found_by=found_by, at=at)
            for _, blob_hash, reason, found_by, at in rows
        ]
        return losses, rows[-1][0] if rows else 0

    def remove_up_to(self, last_id: int) -> None:
        """Forget what has been heard."""
        self._database.write("DELETE FROM loss WHERE id <= ?", (last_id,)).result()

    def __len__(self) -> int:
        ((count,),) = self._database.read("SELECT COUNT(*) FROM loss")
        return int(count)
