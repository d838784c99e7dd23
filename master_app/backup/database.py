"""The SQLite file under the master, copied, checked and replaced behind Django's back."""

import logging
import os
import shutil
import sqlite3
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from django.db import connection

from master_app import derived
from master_app.backup.archive import private_file
from master_app.backup.errors import BackupError
from master_app.models import Blob, Cluster, File, Node, Replica
from mini_dropbox.durability import fsync_folder

logger = logging.getLogger(__name__)

# What SQLite keeps beside a database in WAL mode.
COMPANIONS: Final = ("-wal", "-shm")
# How Django keeps moments in SQLite.
STAMP: Final = "%Y-%m-%d %H:%M:%S.%f"
# The totals that triggers keep, and the tables that they are of.
KEPT_TOTALS: Final = {"files": File, "blobs": Blob, "replicas": Replica}


def database_path() -> Path:
    """Return where the master's database is; BackupError where it is not a file of SQLite."""
    if connection.vendor != "sqlite":
        raise BackupError("The database is not SQLite: use its own tools, such as pg_dump.")
    return Path(connection.settings_dict["NAME"])


def copy(source: Path, target: Path) -> None:
    """Write all that is committed at one moment to a new file; writers need not wait for it."""
    with private_file(target):
        pass
    with closing(_connect(source)) as live, closing(_connect(target)) as copied:
        # In one step: in several, each write of another process would begin it anew.
        live.backup(copied, pages=-1)
        # A file of its own, with no companions.
        copied.execute("PRAGMA journal_mode=DELETE")


def check(path: Path) -> dict[str, int]:
    """Return how many rows each table has; BackupError unless the database is whole."""
    try:
        with closing(_connect(path)) as database:
            _check_whole(database)
            rows = _count_rows(database)
            _check_totals(database, rows)
    except sqlite3.DatabaseError as error:
        raise BackupError(f"{path} is not a whole database: {error}.") from error
    return rows


def mark_restored(path: Path, *, known_until: datetime, moment: datetime) -> None:
    """Let the next start ask all nodes for what the database, of `known_until`, does not know."""
    cluster, node = Cluster._meta.db_table, Node._meta.db_table
    with closing(_connect(path)) as database, database:
        # One that had not caught up itself lacks more.
        database.execute(
            f"UPDATE {cluster} SET restored_at = ?2, known_until = CASE "  # noqa: S608
            f"WHEN restored_at IS NOT NULL AND EXISTS (SELECT 1 FROM {node} WHERE inventory_due) "
            "THEN known_until ELSE ?1 END",
            [each.astimezone(UTC).strftime(STAMP) for each in (known_until, moment)],
        )
        database.execute(f"UPDATE {node} SET inventory_due = 1")  # noqa: S608


def replace(path: Path, restored: Path, moment: datetime) -> Path | None:
    """Let `restored` take the database's place; return where the one before is, if there was one.

    Whatever interrupts it, there is a whole database, and no other one's journal beside it.
    """
    kept: Path | None = None
    if path.exists():
        kept = path.with_name(f"{path.name}.replaced-{moment:%Y%m%dT%H%M%S.%fZ}")
        shutil.copymode(path, restored)
        _fold_in_journal(path)
        os.link(path, kept)
    for companion in COMPANIONS:
        # Those of a database that could not be opened, or had no room for its own journal.
        left = path.with_name(path.name + companion)
        if kept is not None and left.exists():
            left.replace(kept.with_name(kept.name + companion))
        left.unlink(missing_ok=True)
    restored.replace(path)
    fsync_folder(path.parent)
    return kept


def _fold_in_journal(path: Path) -> None:
    """Bring what is in the write-ahead log into the database itself, which then stands alone.

    BackupError while another process has the database open. One that is too damaged stays as it is.
    """
    mode = "delete"
    try:
        with closing(_connect(path)) as database:
            ((mode,),) = database.execute("PRAGMA journal_mode=DELETE")
    except sqlite3.OperationalError as error:
        if error.sqlite_errorcode == sqlite3.SQLITE_BUSY:
            mode = "busy"
        logger.warning("The journal of the database before stays beside it: %s", error)
    except sqlite3.DatabaseError as error:
        logger.warning("The database before is damaged, and kept as it is: %s", error)
    if mode != "delete":
        raise BackupError(f"Another process has {path} open: stop it first.")


def _check_whole(database: sqlite3.Connection) -> None:
    problems = [text for (text,) in database.execute("PRAGMA integrity_check") if text != "ok"]
    problems += [
        f"a row of {table} names one of {parent} that is not there"
        for table, _, parent, _ in database.execute("PRAGMA foreign_key_check")
    ]
    if problems:
        raise BackupError(f"The database is damaged: {problems[0]} (problems: {len(problems)}).")


def _count_rows(database: sqlite3.Connection) -> dict[str, int]:
    sql = "SELECT name FROM sqlite_master WHERE type = 'table' AND sql NOT LIKE 'CREATE VIRTUAL%'"
    tables = [name for (name,) in database.execute(sql)]
    return {
        table: database.execute(f'SELECT count(*) FROM "{table}"').fetchone()[0]  # noqa: S608
        for table in sorted(tables)
        # The inner tables of the index of names change their number as it pleases.
        if not table.startswith((derived.NAMES, "sqlite_"))
    }


def _check_totals(database: sqlite3.Connection, rows: dict[str, int]) -> None:
    if derived.TOTALS not in rows:
        return
    (totals,) = database.execute(f"SELECT {', '.join(KEPT_TOTALS)} FROM {derived.TOTALS}")  # noqa: S608
    counted = tuple(rows[model._meta.db_table] for model in KEPT_TOTALS.values())
    if totals != counted:
        raise BackupError(
            f"The database counts {totals} files, blobs, replicas, and has {counted}."
        )


def _connect(path: Path) -> sqlite3.Connection:
    return sqlite3.connect(f"{path.absolute().as_uri()}?mode=rw", uri=True, timeout=10)
