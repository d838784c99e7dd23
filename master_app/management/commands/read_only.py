"""`manage.py read_only NODE`: let a node keep and serve what it has, and take nothing new."""

from typing import Any

from master_app.management.node_command import NodeCommand
from master_app.models import Node, NodeMode
from master_app.operations import services


class Command(NodeCommand):
    """Changes what a node is used for."""

    help = "Let a node keep and serve what it has, and take nothing new."

    def handle_node(self, node: Node, options: dict[str, Any]) -> None:
        services.node_set_mode(node=node, mode=NodeMode.READ_ONLY)
        self.stdout.write(f"Node {node.node_id} is read-only.")
