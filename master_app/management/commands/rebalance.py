"""`manage.py rebalance`: bring blobs to the nodes that placement wants, such as a new one."""

from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from master_app.management.progress import watch
from master_app.models import MoveTask
from master_app.operations import plans, services
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
            count = services.rebalance_cancel()
            self.stdout.write(f"{count:,} blobs stay where they are.")
            return
        plan = plans.rebalance_plan() if options["dry_run"] else services.rebalance_begin()
        if plan.obstacle:
            raise CommandError(f"Nothing can be moved: {plan.obstacle}.")
        self.stdout.write(
            f"{plan.blobs:,} blobs are not where placement wants them: {plan.copies:,} copies to "
            f"make, {human_size(plan.copied_bytes)}, and {plan.removals:,} to remove after that."
        )
        if not options["dry_run"] and not options["no_wait"]:
            self._watch()

    def _watch(self) -> None:
        """Show how far it is, until nothing is left or somebody presses Ctrl+C."""
        self.stdout.write("Ctrl+C ends the watching; `rebalance --cancel` ends the moving.")
        left = watch(MoveTask.objects.count)
        if left:
            self.stdout.write(f"{left:,} blobs are still to be moved.")
            return
        self.stdout.write("Every blob is where placement wants it.")
