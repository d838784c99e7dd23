"""`manage.py activate NODE`: let a node take blobs again, whatever it was before."""

from typing import Any

from master_app.management.node_command import NodeCommand
from master_app.models import Node, NodeMode
from master_app.operations import services


class Command(NodeCommand):
    """Changes what a node is used for."""

    help = "Let a node take blobs again, whatever it was before."

    def handle_node(self, node: Node, options: dict[str, Any]) -> None:
        services.node_set_mode(node=node, mode=NodeMode.ACTIVE)
        self.stdout.write(f"Node {node.node_id} takes blobs again.")
