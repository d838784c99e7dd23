"""What the commands about one node have in common."""

from abc import abstractmethod
from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from master_app.models import Node
from master_app.operations import services


class NodeCommand(BaseCommand):
    """A command about the node whose id is its first argument."""

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("node", help="the node's id")
        parser.add_argument("--data-dir", help="where everything is kept (default: data)")

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            node = services.node_named(node_id=options["node"])
        except services.UnknownNode as error:
            raise CommandError(str(error)) from error
        self.handle_node(node, options)

    @abstractmethod
    def handle_node(self, node: Node, options: dict[str, Any]) -> None:
        """Do it."""
