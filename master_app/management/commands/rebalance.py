"""`manage.py rebalance`: bring blobs to the nodes that placement wants, such as a new one."""

from argparse import ArgumentParser
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError

from master_app.management.progress import watch
from master_app.models import MoveTask
from master_app.repair import moves
from master_app.repair.census import CensusTaker
from master_app.wording import human_size


class Command(BaseCommand):
    """Notes what is to be moved; a running master moves it when there is nothing to repair."""

    help = "Bring blobs to the nodes that placement wants, as after a node was added."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--dry-run", action="store_true", help="only say what would be moved")
        parser.add_argument("--cancel", action="store_true", help="leave the rest where it is")
        parser.add_argument(
            "--no-wait", action="store_true", help="begin, and do not wait for the end"
        )
        parser.add_argument("--data-dir", help="where everything is kept (default: data)")

    def handle(self, *args: Any, **options: Any) -> None:
        if options["cancel"]:
            count, _ = MoveTask.objects.all().delete()
            self.stdout.write(f"{count:,} blobs stay where they are.")
            return
        self._plan(is_dry=options["dry_run"])
        if not options["dry_run"] and not options["no_wait"]:
            self._watch()

    def _plan(self, *, is_dry: bool) -> None:
        census = CensusTaker(settings.ENV.repair_grace_seconds).take()
        wanted = settings.ENV.replication_factor
        if len(census.takers) < wanted:
            message = (
                f"Nothing can be moved: {wanted} copies of each blob are wanted, and "
                f"{len(census.takers)} nodes take any. Start another node first."
            )
            raise CommandError(message)
        blobs = copies = copied_bytes = removals = 0
        for page in moves.misplaced(census, wanted):
            blobs += len(page.keys)
            copies += page.copies
            copied_bytes += page.copied_bytes
            removals += page.removals
            if not is_dry:
                moves.tasks_add(keys=page.keys)
        self.stdout.write(
            f"{blobs:,} blobs are not where placement wants them: {copies:,} copies to make, "
            f"{human_size(copied_bytes)}, and {removals:,} to remove after that."
        )

    def _watch(self) -> None:
        """Show how far it is, until nothing is left or somebody presses Ctrl+C."""
        self.stdout.write("Ctrl+C ends the watching; `rebalance --cancel` ends the moving.")
        left = watch(MoveTask.objects.count)
        if left:
            self.stdout.write(f"{left:,} blobs are still to be moved.")
            return
        self.stdout.write("Every blob is where placement wants it.")
