"""To make a backup while the master runs, and to restore one while it does not."""

import sqlite3
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from django.conf import settings
from django.db import DatabaseError

from master_app.backup import archive, database
from master_app.backup.archive import Manifest
from master_app.backup.errors import BackupError
from master_app.membership import cluster_id
from mini_dropbox import __version__, secret_files
from mini_dropbox.env import ConfigurationError
from mini_dropbox.folder_lock import lock_folder


def backup(path: Path, *, force: bool = False, with_secrets: bool = False) -> Manifest:
    """Write what the database has at this moment to `path`, and check what was written.

    BackupError when that is not possible, or not wanted because `path` is there and not `force`.
    """
    source = database.database_path()
    if not source.exists():
        raise BackupError(f"There is no database at {source}: start the master once.")
    if path.is_dir() or not path.parent.is_dir():
        raise BackupError(f"{path} cannot be a file: name one in a folder that is there.")
    if path.exists() and not force:
        raise BackupError(f"{path} is there already: name another file, or add --force.")
    copied = path.with_name(f".{path.name}.db")
    try:
        # A restored database must know whose it is.
        cluster = cluster_id()
        secrets = _secrets() if with_secrets else {}
        # All that was acknowledged before this is in it.
        moment = datetime.now(UTC)
        database.copy(source, copied)
        manifest = Manifest(
            version=__version__,
            cluster_id=cluster,
            made_at=moment.isoformat(timespec="seconds"),
            rows=database.check(copied),
        )
        return archive.write(path, database=copied, secrets=secrets, manifest=manifest)
    except (DatabaseError, sqlite3.DatabaseError) as error:
        raise BackupError(f"The database cannot be read: {error}.") from error
    except OSError as error:
        raise BackupError(f"{path} cannot be written: {error.strerror or error}.") from error
    finally:
        copied.unlink(missing_ok=True)


@dataclass(frozen=True)
class Restored:
    """What came back; `kept` is where the database before is, `secrets` were written as well."""

    manifest: Manifest
    kept: Path | None
    secrets: tuple[str, ...]


def restore(path: Path) -> Restored:
    """Let a backup take the database's place, durably; BackupError while a master runs.

    The database before is kept beside it. Secrets of the backup are written where there are none.
    """
    target = database.database_path()
    manifest = archive.verify(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    restoring = target.with_name(f"{target.name}.restoring")
    moment = datetime.now(UTC)
    try:
        with (
            lock_folder(settings.ENV.data_dir, "cluster"),
            lock_folder(settings.MASTER_DIR, "master"),
        ):
            archive.extract_database(path, restoring)
            if database.check(restoring) != manifest.rows:
                raise BackupError(f"{path} has not the rows that its manifest counts.")
            made_at = datetime.fromisoformat(manifest.made_at)
            database.mark_restored(restoring, known_until=made_at, moment=moment)
            kept = database.replace(target, restoring, moment)
            secrets = _put_back(archive.read_secrets(path))
    except ConfigurationError as error:
        raise BackupError(str(error)) from error
    except OSError as error:
        raise BackupError(f"{target} cannot be replaced: {error.strerror or error}.") from error
    finally:
        restoring.unlink(missing_ok=True)
    return Restored(manifest, kept, secrets)


def _secret_paths() -> dict[str, Path]:
    """Return where the secrets are that others know: a new master could not make them anew."""
    cluster = secret_files.cluster_secret_path(settings.ENV.data_dir)
    return {path.name: path for path in (cluster, settings.MASTER_DIR / "admin_password")}


def _secrets() -> dict[str, str]:
    found = {
        name: path.read_text(encoding="ascii").strip()
        for name, path in _secret_paths().items()
        if path.exists()
    }
    cluster = secret_files.cluster_secret_path(settings.ENV.data_dir)
    return {**found, cluster.name: secret_files.cluster_secret(settings.ENV)}


def _put_back(secrets: dict[str, str]) -> tuple[str, ...]:
    """Write secrets where there are none; return which. Nodes may use those that are there."""
    paths = _secret_paths()
    return tuple(
        name
        for name, secret in secrets.items()
        if name in paths and secret_files.create(paths[name], secret)
    )
