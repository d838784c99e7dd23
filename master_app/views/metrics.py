"""`/metrics`: what Prometheus scrapes."""

from django.http import HttpResponse
from rest_framework.request import Request
from rest_framework.views import APIView

from master_app.metrics import REGISTRY
from mini_dropbox.metrics import metrics_response
from mini_dropbox.negotiation import TextUnlessJsonIsAsked


class MetricsView(APIView):
    """Shows Prometheus what is measured of the master and its cluster."""

    content_negotiation_class = TextUnlessJsonIsAsked
    # Not a part of the API that programs build on.
    schema = None

    def get(self, request: Request) -> HttpResponse:
        """Answer with text, as OpenMetrics where that is asked for."""
        return metrics_response(request, REGISTRY)
