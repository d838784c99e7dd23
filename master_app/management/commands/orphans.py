"""`manage.py orphans`: what nodes have and the books do not know."""

from argparse import ArgumentParser
from typing import Any, Final

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError

from master_app.adoption.reconciling import node_reconcile
from master_app.collection import selectors, services
from master_app.models import Node, NodeState, Orphan
from master_app.node_client import NodeRequestError
from master_app.wording import human_size

SHOWN: Final = 20


class Command(BaseCommand):
    """Compares the nodes with the books now, and says what is left over."""

    help = "Compare nodes with the books: what is missing, and what nobody knows."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument(
            "--remove",
            action="store_true",
            help="have removed what has been unknown for the grace period",
        )
        parser.add_argument("--data-dir", help="where everything is kept (default: data)")

    def handle(self, *args: Any, **options: Any) -> None:
        for node in Node.objects.members():
            self._compare(node)
        for orphan in Orphan.objects.select_related("node").order_by("found_at", "hash")[:SHOWN]:
            self.stdout.write(
                f"  {orphan.hash}  {human_size(orphan.size):>10}  on {orphan.node.node_id}"
            )
        found = selectors.orphans()
        self.stdout.write(
            f"{found['orphans']:,} copies, {human_size(found['orphan_bytes'])}, of what is not on "
            "record. `rebuild_metadata` takes them into the books."
        )
        if options["remove"]:
            self._remove()

    def _compare(self, node: Node) -> None:
        if node.state is NodeState.DOWN:
            self.stdout.write(f"Node {node.node_id} is down: nobody knows what it has.")
            return
        try:
            found = node_reconcile(node=node)
        except NodeRequestError as error:
            raise CommandError(str(error)) from error
        self.stdout.write(
            f"Node {node.node_id}: {found.missing:,} copies on record are not there, "
            f"{found.noted:,} were not on record, {found.deleted:,} are of deleted files."
        )

    def _remove(self) -> None:
        obstacle = selectors.obstacle()
        if obstacle:
            raise CommandError(f"Nothing is removed now: {obstacle}.")
        count = services.orphans_bury(grace_seconds=settings.ENV.collect_grace_seconds)
        self.stdout.write(f"{count:,} copies are removed by their nodes as soon as they can.")
