"""The node's ASGI application: the data plane in front of Django."""

from django.conf import settings

from mini_dropbox import asgi_django
from node_app import metrics, views
from node_app.dataplane.app import DataPlane
from node_app.node import Node


def build() -> DataPlane:
    """Return the application; the node starts and stops with the server's lifespan."""
    node = Node(settings.ENV)
    data_plane = DataPlane(node, asgi_django.build())
    views.serve_node(node, metrics.registry(node, data_plane.requests))
    return data_plane
