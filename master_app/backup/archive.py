"""A backup as a file: a ZIP archive with `db.sqlite3`, secrets if wanted, and `manifest.json`.

The manifest has the SHA-256 of everything else, and how many rows each table has. Any program that
reads ZIP gets the database out, and any SQLite opens it.
"""

import hashlib
import json
import os
import shutil
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import IO, Any, Final, Self

from master_app.backup.errors import BackupError
from mini_dropbox.durability import fsync_folder

FORMAT: Final = 1
DATABASE: Final = "db.sqlite3"
MANIFEST: Final = "manifest.json"
MODE: Final = 0o600
CHUNK_BYTES: Final = 1024 * 1024
# It takes a database to a third of its size at the speed of a disk.
COMPRESSION_LEVEL: Final = 1


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """What a backup has; `rows` by table, `sha256` by member, `made_at` in ISO 8601."""

    version: str
    cluster_id: str
    made_at: str
    rows: Mapping[str, int]
    sha256: Mapping[str, str] = field(default_factory=dict)
    format: int = FORMAT

    @property
    def secrets(self) -> list[str]:
        return sorted(name for name in self.sha256 if name != DATABASE)

    @classmethod
    def from_json(cls, data: Any) -> Self:
        """Return the manifest; BackupError when it is none of this version."""
        try:
            manifest = cls(**data)
            is_ours = manifest.format == FORMAT and DATABASE in manifest.sha256
        except TypeError:
            is_ours = False
        if not is_ours:
            raise BackupError("This is no backup that this version can restore.")
        return manifest


def write(
    path: Path, *, database: Path, secrets: Mapping[str, str], manifest: Manifest
) -> Manifest:
    """Make the archive `path`, whole and durable or not at all; return its full manifest."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.new")
    try:
        with private_file(temporary) as file:
            full = _write_members(file, database, secrets, manifest)
            file.flush()
            os.fsync(file.fileno())
        # What the disk gives back now is what a restore will get.
        verify(temporary)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
    fsync_folder(path.parent)
    return full


def verify(path: Path) -> Manifest:
    """Read a whole archive and return its manifest; BackupError unless each byte is as written."""
    with _opened(path) as archive:
        manifest = _manifest(archive)
        if set(archive.namelist()) != {MANIFEST, *manifest.sha256}:
            raise BackupError(f"{path} has not the parts that its manifest names.")
        for name, expected in manifest.sha256.items():
            digest = hashlib.sha256()
            with archive.open(name) as member:
                while chunk := member.read(CHUNK_BYTES):
                    digest.update(chunk)
            if digest.hexdigest() != expected:
                raise BackupError(f"{name} in {path} is damaged: use another backup.")
    return manifest


def extract_database(path: Path, target: Path) -> None:
    """Write the archive's database to the new file `target`, readable by the owner alone."""
    with (
        _opened(path) as archive,
        archive.open(DATABASE) as member,
        private_file(target) as file,
    ):
        shutil.copyfileobj(member, file, CHUNK_BYTES)


def read_secrets(path: Path) -> dict[str, str]:
    """Return the secrets in an archive by the names of their files; mostly there are none."""
    with _opened(path) as archive:
        return {name: archive.read(name).decode() for name in _manifest(archive).secrets}


@contextmanager
def private_file(path: Path) -> Iterator[IO[bytes]]:
    """Open a new file that the owner alone can read, in place of what a killed process left."""
    path.unlink(missing_ok=True)
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, MODE)
    with os.fdopen(descriptor, "w+b") as file:
        yield file


def _write_members(
    file: IO[bytes], database: Path, secrets: Mapping[str, str], manifest: Manifest
) -> Manifest:
    sha256 = {}
    compressed = {"compression": zipfile.ZIP_DEFLATED, "compresslevel": COMPRESSION_LEVEL}
    with zipfile.ZipFile(file, "w", **compressed) as archive:  # type: ignore[call-overload]
        with database.open("rb") as source, archive.open(DATABASE, "w", force_zip64=True) as member:
            digest = hashlib.sha256()
            while chunk := source.read(CHUNK_BYTES):
                digest.update(chunk)
                member.write(chunk)
            sha256[DATABASE] = digest.hexdigest()
        for name, secret in secrets.items():
            archive.writestr(name, secret)
            sha256[name] = hashlib.sha256(secret.encode()).hexdigest()
        full = Manifest(**{**asdict(manifest), "sha256": sha256})
        archive.writestr(MANIFEST, json.dumps(asdict(full), indent=1))
    return full


@contextmanager
def _opened(path: Path) -> Iterator[zipfile.ZipFile]:
    """Open an archive to read; what is wrong with it, in whatever part, is a BackupError."""
    try:
        with zipfile.ZipFile(path) as archive:
            yield archive
    except OSError as error:
        raise BackupError(f"{path} cannot be read: {error.strerror or error}.") from error
    except (zipfile.BadZipFile, EOFError, ValueError, KeyError, zlib.error) as error:
        raise BackupError(f"{path} is damaged or no backup ({error}): use another.") from error


def _manifest(archive: zipfile.ZipFile) -> Manifest:
    return Manifest.from_json(json.loads(archive.read(MANIFEST)))
