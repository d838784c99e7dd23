"""Nodes in the admin."""

from typing import Any

from django.contrib import admin, messages
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils.safestring import SafeString

from master_app import selectors
from master_app.admin import filters
from master_app.admin.base import SystemOwnedAdmin
from master_app.models import Node, NodeMode
from master_app.operations import plans, services
from master_app.templatetags import admin_display as display
from master_app.wording import human_size

REPLICAS_SHOWN = 10


@admin.register(Node)
class NodeAdmin(SystemOwnedAdmin):
    """The storage nodes, as their heartbeats describe them."""

    list_display = (
        "node_id",
        "state",
        "mode",
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
    list_filter = (filters.NodeStateFilter, "mode", "writable")
    actions = ("drain", "make_read_only", "activate", "remove")
    search_fields = ("node_id", "url")
    search_help_text = "Part of an id or address"
    ordering = ("node_id",)

    def get_queryset(self, request: HttpRequest) -> QuerySet[Node]:
        return Node.objects.with_state()

    def render_change_form(self, request: HttpRequest, context: Any, **options: Any) -> Any:
        node: Node = context["original"]
        context["plan"] = plans.drain_plan(node=node)
        context["replicas"] = selectors.newest_replicas(node=node, limit=REPLICAS_SHOWN)
        return super().render_change_form(request, context, **options)

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        # No form, but actions: what a node is used for is an operator's to say.
        return obj is None and request.user.has_perm("master_app.change_node")

    @admin.action(description="Drain: copy everything to other nodes", permissions=["change"])
    def drain(self, request: HttpRequest, nodes: QuerySet[Node]) -> None:
        for node in nodes:
            plan = plans.drain_plan(node=node)
            if plan.obstacle:
                text = f"Node {node.node_id} is not drained: {plan.obstacle}."
                self.message_user(request, text, messages.ERROR)
                continue
            services.node_set_mode(node=node, mode=NodeMode.DRAINING)
            text = (
                f"Node {node.node_id} is draining: {plan.to_copy_blobs:,} of {plan.blobs:,} blobs, "
                f"{human_size(plan.to_copy_bytes)}, are copied to other nodes."
            )
            self.message_user(request, text)

    @admin.action(description="Make read-only: keep what it has", permissions=["change"])
    def make_read_only(self, request: HttpRequest, nodes: QuerySet[Node]) -> None:
        self._set_mode(request, nodes, NodeMode.READ_ONLY, "is read-only")

    @admin.action(description="Activate: let it take blobs again", permissions=["change"])
    def activate(self, request: HttpRequest, nodes: QuerySet[Node]) -> None:
        self._set_mode(request, nodes, NodeMode.ACTIVE, "takes blobs again")

    def _set_mode(
        self, request: HttpRequest, nodes: QuerySet[Node], mode: NodeMode, done: str
    ) -> None:
        for node in nodes:
            services.node_set_mode(node=node, mode=mode)
            self.message_user(request, f"Node {node.node_id} {done}.")

    @admin.action(description="Remove from the cluster", permissions=["change"])
    def remove(self, request: HttpRequest, nodes: QuerySet[Node]) -> None:
        for node in nodes:
            few = plans.endangered_without(node=node)
            if few:
                text = (
                    f"Node {node.node_id} is not removed: {few:,} of its blobs have too few copies "
                    "on other nodes. Drain it first."
                )
                self.message_user(request, text, messages.ERROR)
                continue
            services.node_remove(node=node)
            self.message_user(request, f"Node {node.node_id} is removed from the cluster.")

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
