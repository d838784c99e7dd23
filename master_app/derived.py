"""What SQLite keeps up to date by itself: totals, and an index of the parts of files' names.

Triggers see every write, whoever makes it; only new names wait for `index_new_names`, because the
index writes to the disk for every statement, and one for many names costs little more than one.
All this is made after the migrations, not by one: Django changes a SQLite table by writing it anew,
which loses its triggers. Other databases have none of it; there, what asks here counts and searches
the tables themselves. docs/adr/0009-metadata-at-scale.md has the measurements.
"""

import logging
import sqlite3
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from django.db import connection, connections, transaction
from django.db.backends.utils import CursorWrapper
from django.db.models import Count, Sum

from master_app.models import Blob, File, Replica

logger = logging.getLogger(__name__)

TOTALS: Final = "master_app_totals"
NAMES: Final = "master_app_file_names"
# The first version of SQLite that can cut names into all their parts of three characters.
TRIGRAMS_SINCE: Final = (3, 34)

# By name, as SQLite keeps them: what is there is compared with this, word by word.
_TOTALS_OBJECTS: Final = {
    "master_app_totals": """CREATE TABLE master_app_totals (
        one INTEGER PRIMARY KEY CHECK (one = 1), files INTEGER NOT NULL, blobs INTEGER NOT NULL,
        verified_blobs INTEGER NOT NULL, verified_bytes INTEGER NOT NULL,
        replicas INTEGER NOT NULL, names_until INTEGER NOT NULL)""",
    "master_app_file_in": """CREATE TRIGGER master_app_file_in
        AFTER INSERT ON master_app_file BEGIN
        UPDATE master_app_totals SET files = files + 1; END""",
    "master_app_file_out": """CREATE TRIGGER master_app_file_out
        AFTER DELETE ON master_app_file BEGIN
        UPDATE master_app_totals SET files = files - 1; END""",
    "master_app_replica_in": """CREATE TRIGGER master_app_replica_in
        AFTER INSERT ON master_app_replica BEGIN
        UPDATE master_app_totals SET replicas = replicas + 1; END""",
    "master_app_replica_out": """CREATE TRIGGER master_app_replica_out
        AFTER DELETE ON master_app_replica BEGIN
        UPDATE master_app_totals SET replicas = replicas - 1; END""",
    "master_app_blob_in": """CREATE TRIGGER master_app_blob_in
        AFTER INSERT ON master_app_blob BEGIN
        UPDATE master_app_totals SET blobs = blobs + 1,
        verified_blobs = verified_blobs + NEW.verified,
        verified_bytes = verified_bytes + NEW.verified * NEW.size; END""",
    "master_app_blob_out": """CREATE TRIGGER master_app_blob_out
        AFTER DELETE ON master_app_blob BEGIN
        UPDATE master_app_totals SET blobs = blobs - 1,
        verified_blobs = verified_blobs - OLD.verified,
        verified_bytes = verified_bytes - OLD.verified * OLD.size; END""",
    "master_app_blob_changed": """CREATE TRIGGER master_app_blob_changed
        AFTER UPDATE OF verified, size ON master_app_blob BEGIN
        UPDATE master_app_totals SET
        verified_blobs = verified_blobs + NEW.verified - OLD.verified,
        verified_bytes = verified_bytes + NEW.verified * NEW.size - OLD.verified * OLD.size;
        END""",
}
# The index has the names of the files up to `names_until`, and of no others: SQLite takes a removal
# of what an index does not have for damage. Numbers begin anew after `flush`, and `loaddata` brings
# its own, so a new file may have one of those; its name is added at once.
# Without positions the index takes half the room; what it finds is compared with the name itself.
_NAMES_OBJECTS: Final = {
    "master_app_file_names": """CREATE VIRTUAL TABLE master_app_file_names USING fts5 (name,
        content='master_app_file', content_rowid='id', tokenize='trigram', detail='none')""",
    "master_app_file_name_in": """CREATE TRIGGER master_app_file_name_in
        AFTER INSERT ON master_app_file
        WHEN NEW.id <= (SELECT names_until FROM master_app_totals) BEGIN
        INSERT INTO master_app_file_names (rowid, name) VALUES (NEW.id, NEW.name); END""",
    "master_app_file_name_out": """CREATE TRIGGER master_app_file_name_out
        AFTER DELETE ON master_app_file
        WHEN OLD.id <= (SELECT names_until FROM master_app_totals) BEGIN
        INSERT INTO master_app_file_names (master_app_file_names, rowid, name)
        VALUES ('delete', OLD.id, OLD.name); END""",
    "master_app_file_name_changed": """CREATE TRIGGER master_app_file_name_changed
        AFTER UPDATE OF name ON master_app_file
        WHEN OLD.id <= (SELECT names_until FROM master_app_totals) BEGIN
        INSERT INTO master_app_file_names (master_app_file_names, rowid, name)
        VALUES ('delete', OLD.id, OLD.name);
        INSERT INTO master_app_file_names (rowid, name) VALUES (NEW.id, NEW.name); END""",
}
_COUNT: Final = """INSERT INTO master_app_totals
    SELECT 1, (SELECT count(*) FROM master_app_file), count(*), coalesce(sum(verified), 0),
    coalesce(sum(verified * size), 0), (SELECT count(*) FROM master_app_replica), 0
    FROM master_app_blob"""
_READ_TOTALS: Final = """SELECT files, blobs, verified_blobs, verified_bytes, replicas
    FROM master_app_totals"""
_INDEX_NEW_NAMES: Final = (
    """INSERT INTO master_app_file_names (rowid, name) SELECT id, name FROM master_app_file
    WHERE id > (SELECT names_until FROM master_app_totals)""",
    """UPDATE master_app_totals SET
    names_until = coalesce((SELECT max(id) FROM master_app_file), 0)""",
)
_ALL_INDEXED: Final = """SELECT names_until >= coalesce((SELECT max(id) FROM master_app_file), 0)
    FROM master_app_totals"""

_seen: set[str] = set()


@dataclass(frozen=True)
class Totals:
    """How many rows there are; `verified_bytes` are of the verified blobs, each counted once."""

    files: int
    blobs: int
    verified_blobs: int
    verified_bytes: int
    replicas: int


def totals() -> Totals:
    """Return the totals as they are at this moment."""
    if not _has_table(TOTALS):
        return count_anew()
    with connection.cursor() as cursor:
        cursor.execute(_READ_TOTALS)
        return Totals(*cursor.fetchone())


def count_anew() -> Totals:
    """Return the totals, counted from the rows themselves: seconds, where there are millions."""
    verified = Blob.objects.filter(verified=True).aggregate(blobs=Count("pk"), size=Sum("size"))
    return Totals(
        files=File.objects.count(),
        blobs=Blob.objects.count(),
        verified_blobs=verified["blobs"],
        verified_bytes=verified["size"] or 0,
        replicas=Replica.objects.count(),
    )


def index_new_names() -> None:
    """Add the names of new files to the index; in the transaction that makes the files."""
    if _has_table(NAMES):
        with connection.cursor() as cursor:
            for statement in _INDEX_NEW_NAMES:
                cursor.execute(statement)


def names_are_indexed() -> bool:
    """Tell whether the index of the parts of names is there and has every name."""
    if not _has_table(NAMES):
        return False
    with connection.cursor() as cursor:
        cursor.execute(_ALL_INDEXED)
        return bool(cursor.fetchone()[0])


def _has_table(name: str) -> bool:
    # What is there stays there; what is not may be made by the next `migrate`.
    if name not in _seen and connection.vendor == "sqlite":
        _seen.update({TOTALS, NAMES}.intersection(connection.introspection.table_names()))
    return name in _seen


def ensure(*, using: str, **_: Any) -> None:
    """Make what is missing or was made otherwise by an earlier version; after each `migrate`."""
    database = connections[using]
    tables = database.introspection.table_names() if database.vendor == "sqlite" else []
    if File._meta.db_table not in tables:
        return
    wanted = _TOTALS_OBJECTS
    with transaction.atomic(using), database.cursor() as cursor:
        if _knows_trigrams(cursor):
            wanted = {**_TOTALS_OBJECTS, **_NAMES_OBJECTS}
        if _found(cursor) != wanted:
            _remake(cursor, wanted)
    _seen.clear()


def _knows_trigrams(cursor: CursorWrapper) -> bool:
    cursor.execute("SELECT sqlite_compileoption_used('ENABLE_FTS5')")
    if cursor.fetchone()[0] and sqlite3.sqlite_version_info >= TRIGRAMS_SINCE:
        return True
    logger.warning("SQLite %s cannot index names: searches read them all", sqlite3.sqlite_version)
    return False


def _found(cursor: CursorWrapper) -> dict[str, str]:
    """Return what there is of ours by name, with what an earlier version has left behind."""
    cursor.execute(
        "SELECT name, sql FROM sqlite_master WHERE name IN (%s, %s)"
        " OR type = 'trigger' AND name LIKE 'master_app_%%'",
        (TOTALS, NAMES),
    )
    return dict(cursor.fetchall())


def _remake(cursor: CursorWrapper, wanted: Mapping[str, str]) -> None:
    for name in _found(cursor):
        cursor.execute(f"DROP {'TABLE' if name in {TOTALS, NAMES} else 'TRIGGER'} {name}")
    statements = [*wanted.values(), _COUNT]
    if NAMES in wanted:
        statements += _INDEX_NEW_NAMES
    for statement in statements:
        cursor.execute(statement)
