"""A backup takes the place of a database, whatever that is like, and never of one in use."""

import os
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest
from django.core.management import call_command

from master_app.membership import cluster_id
from mini_dropbox.folder_lock import lock_folder
from tests.support.cluster import PROJECT_DIR
from tests.support.records import add_file, add_node

pytestmark = pytest.mark.django_db(transaction=True)

ADDED = "INSERT INTO django_session VALUES ('added since', '', '2030-01-01')"
SESSIONS = "SELECT session_key FROM django_session"


@pytest.fixture
def backup(tmp_path: Path) -> Path:
    """Return a backup of two files, with secrets."""
    add_node("8001")
    for name in ("a.txt", "b.txt"):
        add_file(name, replicas=("8001",))
    path = tmp_path / "books.zip"
    call_command("backup", path, with_secrets=True)
    return path


@pytest.fixture
def data_dir(tmp_path: Path) -> Path:
    return tmp_path / "data"


@pytest.fixture
def database(data_dir: Path) -> Path:
    return data_dir / "master" / "db.sqlite3"


def restore(backup: Path, data_dir: Path) -> subprocess.CompletedProcess[str]:
    environment = {
        name: value for name, value in os.environ.items() if not name.startswith("MINI_DROPBOX")
    }
    return subprocess.run(
        [sys.executable, "manage.py", "restore", str(backup), "--data-dir", str(data_dir)],
        cwd=PROJECT_DIR,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )


def rows(database: Path, sql: str) -> list[tuple[str, ...]]:
    with closing(sqlite3.connect(database)) as opened:
        return opened.execute(sql).fetchall()


def names(database: Path) -> list[str]:
    return [name for (name,) in rows(database, "SELECT name FROM master_app_file ORDER BY name")]


def kept(database: Path) -> list[Path]:
    return sorted(database.parent.glob("db.sqlite3.replaced-*"))


def add_and_die(database: Path) -> None:
    """Add a row and end as a killed master does: what is new is in the write-ahead log alone."""
    program = (
        "import os, sqlite3, sys\n"
        "opened = sqlite3.connect(sys.argv[1], isolation_level=None)\n"
        "opened.execute('PRAGMA journal_mode=WAL')\n"
        "opened.execute(sys.argv[2])\n"
        "os._exit(0)\n"
    )
    subprocess.run([sys.executable, "-c", program, str(database), ADDED], check=True)
    assert database.with_name("db.sqlite3-wal").stat().st_size > 0


def test_an_empty_folder_gets_the_database_and_the_secrets(
    backup: Path, data_dir: Path, database: Path
) -> None:
    done = restore(backup, data_dir)

    assert (done.returncode, done.stderr) == (0, "")
    assert "It has 2 files, 2 blobs, 2 copies, 1 nodes" in done.stdout
    assert names(database) == ["a.txt", "b.txt"]
    ((cluster, restored_at),) = rows(
        database, "SELECT cluster_id, restored_at FROM master_app_cluster"
    )
    assert cluster == cluster_id()
    assert restored_at
    secret = data_dir / "cluster_secret"
    assert secret.read_text().strip() == "the secret of the tests"
    assert secret.stat().st_mode & 0o777 == 0o600
    assert kept(database) == []


def test_the_database_before_is_kept_with_its_last_write_and_twice_is_as_good_as_once(
    backup: Path, data_dir: Path, database: Path
) -> None:
    restore(backup, data_dir)
    database.chmod(0o640)
    add_and_die(database)

    done = restore(backup, data_dir)

    assert done.returncode == 0, done.stderr
    (before,) = kept(database)
    assert str(before) in done.stdout
    assert rows(before, SESSIONS) == [("added since",)]
    assert rows(database, SESSIONS) == []
    assert database.stat().st_mode & 0o777 == 0o640
    assert restore(backup, data_dir).returncode == 0
    assert len(kept(database)) == 2
    assert names(database) == ["a.txt", "b.txt"]
    assert not list(database.parent.glob("*.restoring*"))
    assert not list(database.parent.glob("db.sqlite3-*"))


def test_secrets_that_are_there_are_not_replaced(backup: Path, data_dir: Path) -> None:
    data_dir.mkdir()
    (data_dir / "cluster_secret").write_text("another one, of many characters\n")

    assert restore(backup, data_dir).returncode == 0

    assert (data_dir / "cluster_secret").read_text() == "another one, of many characters\n"


def test_a_damaged_database_is_replaced_and_kept_as_evidence(
    backup: Path, data_dir: Path, database: Path
) -> None:
    restore(backup, data_dir)
    add_and_die(database)
    for path in (database, database.with_name("db.sqlite3-wal")):
        with path.open("r+b") as file:
            file.write(b"damaged" * 1000)
    damaged = database.read_bytes()

    done = restore(backup, data_dir)

    assert done.returncode == 0, done.stderr
    assert names(database) == ["a.txt", "b.txt"]
    assert kept(database)[0].read_bytes() == damaged
    assert not database.with_name("db.sqlite3-wal").exists()


def test_a_damaged_backup_changes_nothing(backup: Path, data_dir: Path, database: Path) -> None:
    restore(backup, data_dir)
    before = database.read_bytes()
    content = backup.read_bytes()
    middle = len(content) // 2
    backup.write_bytes(content[:middle] + b"damaged" + content[middle + 7 :])

    done = restore(backup, data_dir)

    assert done.returncode == 1
    assert "use another" in done.stderr
    assert database.read_bytes() == before
    assert kept(database) == []


@pytest.mark.parametrize("place", ["", "master"])
def test_a_running_master_keeps_a_restore_out(
    backup: Path, data_dir: Path, database: Path, place: str
) -> None:
    restore(backup, data_dir)
    before = database.read_bytes()

    with lock_folder(data_dir / place, "process", shared=bool(place)):
        done = restore(backup, data_dir)

    assert done.returncode == 1
    assert "is in use by another" in done.stderr
    assert database.read_bytes() == before
    assert kept(database) == []


def test_a_database_that_another_process_has_open_is_not_replaced(
    backup: Path, data_dir: Path, database: Path
) -> None:
    restore(backup, data_dir)
    with closing(sqlite3.connect(database, isolation_level=None)) as other:
        other.execute("PRAGMA journal_mode=WAL")
        other.execute("BEGIN")
        other.execute(SESSIONS).fetchall()

        done = restore(backup, data_dir)

        assert done.returncode == 1
        assert "stop it first" in done.stderr
    assert kept(database) == []
    assert names(database) == ["a.txt", "b.txt"]
