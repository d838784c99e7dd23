"""Blobs with too few copies in the admin."""

from typing import Any

from django.conf import settings
from django.contrib import admin
from django.contrib.admin import SimpleListFilter
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils.safestring import SafeString

from master_app.admin.base import SystemOwnedAdmin
from master_app.models import RepairTask
from master_app.templatetags import admin_display as display


class OutcomeFilter(SimpleListFilter):
    """Tasks whose last attempt failed, and those that have not had one."""

    title = "attempts"
    parameter_name = "attempts"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [("failed", "Failed"), ("none", "Not tried yet")]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        conditions = {"failed": {"attempts__gt": 0}, "none": {"attempts": 0}}
        return queryset.filter(**conditions.get(self.value() or "", {}))


@admin.register(RepairTask)
class RepairTaskAdmin(SystemOwnedAdmin):
    """What repair has still to do, the most endangered first."""

    list_display = ("digest", "copies_there", "size", "nodes", "tried", "reason", "since")
    list_filter = ("copies", OutcomeFilter)
    search_fields = ("blob__hash__exact",)
    search_help_text = "A whole hash"
    ordering = ("copies", "blob_id")

    def get_queryset(self, request: HttpRequest) -> QuerySet[RepairTask]:
        return RepairTask.objects.select_related("blob").prefetch_related("blob__replicas__node")

    @admin.display(description="Blob")
    def digest(self, task: RepairTask) -> SafeString:
        return display.short_hash(task.blob.hash)

    @admin.display(description="Copies", ordering="copies")
    def copies_there(self, task: RepairTask) -> str:
        return f"{task.copies} of {settings.ENV.replication_factor}"

    @admin.display(description="Size")
    def size(self, task: RepairTask) -> SafeString:
        return display.size(task.blob.size)

    @admin.display(description="Nodes")
    def nodes(self, task: RepairTask) -> SafeString:
        return display.holders(task.blob)

    @admin.display(description="Failed attempts", ordering="attempts")
    def tried(self, task: RepairTask) -> str:
        return f"{task.attempts:,}"

    @admin.display(description="Noted", ordering="created_at")
    def since(self, task: RepairTask) -> SafeString:
        return display.ago(task.created_at)
