"""What a node serves through Django: its health, its metrics, and a page for browsers."""

import sqlite3
from typing import Any

from django.http import HttpResponse
from django.shortcuts import render
from prometheus_client import CollectorRegistry
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from mini_dropbox.metrics import metrics_response
from mini_dropbox.negotiation import TextUnlessJsonIsAsked, wants_json
from node_app.errors import NodeError, StoreFailed
from node_app.node import Node

_served: list[tuple[Node, CollectorRegistry]] = []


def serve_node(node: Node, metrics: CollectorRegistry) -> None:
    """Name the node of this process, which the views speak for, and what is measured of it."""
    _served[:] = [(node, metrics)]


class HealthView(APIView):
    """Tells whether this node can store."""

    content_negotiation_class = TextUnlessJsonIsAsked

    def get(self, request: Request) -> Response:
        """Answer `OK`, or 503 when a probe cannot be stored."""
        node, _ = _served[0]
        try:
            health = node.health()
        except NodeError as error:
            return _unhealthy(request, error)
        except (sqlite3.Error, OSError) as error:
            return _unhealthy(request, StoreFailed(f"The node's disk cannot be read: {error}."))
        return Response(health if wants_json(request) else "OK")


def _unhealthy(request: Request, error: NodeError) -> Response:
    body: Any = {"detail": str(error), "code": error.code} if wants_json(request) else str(error)
    return Response(body, status=503)


class MetricsView(APIView):
    """Shows Prometheus what is measured of this node."""

    content_negotiation_class = TextUnlessJsonIsAsked

    def get(self, request: Request) -> HttpResponse:
        """Answer with text, as OpenMetrics where that is asked for."""
        _, metrics = _served[0]
        return metrics_response(request, metrics)


class HomeView(APIView):
    """Says what this is and where the pages are."""

    content_negotiation_class = TextUnlessJsonIsAsked

    def get(self, request: Request) -> HttpResponse:
        """Answer browsers with a page, and programs with the node's id and master."""
        settings = _served[0][0].settings
        about = {"node_id": settings.node_id, "master_url": settings.master_urls[0]}
        if "text/html" in request.headers.get("Accept", ""):
            return render(request._request, "node.html", about)
        return Response(about if wants_json(request) else f"Mini-Dropbox node {settings.node_id}")
