"""Secrets that the program makes on its first start and keeps in the data folder, mode 0600."""

import os
import secrets
from pathlib import Path

from mini_dropbox.durability import fsync_folder
from mini_dropbox.env import ConfigurationError, Env


def read_or_create(path: Path, *, create_bytes: int = 32) -> tuple[str, bool]:
    """Return the secret kept at `path` and whether this call made it.

    Several processes may start at once: the file appears whole, under one of their secrets.
    ConfigurationError when the folder cannot be used, or the file has no secret.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        while True:
            try:
                return _read(path), False
            except FileNotFoundError:
                value = secrets.token_urlsafe(create_bytes)
                if create(path, value):
                    return value, True
    except OSError as error:
        message = (
            f"{path} is not usable ({error.strerror}): let MINI_DROPBOX_DATA_DIR or --data-dir "
            "name a folder that can be written."
        )
        raise ConfigurationError(message) from error


def _read(path: Path) -> str:
    """Return what is kept at `path`: a power cut or an editor may have left nothing there."""
    try:
        value = path.read_text(encoding="ascii").strip()
    except UnicodeDecodeError:
        value = ""
    if not value:
        message = (
            f"{path} holds no secret in ASCII: put back what was in it, or delete the file, "
            "and the next start makes another."
        )
        raise ConfigurationError(message)
    return value


def create(path: Path, value: str) -> bool:
    """Keep a secret at `path`, durably; return False, and change nothing, when there is one."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    try:
        with os.fdopen(descriptor, "w", encoding="ascii") as file:
            file.write(value + "\n")
            file.flush()
            os.fsync(file.fileno())
        # A link never replaces an existing file, so the first of several starters wins.
        os.link(temporary, path)
    except FileExistsError:
        return False
    finally:
        temporary.unlink(missing_ok=True)
    fsync_folder(path.parent)
    return True


def cluster_secret_path(data_dir: Path) -> Path:
    return data_dir / "cluster_secret"


def cluster_secret(env: Env) -> str:
    """Return the cluster's secret: the setting, or the file that the first start made."""
    if env.cluster_secret:
        return env.cluster_secret
    path = cluster_secret_path(env.data_dir)
    try:
        return _read(path)
    except FileNotFoundError:
        message = (
            f"There is no cluster secret: set MINI_DROPBOX_CLUSTER_SECRET, or start the master "
            f"or runcluster first, which makes {path}."
        )
        raise ConfigurationError(message) from None
    except OSError as error:
        message = f"{path} cannot be read ({error.strerror}): start this as the file's owner."
        raise ConfigurationError(message) from error
