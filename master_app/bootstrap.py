"""What a master needs before it serves: tables, and on the first start an account."""

from dataclasses import dataclass
from pathlib import Path

from django.conf import settings
from django.contrib.auth import get_user_model
from django.core.management import call_command

from mini_dropbox import secret_files
from mini_dropbox.folder_lock import lock_folder

ADMIN_NAME = "admin"
PASSWORD_BYTES = 12


@dataclass(frozen=True)
class AdminAccount:
    """The first account; `password` only when this start made it."""

    name: str
    password: str | None
    password_file: Path


def make_secrets() -> None:
    """Make the cluster's secret unless there is one; nodes cannot start without it."""
    if not settings.ENV.cluster_secret:
        secret_files.read_or_create(secret_files.cluster_secret_path(settings.ENV.data_dir))


def prepare() -> AdminAccount:
    """Bring the database up to date and make the first account; safe to call at every start."""
    make_secrets()
    with lock_folder(settings.MASTER_DIR, "process, which restores a backup", shared=True):
        call_command("migrate", interactive=False, verbosity=0)
    password_file = settings.MASTER_DIR / "admin_password"
    accounts = get_user_model()._default_manager
    if accounts.filter(is_superuser=True).exists():
        return AdminAccount(ADMIN_NAME, None, password_file)
    # The file comes first: a password that only a database has hashed would be lost.
    password, _ = secret_files.read_or_create(password_file, create_bytes=PASSWORD_BYTES)
    accounts.create_superuser(ADMIN_NAME, password=password)
    return AdminAccount(ADMIN_NAME, password, password_file)
