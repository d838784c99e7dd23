"""`manage.py collect`: have removed now what a running master would remove by and by."""

from argparse import ArgumentParser
from threading import Event
from typing import Any, Final

from django.core.management.base import BaseCommand, CommandError

from master_app.collection import selectors
from master_app.collection.collector import Collector
from master_app.wording import human_size

SHOWN: Final = 20


class Command(BaseCommand):
    """Removes the bytes of deleted files whose grace period is over."""

    help = "Remove the bytes of deleted files whose grace period is over."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--dry-run", action="store_true", help="only say what would be removed")
        parser.add_argument("--data-dir", help="where everything is kept (default: data)")

    def handle(self, *args: Any, **options: Any) -> None:
        status = selectors.status()
        kept = status["unreferenced_blobs"] - status["due_blobs"]
        kept_bytes = status["unreferenced_bytes"] - status["due_bytes"]
        self._say("to be removed", status["due_blobs"], status["due_bytes"])
        self._say("deleted, in the grace period", kept, kept_bytes)
        self._say("being removed by nodes", status["removing_blobs"], status["removing_bytes"])
        if options["dry_run"]:
            self._show_due(status["grace_seconds"])
            return
        if status["obstacle"]:
            raise CommandError(f"Nothing is removed now: {status['obstacle']}.")
        collector = Collector(Event())
        collector.collect()
        done = collector.collected
        self.stdout.write(
            f"{done.buried_blobs:,} blobs given up, {done.removed_replicas:,} copies removed."
        )

    def _say(self, what: str, blobs: int, size: int) -> None:
        self.stdout.write(f"{blobs:>12,} blobs  {human_size(size):>10}  {what}")

    def _show_due(self, grace_seconds: float) -> None:
        due = selectors.collectable(grace_seconds=grace_seconds)
        for blob in due.prefetch_related("replicas__node")[:SHOWN]:
            nodes = ", ".join(node.node_id for node in blob.holders()) or "no node"
            self.stdout.write(f"  {blob.hash}  {human_size(blob.size):>10}  on {nodes}")
