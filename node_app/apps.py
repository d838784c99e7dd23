"""The node's Django application."""

from django.apps import AppConfig


class NodeAppConfig(AppConfig):
    """What a node serves beside its hot paths."""

    name = "node_app"
    verbose_name = "Node"
