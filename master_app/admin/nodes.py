"""Nodes in the admin."""

from typing import Any

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils.safestring import SafeString

from master_app import selectors
from master_app.admin import filters
from master_app.admin.base import SystemOwnedAdmin
from master_app.models import Node
from master_app.templatetags import admin_display as display

REPLICAS_SHOWN = 10


@admin.register(Node)
class NodeAdmin(SystemOwnedAdmin):
    """The storage nodes, as their heartbeats describe them."""

    list_display = (
        "node_id",
        "state",
        "heartbeat",
        "fill",
        "used",
        "saved",
        "free",
        "blobs",
        "takes_uploads",
        "address",
        "version",
    )
    list_filter = (filters.NodeStateFilter, "writable")
    search_fields = ("node_id", "url")
    search_help_text = "Part of an id or address"
    ordering = ("node_id",)

    def get_queryset(self, request: HttpRequest) -> QuerySet[Node]:
        return Node.objects.with_state()

    def render_change_form(self, request: HttpRequest, context: Any, **options: Any) -> Any:
        node: Node = context["original"]
        context["replicas"] = selectors.newest_replicas(node=node, limit=REPLICAS_SHOWN)
        return super().render_change_form(request, context, **options)

    @admin.display(description="State", ordering="state_now")
    def state(self, node: Node) -> SafeString:
        return display.state_badge(node)

    @admin.display(description="Last heartbeat", ordering="last_heartbeat_at")
    def heartbeat(self, node: Node) -> SafeString:
        return display.ago(node.last_heartbeat_at)

    @admin.display(description="Fill level")
    def fill(self, node: Node) -> SafeString:
        return display.fill_level(node)

    @admin.display(description="Blobs hold", ordering="used_bytes")
    def used(self, node: Node) -> SafeString:
        return display.size(node.used_bytes)

    @admin.display(description="Compression saves")
    def saved(self, node: Node) -> SafeString:
        return display.saving(node)

    @admin.display(description="Free", ordering="free_bytes")
    def free(self, node: Node) -> SafeString:
        return display.size(node.free_bytes)

    @admin.display(description="Blobs", ordering="blob_count")
    def blobs(self, node: Node) -> str:
        return f"{node.blob_count:,}"

    @admin.display(description="Address", ordering="url")
    def address(self, node: Node) -> str:
        return node.url

    @admin.display(description="Takes uploads", ordering="writable", boolean=True)
    def takes_uploads(self, node: Node) -> bool:
        return node.writable
