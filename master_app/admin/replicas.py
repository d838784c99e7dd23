"""Replicas in the admin."""

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils.safestring import SafeString

from master_app import derived
from master_app.admin import filters
from master_app.admin.base import SystemOwnedAdmin
from master_app.models import Replica
from master_app.templatetags import admin_display as display


@admin.register(Replica)
class ReplicaAdmin(SystemOwnedAdmin):
    """Which node has which blob, newest first."""

    list_display = ("digest", "on_node", "state", "size", "created")
    list_filter = (filters.ReplicaNodeFilter,)
    search_fields = ("blob__hash__exact",)
    search_help_text = "A whole hash"
    ordering = ("-id",)

    def get_queryset(self, request: HttpRequest) -> QuerySet[Replica]:
        return Replica.objects.select_related("blob", "node")

    def row_count(self) -> int:
        return derived.totals().replicas

    @admin.display(description="Blob")
    def digest(self, replica: Replica) -> SafeString:
        return display.short_hash(replica.blob.hash)

    @admin.display(description="Node")
    def on_node(self, replica: Replica) -> SafeString:
        return display.node_link(replica.node)

    @admin.display(description="Node's state")
    def state(self, replica: Replica) -> SafeString:
        return display.state_badge(replica.node)

    @admin.display(description="Size")
    def size(self, replica: Replica) -> SafeString:
        return display.size(replica.blob.size)

    @admin.display(description="Recorded")
    def created(self, replica: Replica) -> SafeString:
        return display.ago(replica.created_at)
