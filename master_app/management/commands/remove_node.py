"""`manage.py remove_node NODE`: take a drained, or a dead, node out of the cluster."""

from argparse import ArgumentParser
from typing import Any

from django.core.management.base import CommandError

from master_app.management.node_command import NodeCommand
from master_app.models import Node
from master_app.operations import plans, services
from master_app.wording import human_size


class Command(NodeCommand):
    """Removes a node and the records of its copies."""

    help = "Take a node out of the cluster, after it was drained or when it is dead."

    def add_arguments(self, parser: ArgumentParser) -> None:
        super().add_arguments(parser)
        parser.add_argument("--dry-run", action="store_true", help="only say what would be lost")
        parser.add_argument(
            "--force", action="store_true", help="also when blobs have too few copies elsewhere"
        )

    def handle_node(self, node: Node, options: dict[str, Any]) -> None:
        plan = plans.drain_plan(node=node)
        few = plan.to_copy_blobs
        self.stdout.write(
            f"Node {node.node_id} has {plan.blobs:,} blobs, {human_size(plan.size)}; "
            f"{few:,} of its blobs have too few copies on other nodes, "
            f"{human_size(plan.to_copy_bytes)}; of {plan.last_copies:,} it has the last."
        )
        if options["dry_run"]:
            return
        if few and not options["force"]:
            raise CommandError(
                f"Node {node.node_id} is not removed: drain it first with `manage.py drain "
                f"{node.node_id}`, or say --force if it is dead for good."
            )
        count = services.node_remove(node=node)
        self.stdout.write(f"Node {node.node_id} is removed, with the records of {count:,} copies.")
