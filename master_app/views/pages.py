"""The first page and its two fragments, which the page fetches again every few seconds."""

from typing import Any

from django.conf import settings
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_safe

from master_app import cluster_status, selectors

LATEST_FILES = 30


@require_safe
@never_cache
def home(request: HttpRequest) -> HttpResponse:
    """Show the cluster, the drop zone, the latest files and the image form."""
    context = {
        **_cluster_context(),
        **_files_context(request),
        "max_upload_bytes": settings.ENV.max_upload_bytes,
        "max_file_bytes": settings.ENV.max_file_bytes,
    }
    return render(request, "home.html", context)


@require_safe
@never_cache
def cluster_fragment(request: HttpRequest) -> HttpResponse:
    """Answer with the headline and the nodes alone."""
    return render(request, "partials/cluster.html", {**_cluster_context(), "is_fragment": True})


@require_safe
@never_cache
def files_fragment(request: HttpRequest) -> HttpResponse:
    """Answer with the latest files alone; `q` asks for those whose name contains it."""
    return render(request, "partials/files.html", _files_context(request))


def _cluster_context() -> dict[str, Any]:
    summary = selectors.cluster_summary()
    return {
        "headline": cluster_status.headline(summary),
        "cards": cluster_status.node_cards(summary.nodes),
    }


def _files_context(request: HttpRequest) -> dict[str, Any]:
    # No name has a NUL, and PostgreSQL refuses to look for one.
    query = request.GET.get("q", "").replace("\0", "").strip()
    return {
        "files": selectors.latest_files(limit=LATEST_FILES, name_contains=query),
        "query": query,
        "limit": LATEST_FILES,
        "replication_factor": settings.ENV.replication_factor,
    }
