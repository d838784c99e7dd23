"""Files in the admin."""

from typing import Any

from django.contrib import admin
from django.contrib.admin.views.main import ORDER_VAR
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.text import smart_split, unescape_string_literal
from unfold.views import ChangeList

from master_app import derived, selectors
from master_app.admin import filters
from master_app.admin.base import NewestFirstChangeList, SystemOwnedAdmin
from master_app.collection import services
from master_app.models import File
from master_app.name_search import NEWEST_FOUND, files_found
from master_app.templatetags import admin_display as display


class FileChangeList(NewestFirstChangeList):
    """The files, of which a search shows those first that were registered last."""

    def get_ordering(self, request: HttpRequest, queryset: QuerySet[File]) -> list[Any]:
        if self.query and ORDER_VAR not in self.params:
            return [NEWEST_FOUND]
        return list(super().get_ordering(request, queryset))


@admin.register(File)
class FileAdmin(SystemOwnedAdmin):
    """What users have stored, newest first."""

    list_display = (
        "picture",
        "file_name",
        "size",
        "type",
        "health",
        "nodes",
        "digest",
        "created",
        "download",
    )
    list_display_links = ("picture", "file_name")
    list_filter = (
        filters.FileHealthFilter,
        filters.ContentKindFilter,
        filters.FileNodeFilter,
        filters.FileVerifiedFilter,
        "created_at",
    )
    search_fields = ("name", "blob__hash__exact")
    search_help_text = "Part of a name, or a whole hash"
    ordering = ("-created_at", "-id")

    def get_queryset(self, request: HttpRequest) -> QuerySet[File]:
        return selectors.files_with_counts().prefetch_related("blob__replicas__node")

    def row_count(self) -> int:
        return derived.totals().files

    def get_changelist(self, request: HttpRequest, **kwargs: Any) -> type[ChangeList]:
        return FileChangeList

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[File], search_term: str
    ) -> tuple[QuerySet[File], bool]:
        """Return the files that fit each word of a search, and that none of them comes twice."""
        return files_found(queryset, _words(search_term)), False

    def render_change_form(self, request: HttpRequest, context: Any, **options: Any) -> Any:
        file: File = context["original"]
        context["other_names"] = selectors.other_names(file=file)
        return super().render_change_form(request, context, **options)

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return request.user.has_perm("master_app.delete_file")

    def delete_model(self, request: HttpRequest, obj: File) -> None:
        services.files_delete(keys=[obj.pk])

    def delete_queryset(self, request: HttpRequest, queryset: QuerySet[File]) -> None:
        services.files_delete(keys=list(queryset.values_list("pk", flat=True)))

    @admin.display(description="")
    def picture(self, file: File) -> SafeString:
        return display.picture(file)

    @admin.display(description="Name", ordering="name")
    def file_name(self, file: File) -> SafeString:
        return format_html('<span class="md-name" title="{}">{}</span>', file.name, file.name)

    @admin.display(description="Size", ordering="blob__size")
    def size(self, file: File) -> SafeString:
        return display.size(file.blob.size)

    @admin.display(description="Type", ordering="content_type")
    def type(self, file: File) -> SafeString:
        text = file.content_type or "unknown"
        return format_html('<span class="md-type" title="{}">{}</span>', text, text)

    @admin.display(description="Replicas")
    def health(self, file: Any) -> SafeString:
        return display.health_badge(verified=file.blob.verified, replica_count=file.replica_count)

    @admin.display(description="Nodes")
    def nodes(self, file: File) -> SafeString:
        return display.holders(file.blob)

    @admin.display(description="Hash")
    def digest(self, file: File) -> SafeString:
        return display.short_hash(file.blob.hash)

    @admin.display(description="Created", ordering="created_at")
    def created(self, file: File) -> SafeString:
        return display.ago(file.created_at)

    @admin.display(description="")
    def download(self, file: File) -> SafeString:
        return display.download_link(file)


def _words(search: str) -> list[str]:
    """Split what somebody has typed at its spaces, except for those in quotation marks."""
    words = []
    for word in smart_split(search):
        is_quoted = word[0] in "\"'" and word[0] == word[-1]
        words.append(unescape_string_literal(word) if is_quoted else word)
    return [word for word in words if word]
