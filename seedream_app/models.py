"""Generations, and the files that came of them.

A job's row is the only thing that outlives the process which runs it: who runs a job holds a
lease on it, and a lease that has run out tells the others that nobody does any more.
"""

import uuid
from datetime import timedelta

from django.db import models
from django.db.models import F, Q

from master_app.models import File
from mini_dropbox.env import SeedreamProvider

MAX_CODE_CHARACTERS = 128


class JobStatus(models.TextChoices):
    """How far a generation has come."""

    QUEUED = "queued"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"


FINISHED = (JobStatus.SUCCEEDED, JobStatus.FAILED)


class GenerationJob(models.Model):
    """One request for images, recorded before anybody is asked to draw them."""

    job_id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    prompt = models.TextField()
    size = models.CharField(max_length=32, blank=True, help_text="As asked for, if it was.")
    reference_count = models.PositiveSmallIntegerField(default=0)
    provider = models.CharField(
        max_length=16, choices=[(name.value, name.value) for name in SeedreamProvider]
    )
    model = models.CharField(max_length=128)
    status = models.CharField(
        max_length=16, choices=JobStatus.choices, default=JobStatus.QUEUED, db_index=True
    )
    provider_task_id = models.CharField(max_length=255, blank=True)
    error_code = models.CharField(max_length=64, blank=True)
    error_message = models.TextField(blank=True)
    provider_error_code = models.CharField(
        max_length=MAX_CODE_CHARACTERS, blank=True, help_text="The provider's own word for it."
    )
    item_errors = models.JSONField(
        default=list, blank=True, help_text="Why single images of a job that succeeded are missing."
    )
    created_at = models.DateTimeField()
    started_at = models.DateTimeField(null=True, help_text="When the provider was asked.")
    finished_at = models.DateTimeField(null=True)
    lease_until = models.DateTimeField(
        null=True, db_index=True, help_text="Until then a process is at work on the job."
    )

    class Meta:
        verbose_name = "generation"
        ordering = ("-created_at", "job_id")
        indexes = (models.Index(F("created_at").desc(), name="generation_newest"),)
        constraints = (
            models.CheckConstraint(
                condition=Q(status__in=JobStatus.values), name="generation_status_known"
            ),
            models.CheckConstraint(
                condition=Q(
                    status__in=FINISHED, finished_at__isnull=False, lease_until__isnull=True
                )
                | (
                    ~Q(status__in=FINISHED) & Q(finished_at__isnull=True, lease_until__isnull=False)
                ),
                name="generation_is_leased_or_finished",
            ),
            models.CheckConstraint(
                condition=Q(status=JobStatus.FAILED) ^ Q(error_code=""),
                name="generation_failed_for_a_reason",
            ),
            models.CheckConstraint(
                condition=~Q(status=JobStatus.RUNNING) | Q(started_at__isnull=False),
                name="generation_running_was_started",
            ),
        )

    def __str__(self) -> str:
        return f"generation {self.job_id}"

    @property
    def duration(self) -> timedelta | None:
        """How long the provider and the storing of its images took; None before the end."""
        if self.started_at is None or self.finished_at is None:
            return None
        return self.finished_at - self.started_at


class GeneratedImage(models.Model):
    """One image of a job, kept as a file like any other. Sides are pixels."""

    job = models.ForeignKey(GenerationJob, on_delete=models.CASCADE, related_name="images")
    file = models.ForeignKey(File, on_delete=models.CASCADE, related_name="generated_images")
    position = models.PositiveSmallIntegerField(help_text="From 1, as the provider sent them.")
    width = models.PositiveIntegerField()
    height = models.PositiveIntegerField()
    format = models.CharField(max_length=8)
    created_at = models.DateTimeField()

    class Meta:
        ordering = ("-created_at", "job", "position")
        constraints = (
            models.UniqueConstraint(
                fields=("job", "position"), name="one_generated_image_a_position"
            ),
        )

    def __str__(self) -> str:
        return f"image {self.position} of {self.job_id}"
