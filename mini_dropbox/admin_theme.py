"""How the admin site looks and what its sidebar leads to: the settings of django-unfold."""

from collections.abc import Callable
from typing import Any, Final

from django.http import HttpRequest
from django.templatetags.static import static
from django.urls import reverse_lazy


def _static(path: str) -> Callable[[HttpRequest], str]:
    return lambda _request: static(path)


def _page(title: str, icon: str, url_name: str, permission: str = "") -> dict[str, Any]:
    """Return a page of the admin for the sidebar, shown to those who have `permission`."""
    item: dict[str, Any] = {"title": title, "icon": icon, "link": reverse_lazy(url_name)}
    if permission:
        item["permission"] = lambda request: request.user.has_perm(permission)
    return item


def _elsewhere(title: str, icon: str, url_name: str) -> dict[str, Any]:
    """Return a page outside the admin for the sidebar."""
    # The theme takes an item for the current page when the path begins like the item's.
    return {**_page(title, icon, url_name), "active": False}


# Steps of one blue from nearly white to nearly black; 600 is #2563eb, the accent of every page.
BLUE: Final = {
    "50": "#eff6ff",
    "100": "#dbeafe",
    "200": "#bfdbfe",
    "300": "#93c5fd",
    "400": "#60a5fa",
    "500": "#3b82f6",
    "600": "#2563eb",
    "700": "#1d4ed8",
    "800": "#1e40af",
    "900": "#1e3a8a",
    "950": "#172554",
}

UNFOLD: Final[dict[str, Any]] = {
    "SITE_TITLE": "Mini-Dropbox",
    "SITE_HEADER": "Mini-Dropbox",
    "SITE_URL": "/",
    "SITE_ICON": _static("mini_dropbox/logo.svg"),
    "SITE_FAVICONS": [
        {"rel": "icon", "type": "image/svg+xml", "href": _static("mini_dropbox/logo.svg")}
    ],
    "STYLES": [_static("master_app/admin.css")],
    "COLORS": {"primary": BLUE},
    "SHOW_VIEW_ON_SITE": False,
    "DASHBOARD_CALLBACK": "master_app.admin.dashboard.context",
    "SIDEBAR": {
        "navigation": [
            {"items": [_page("Dashboard", "space_dashboard", "admin:index")]},
            {
                "title": "Storage",
                "items": [
                    _page(
                        "Files",
                        "description",
                        "admin:master_app_file_changelist",
                        "master_app.view_file",
                    ),
                    _page(
                        "Blobs",
                        "deployed_code",
                        "admin:master_app_blob_changelist",
                        "master_app.view_blob",
                    ),
                    _page(
                        "Replicas",
                        "content_copy",
                        "admin:master_app_replica_changelist",
                        "master_app.view_replica",
                    ),
                ],
            },
            {
                "title": "Image generation",
                "items": [
                    _page(
                        "Generated images",
                        "image",
                        "admin:seedream_app_generatedimage_changelist",
                        "seedream_app.view_generatedimage",
                    ),
                    _page(
                        "Generations",
                        "auto_awesome",
                        "admin:seedream_app_generationjob_changelist",
                        "seedream_app.view_generationjob",
                    ),
                ],
            },
            {
                "title": "Cluster",
                "items": [
                    _page(
                        "Nodes", "dns", "admin:master_app_node_changelist", "master_app.view_node"
                    ),
                    _page(
                        "Repair",
                        "healing",
                        "admin:master_app_repairtask_changelist",
                        "master_app.view_repairtask",
                    ),
                    _page(
                        "Rebalancing",
                        "balance",
                        "admin:master_app_movetask_changelist",
                        "master_app.view_movetask",
                    ),
                ],
            },
            {
                "title": "People",
                "items": [
                    _page("Users", "person", "admin:auth_user_changelist", "auth.view_user"),
                    _page("Groups", "group", "admin:auth_group_changelist", "auth.view_group"),
                ],
            },
            {
                "title": "More",
                "items": [
                    _elsewhere("Upload and download", "cloud_upload", "home"),
                    _elsewhere("API", "api", "docs"),
                ],
            },
        ]
    },
}
