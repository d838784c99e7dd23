"""Blobs in the admin."""

from typing import Any

from django.conf import settings
from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils.safestring import SafeString

from master_app import derived, selectors
from master_app.admin import filters
from master_app.admin.base import SystemOwnedAdmin
from master_app.models import Blob
from master_app.operations import plans
from master_app.templatetags import admin_display as display

NAMES_SHOWN = 50


@admin.register(Blob)
class BlobAdmin(SystemOwnedAdmin):
    """The bytes behind the files, newest first."""

    list_display = ("digest", "sha256_start", "bytes", "health", "nodes", "names", "created")
    list_filter = (
        filters.BlobHealthFilter,
        filters.BlobNodeFilter,
        filters.BlobVerifiedFilter,
        "created_at",
    )
    search_fields = ("hash__startswith", "sha256__startswith")
    search_help_text = "The start of a hash or SHA-256"
    ordering = ("-created_at", "-id")

    def get_queryset(self, request: HttpRequest) -> QuerySet[Blob]:
        return selectors.blobs_with_counts().prefetch_related("replicas__node")

    def row_count(self) -> int:
        return derived.totals().blobs

    def render_change_form(self, request: HttpRequest, context: Any, **options: Any) -> Any:
        blob: Blob = context["original"]
        context["places"] = plans.placement_of(blob=blob) if blob.verified else []
        context["wanted_copies"] = settings.ENV.replication_factor
        context["files"] = selectors.files_of(blob=blob, limit=NAMES_SHOWN)
        return super().render_change_form(request, context, **options)

    @admin.display(description="Hash", ordering="hash")
    def digest(self, blob: Blob) -> SafeString:
        return display.short_hash(blob.hash)

    @admin.display(description="SHA-256")
    def sha256_start(self, blob: Blob) -> SafeString:
        return display.short_hash(blob.sha256) if blob.sha256 else display.NOTHING

    @admin.display(description="Size", ordering="size")
    def bytes(self, blob: Blob) -> SafeString:
        return display.size(blob.size)

    @admin.display(description="Replicas")
    def health(self, blob: Any) -> SafeString:
        return display.health_badge(verified=blob.verified, replica_count=blob.replica_count)

    @admin.display(description="Nodes")
    def nodes(self, blob: Blob) -> SafeString:
        return display.holders(blob)

    @admin.display(description="Files")
    def names(self, blob: Any) -> str:
        return f"{blob.file_count:,}"

    @admin.display(description="Created", ordering="created_at")
    def created(self, blob: Blob) -> SafeString:
        return display.ago(blob.created_at)
