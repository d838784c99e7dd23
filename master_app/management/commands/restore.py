"""`manage.py restore PATH`: a backup takes the place of the master's database."""

from argparse import ArgumentParser
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from master_app.backup import operations
from master_app.backup.errors import BackupError
from master_app.backup.summary import summary


class Command(BaseCommand):
    """Restores a backup while no master runs; the database before is kept."""

    help = "Put a backup in the place of the master's database. The master must not run."
    requires_system_checks: list[str] = []

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("path", type=Path, help="a file that `backup` has written")
        parser.add_argument("--data-dir", help="where everything is kept (default: data)")

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            restored = operations.restore(options["path"])
        except BackupError as error:
            raise CommandError(str(error)) from error
        lines = [f"{options['path']} is restored.", summary(restored.manifest)]
        if restored.kept is not None:
            lines.append(f"The database before is kept at {restored.kept}.")
        if restored.secrets:
            lines.append(f"Secrets that were missing: {', '.join(restored.secrets)}.")
        lines.append(
            "Start the master now: it takes up what the nodes have and this backup does not know."
        )
        self.stdout.write("\n".join(lines))
