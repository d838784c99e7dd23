"""`manage.py backup PATH`: the master's database in one file, also while it is used."""

from argparse import ArgumentParser
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from master_app.backup import operations
from master_app.backup.errors import BackupError
from master_app.backup.summary import summary
from master_app.wording import human_size


class Command(BaseCommand):
    """Writes a backup and reads it back; the exit code tells whether it is good."""

    help = "Write what the master knows to one file, and check it. The master may run."
    requires_system_checks: list[str] = []

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("path", type=Path, help="the file to write, such as books.zip")
        parser.add_argument("--force", action="store_true", help="replace the file if it is there")
        parser.add_argument(
            "--with-secrets",
            action="store_true",
            help="add the cluster's secret and the administrator's first password",
        )
        parser.add_argument("--data-dir", help="where everything is kept (default: data)")

    def handle(self, *args: Any, **options: Any) -> None:
        path: Path = options["path"]
        try:
            manifest = operations.backup(
                path, force=options["force"], with_secrets=options["with_secrets"]
            )
        except BackupError as error:
            raise CommandError(str(error)) from error
        size = human_size(path.stat().st_size).replace("\xa0", " ")
        self.stdout.write(f"{path} is written and checked, {size}.\n{summary(manifest)}")
