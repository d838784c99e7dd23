"""`manage.py drain NODE`: have all copies of a node made elsewhere, so that it can go."""

from argparse import ArgumentParser
from typing import Any

from django.core.management.base import CommandError

from master_app.management.node_command import NodeCommand
from master_app.management.progress import watch
from master_app.models import Node, NodeMode
from master_app.operations import plans, services
from master_app.operations.plans import DrainPlan
from master_app.wording import human_size


class Command(NodeCommand):
    """Drains a node; a running master makes the copies."""

    help = "Have all copies of a node made on others, so that it can be removed."

    def add_arguments(self, parser: ArgumentParser) -> None:
        super().add_arguments(parser)
        parser.add_argument("--dry-run", action="store_true", help="only say what would be copied")
        parser.add_argument("--cancel", action="store_true", help="let the node take blobs again")
        parser.add_argument(
            "--no-wait", action="store_true", help="begin, and do not wait for the end"
        )

    def handle_node(self, node: Node, options: dict[str, Any]) -> None:
        if options["cancel"]:
            services.node_set_mode(node=node, mode=NodeMode.ACTIVE)
            self.stdout.write(f"Node {node.node_id} takes blobs again.")
            return
        plan = plans.drain_plan(node=node)
        self._show(plan)
        if options["dry_run"]:
            return
        if plan.obstacle:
            raise CommandError(f"Node {node.node_id} is not drained: {plan.obstacle}.")
        services.node_set_mode(node=node, mode=NodeMode.DRAINING)
        if not options["no_wait"]:
            self._watch(node)

    def _show(self, plan: DrainPlan) -> None:
        node_id = plan.node.node_id
        self.stdout.write(f"Node {node_id} has {plan.blobs:,} blobs, {human_size(plan.size)}.")
        self.stdout.write(
            f"{plan.to_copy_blobs:,} of them, {human_size(plan.to_copy_bytes)}, have too few "
            "copies elsewhere and are to be copied; the others are on enough nodes already."
        )
        for taker, share in plan.shares:
            self.stdout.write(f"  node {taker} takes about {share:.0%}")
        if plan.obstacle:
            self.stdout.write(f"It would not come to an end: {plan.obstacle}.")

    def _watch(self, node: Node) -> None:
        """Show how far it is, until nothing is left or somebody presses Ctrl+C."""
        self.stdout.write("Ctrl+C ends the watching, not the draining.")
        left = watch(lambda: plans.endangered_without(node=node))
        if left:
            self.stdout.write(f"Node {node.node_id} goes on draining: {left:,} blobs are left.")
            return
        self.stdout.write(
            f"Node {node.node_id} is drained: `manage.py remove_node {node.node_id}` lets it go."
        )
