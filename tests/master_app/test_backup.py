"""Backups: what is in one, and what is never taken for one."""

import io
import json
import os
import sqlite3
import stat
import zipfile
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from django.core.management import CommandError, call_command

from master_app.backup import archive, database
from master_app.backup.errors import BackupError
from master_app.membership import cluster_id
from master_app.models import Blob, File
from tests.support.records import add_file, add_node

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Return where the backup goes, of a database with three files of two contents."""
    add_node("8001")
    add_node("8002")
    for name, content in (("a.txt", b"one"), ("b.txt", b"one"), ("c.txt", b"other")):
        add_file(name, content)
    return tmp_path / "books.zip"


def contents(path: Path) -> dict[str, bytes]:
    with zipfile.ZipFile(path) as zipped:
        return {name: zipped.read(name) for name in zipped.namelist()}


def backup(path: Path, **options: Any) -> str:
    said = io.StringIO()
    call_command("backup", path, stdout=said, **options)
    return said.getvalue()


def test_a_backup_has_all_rows_and_says_so(path: Path) -> None:
    said = backup(path)

    assert "It has 3 files, 2 blobs, 4 copies, 2 nodes; secrets: none." in said
    assert cluster_id() in said
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert list(path.parent.iterdir()) == [path]
    manifest = archive.verify(path)
    assert (manifest.cluster_id, manifest.secrets) == (cluster_id(), [])


def test_any_sqlite_reads_the_database_in_it(path: Path, tmp_path: Path) -> None:
    backup(path)
    with zipfile.ZipFile(path) as zipped:
        zipped.extract("db.sqlite3", tmp_path)

    with closing(sqlite3.connect(tmp_path / "db.sqlite3")) as copied:
        names = copied.execute("SELECT name FROM master_app_file ORDER BY name").fetchall()
        assert names == [("a.txt",), ("b.txt",), ("c.txt",)]
        found = "SELECT rowid FROM master_app_file_names WHERE name LIKE '%a.t%'"
        assert len(copied.execute(found).fetchall()) == 1
        # The totals go on to follow the rows.
        copied.execute("DELETE FROM master_app_file WHERE name = 'a.txt'")
        assert copied.execute("SELECT files FROM master_app_totals").fetchone() == (2,)
        copied.commit()
    assert not list(tmp_path.glob("db.sqlite3-*"))


def test_secrets_are_in_a_backup_only_if_that_is_said(path: Path) -> None:
    backup(path)
    with zipfile.ZipFile(path) as zipped:
        assert sorted(zipped.namelist()) == ["db.sqlite3", "manifest.json"]

    said = backup(path, force=True, with_secrets=True)

    assert "secrets: cluster_secret" in said
    assert archive.read_secrets(path) == {"cluster_secret": "the secret of the tests"}


def test_what_is_there_is_replaced_only_by_force(path: Path) -> None:
    path.write_text("something else")

    with pytest.raises(CommandError, match="add --force"):
        backup(path)
    assert path.read_text() == "something else"

    backup(path, force=True)
    assert archive.verify(path).rows[Blob._meta.db_table] == 2


@pytest.mark.parametrize("place", ["", "no such folder/books.zip"])
def test_a_place_that_no_file_can_have_is_refused(tmp_path: Path, place: str) -> None:
    with pytest.raises(CommandError, match="name one in a folder that is there"):
        backup(tmp_path / place)


def test_a_full_disk_leaves_the_backup_before_as_it_was(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    backup(path)
    before = path.read_bytes()
    add_file("later.txt")
    monkeypatch.setattr(archive.os, "fsync", full)

    with pytest.raises(CommandError, match="No space left"):
        backup(path, force=True)

    assert path.read_bytes() == before
    assert list(path.parent.iterdir()) == [path]


def test_no_byte_of_the_content_can_change_unseen(path: Path) -> None:
    backup(path)
    whole = path.read_bytes()
    with zipfile.ZipFile(path) as zipped:
        places = [
            info.header_offset + 30 + len(info.filename) + part * info.compress_size // 10
            for info in zipped.infolist()
            for part in range(1, 10)
        ]
    content, found = contents(path), 0
    for place in places:
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
        try:
            archive.verify(path)
        except BackupError:
            found += 1
        else:
            # A run of equal bytes can be compressed in more ways than one.
            assert contents(path) == content
    assert found > len(places) / 2


@pytest.mark.parametrize("part", [0.0, 0.5, 0.99])
def test_a_part_of_a_backup_is_no_backup(path: Path, part: float) -> None:
    backup(path)
    whole = path.read_bytes()
    path.write_bytes(whole[: int(len(whole) * part)])

    with pytest.raises(BackupError, match="damaged or no backup"):
        archive.verify(path)


@pytest.mark.parametrize(
    "members",
    [
        {},
        {"manifest.json": "no JSON"},
        {"manifest.json": "[]"},
        {"manifest.json": json.dumps({"format": 2})},
        {"manifest.json": json.dumps({"format": 1, "sha256": {}})},
        {
            "manifest.json": json.dumps(
                {
                    "version": "1",
                    "cluster_id": "x",
                    "made_at": "now",
                    "rows": {},
                    "sha256": {"db.sqlite3": "0" * 64},
                }
            )
        },
    ],
)
def test_other_archives_are_no_backups(tmp_path: Path, members: dict[str, str]) -> None:
    with zipfile.ZipFile(tmp_path / "other.zip", "w") as zipped:
        for name, text in members.items():
            zipped.writestr(name, text)

    with pytest.raises(BackupError):
        archive.verify(tmp_path / "other.zip")


def test_a_database_whose_pages_are_damaged_is_not_backed_up(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def copy_badly(source: Path, target: Path) -> None:
        copy(source, target)
        with target.open("r+b") as file:
            file.seek(8192)
            file.write(os.urandom(100 * 4096))

    copy = database.copy
    monkeypatch.setattr(database, "copy", copy_badly)

    with pytest.raises(CommandError, match=r"damaged|not a whole database"):
        backup(path)
    assert not list(path.parent.iterdir())


def test_totals_that_do_not_fit_the_rows_are_found(path: Path, tmp_path: Path) -> None:
    copied = tmp_path / "copied.sqlite3"
    database.copy(database.database_path(), copied)
    assert database.check(copied)[File._meta.db_table] == 3
    with closing(sqlite3.connect(copied)) as other, other:
        other.execute("UPDATE master_app_totals SET files = 4")

    with pytest.raises(BackupError, match="counts"):
        database.check(copied)
