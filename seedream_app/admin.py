"""Generations and their images in the admin site, to browse."""

from typing import Any

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString
from django.utils.text import Truncator

from master_app.admin.base import SystemOwnedAdmin
from master_app.templatetags import admin_display as display
from master_app.thumbnails import thumbnail_url
from seedream_app import selectors
from seedream_app.models import GeneratedImage, GenerationJob, JobStatus

PROMPT_CHARACTERS = 80
STATUS_TONES = {
    JobStatus.QUEUED: "neutral",
    JobStatus.RUNNING: "warning",
    JobStatus.SUCCEEDED: "good",
    JobStatus.FAILED: "bad",
}


@admin.register(GenerationJob)
class GenerationJobAdmin(SystemOwnedAdmin):
    """Who asked for what, what came of it, and how long it took."""

    list_display = (
        "pictures",
        "prompt_start",
        "status_badge",
        "provider",
        "model",
        "took",
        "created",
    )
    list_display_links = ("pictures", "prompt_start")
    list_filter = ("status", "provider", "created_at")
    search_fields = ("prompt", "=job_id", "=provider_task_id")
    search_help_text = "Words of the prompt, or a whole job or task id"
    ordering = ("-created_at",)
    fieldsets = (
        (None, {"fields": ("downloads", "prompt", "status_badge", "size", "reference_count")}),
        ("Provider", {"fields": ("provider", "model", "provider_task_id")}),
        ("Times", {"fields": ("created_at", "started_at", "finished_at", "took", "lease_until")}),
    )
    failure_fieldset = (
        "Failure",
        {"fields": ("error_message", "error_code", "provider_error_code", "missing")},
    )
    readonly_fields = ("downloads", "status_badge", "took", "missing")

    def get_queryset(self, request: HttpRequest) -> QuerySet[GenerationJob]:
        return selectors.jobs_with_images()

    def get_fieldsets(self, request: HttpRequest, obj: GenerationJob | None = None) -> Any:
        has_failure = obj is not None and (obj.error_code or obj.item_errors)
        head, *rest = self.fieldsets
        return (head, self.failure_fieldset, *rest) if has_failure else self.fieldsets

    @admin.display(description="Images")
    def pictures(self, job: GenerationJob) -> SafeString:
        shown = [(display.picture(image.file),) for image in job.images.all()]
        return _row(format_html_join("", "{}", shown)) if shown else display.NOTHING

    @admin.display(description="Images")
    def downloads(self, job: GenerationJob) -> SafeString:
        shown = [(_linked(image),) for image in job.images.all()]
        return _row(format_html_join("", "{}", shown)) if shown else display.NOTHING

    @admin.display(description="Prompt", ordering="prompt")
    def prompt_start(self, job: GenerationJob) -> SafeString:
        return _prompt(job)

    @admin.display(description="Status", ordering="status")
    def status_badge(self, job: GenerationJob) -> SafeString:
        return display.badge(
            job.get_status_display().lower(), STATUS_TONES[JobStatus(job.status)], job.error_message
        )

    @admin.display(description="Took")
    def took(self, job: GenerationJob) -> SafeString:
        if job.duration is None:
            return display.NOTHING
        return format_html(
            '<span class="md-number">{} s</span>', f"{job.duration.total_seconds():.1f}"
        )

    @admin.display(description="Created", ordering="created_at")
    def created(self, job: GenerationJob) -> SafeString:
        return display.ago(job.created_at)

    @admin.display(description="Missing images")
    def missing(self, job: GenerationJob) -> str:
        return "\n".join(error["detail"] for error in job.item_errors) or display.NOTHING


@admin.register(GeneratedImage)
class GeneratedImageAdmin(SystemOwnedAdmin):
    """The images themselves."""

    list_display = (
        "picture",
        "prompt_start",
        "pixels",
        "size",
        "format",
        "provider",
        "created",
        "download",
    )
    list_display_links = ("picture", "prompt_start")
    list_filter = ("format", "job__provider", "created_at")
    search_fields = ("job__prompt", "file__name", "file__blob__hash__exact")
    search_help_text = "Words of the prompt, part of a name, or a whole hash"
    ordering = ("-created_at", "-id")
    fields = ("linked_picture", "job", "file", "position", "pixels", "size", "format", "created_at")
    readonly_fields = ("linked_picture", "pixels", "size")

    def get_queryset(self, request: HttpRequest) -> QuerySet[GeneratedImage]:
        return selectors.images_with_files()

    @admin.display(description="")
    def picture(self, image: GeneratedImage) -> SafeString:
        return display.picture(image.file)

    @admin.display(description="Image")
    def linked_picture(self, image: GeneratedImage) -> SafeString:
        return _linked(image)

    @admin.display(description="Prompt", ordering="job__prompt")
    def prompt_start(self, image: GeneratedImage) -> SafeString:
        return _prompt(image.job)

    @admin.display(description="Pixels", ordering="width")
    def pixels(self, image: GeneratedImage) -> SafeString:
        return format_html(
            '<span class="md-number">{} \N{MULTIPLICATION SIGN} {}</span>',
            image.width,
            image.height,
        )

    @admin.display(description="Size", ordering="file__blob__size")
    def size(self, image: GeneratedImage) -> SafeString:
        return display.size(image.file.blob.size)

    @admin.display(description="Provider", ordering="job__provider")
    def provider(self, image: GeneratedImage) -> str:
        return image.job.provider

    @admin.display(description="Created", ordering="created_at")
    def created(self, image: GeneratedImage) -> SafeString:
        return display.ago(image.created_at)

    @admin.display(description="")
    def download(self, image: GeneratedImage) -> SafeString:
        return display.download_link(image.file)


def _prompt(job: GenerationJob) -> SafeString:
    shown = Truncator(job.prompt).chars(PROMPT_CHARACTERS)
    return format_html('<span class="md-name" title="{}">{}</span>', job.prompt, shown)


def _row(content: SafeString) -> SafeString:
    return format_html('<span style="display:flex;flex-wrap:wrap;gap:8px">{}</span>', content)


def _linked(image: GeneratedImage) -> SafeString:
    """Show an image large, with what downloads it."""
    thumbnail = thumbnail_url(image.file)
    return format_html(
        '<span><img src="{}" alt="{}" style="max-width:20rem;border-radius:8px">{}</span>',
        thumbnail or "",
        Truncator(image.job.prompt).chars(PROMPT_CHARACTERS),
        display.download_link(image.file),
    )
