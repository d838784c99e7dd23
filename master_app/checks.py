"""System checks of the master: deployment mistakes, numbered. `manage.py check` shows them.

Each is a warning: the program works, but not as whoever set it up will want.
"""

import stat
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.checks import CheckMessage, Tags, Warning, register  # noqa: A004  its name there

from mini_dropbox import secret_files


@register(Tags.security)
def debug_is_off(**_: Any) -> list[CheckMessage]:
    if not settings.DEBUG:
        return []
    return [
        Warning(
            "MINI_DROPBOX_DEBUG is on: whoever meets an error reads the source and the settings.",
            hint="Leave it unset, except for development.",
            id="mini_dropbox.W001",
        )
    ]


@register(Tags.security)
def secrets_are_secret(**_: Any) -> list[CheckMessage]:
    return [
        Warning(
            f"Other users of this machine can read or change {path}.",
            hint=f"chmod 600 {path}",
            id="mini_dropbox.W002",
        )
        for path in _secret_paths()
        if _mode(path) & (stat.S_IRWXG | stat.S_IRWXO)
    ]


@register(Tags.security)
def hosts_are_named(**_: Any) -> list[CheckMessage]:
    if "*" not in settings.ALLOWED_HOSTS:
        return []
    return [
        Warning(
            "MINI_DROPBOX_ALLOWED_HOSTS has '*': any web site can pass itself off as this one by "
            "pointing its name at this machine.",
            hint="List the names under which people reach the master.",
            id="mini_dropbox.W003",
        )
    ]


@register(Tags.security)
def blobs_are_replicated(**_: Any) -> list[CheckMessage]:
    if settings.ENV.replication_factor > 1:
        return []
    return [
        Warning(
            "MINI_DROPBOX_REPLICATION_FACTOR is 1: when a disk fails, its files are lost.",
            hint="Set it to 2 or more, and run as many nodes.",
            id="mini_dropbox.W004",
        )
    ]


@register(Tags.security)
def data_is_ours(**_: Any) -> list[CheckMessage]:
    # A group may: where the umask is 002, each user is a group of their own.
    return [
        Warning(
            f"Other users of this machine can write to {folder}, and so replace the secrets.",
            hint=f"chmod o-w {folder}",
            id="mini_dropbox.W005",
        )
        for folder in (settings.ENV.data_dir, settings.MASTER_DIR)
        if _mode(folder) & stat.S_IWOTH
    ]


@register(Tags.security)
def keys_differ(**_: Any) -> list[CheckMessage]:
    env = settings.ENV
    if env.cluster_secret is None or env.cluster_secret != env.secret_key:
        return []
    return [
        Warning(
            "MINI_DROPBOX_CLUSTER_SECRET is also MINI_DROPBOX_SECRET_KEY: whoever gets hold of a "
            "node's settings can sign in to the admin.",
            hint="Give the two different values; nodes need no SECRET_KEY.",
            id="mini_dropbox.W006",
        )
    ]


def _secret_paths() -> Iterator[Path]:
    yield secret_files.cluster_secret_path(settings.ENV.data_dir)
    yield settings.MASTER_DIR / "secret_key"
    yield settings.MASTER_DIR / "admin_password"


def _mode(path: Path) -> int:
    """Return who may do what with `path`; nobody, where it is not or the system has no modes."""
    if sys.platform == "win32":
        return 0
    try:
        return path.stat().st_mode
    except OSError:
        return 0
