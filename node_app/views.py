"""What a node serves through Django: its health, and a page for who opens it in a browser."""

from typing import Any

from django.http import HttpResponse
from django.shortcuts import render
from rest_framework import status
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from mini_dropbox.negotiation import TextUnlessJsonIsAsked, wants_json
from node_app.errors import NodeError
from node_app.node import Node

_served: list[Node] = []


def serve_node(node: Node) -> None:
    """Name the node of this process, which the views speak for."""
    _served[:] = [node]


class HealthView(APIView):
    """Tells whether this node can store."""

    content_negotiation_class = TextUnlessJsonIsAsked

    def get(self, request: Request) -> Response:
        """Answer `OK`, or 503 when a probe cannot be stored."""
        try:
            health = _served[0].health()
        except NodeError as error:
            body: Any = {"detail": str(error), "code": error.code}
            if not wants_json(request):
                body = str(error)
            return Response(body, status=status.HTTP_503_SERVICE_UNAVAILABLE)
        return Response(health if wants_json(request) else "OK")


class HomeView(APIView):
    """Says what this is and where the pages are."""

    content_negotiation_class = TextUnlessJsonIsAsked

    def get(self, request: Request) -> HttpResponse:
        """Answer browsers with a page, and programs with the node's id and master."""
        settings = _served[0].settings
        about = {"node_id": settings.node_id, "master_url": settings.master_urls[0]}
        if "text/html" in request.headers.get("Accept", ""):
            return render(request._request, "node.html", about)
        return Response(about if wants_json(request) else f"Mini-Dropbox node {settings.node_id}")
