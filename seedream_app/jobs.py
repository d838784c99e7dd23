"""Every write to the rows of jobs and their images, each one short transaction.

Who works on a job holds its lease: each write demands that the lease is still the one that the
writer took, so that of two processes that believe themselves at work only one gets anywhere.
"""

from collections.abc import Sequence
from datetime import timedelta
from typing import Any

from django.db import transaction
from django.utils import timezone

from master_app.models import File
from seedream_app.errors import GenerationError
from seedream_app.images import CheckedImage
from seedream_app.models import (
    FINISHED,
    MAX_CODE_CHARACTERS,
    GeneratedImage,
    GenerationJob,
    JobStatus,
)
from seedream_app.providers.base import GenerationRequest, Provider

# On top of what a step may take by its own limits: clocks, scheduling, a busy database.
LEASE_MARGIN = timedelta(seconds=15)


class LeaseLost(Exception):
    """Another process works on the job, or has finished it."""


@transaction.atomic(durable=True)
def job_create(*, request: GenerationRequest, provider: Provider) -> GenerationJob:
    """Record a job that is about to start; its row is on disk when this returns."""
    now = timezone.now()
    return GenerationJob.objects.create(
        prompt=request.prompt,
        size=request.size or "",
        reference_count=len(request.references),
        provider=provider.name,
        model=provider.model_for(request),
        created_at=now,
        lease_until=now + LEASE_MARGIN,
    )


def job_start(*, job: GenerationJob, seconds: float) -> None:
    """Record that the provider is asked now, which takes at most `seconds`."""
    _write(job, seconds, status=JobStatus.RUNNING, started_at=timezone.now())


def job_task_record(*, job: GenerationJob, task_id: str) -> None:
    """Record how to ask for the result, so that a restart finds it."""
    _write(job, 0, provider_task_id=task_id)


def job_lease_extend(*, job: GenerationJob, seconds: float) -> None:
    """Keep the job for the next `seconds`; LeaseLost when it is another's already."""
    _write(job, seconds)


def job_claim(*, job: GenerationJob) -> None:
    """Take over a job whose lease has run out; LeaseLost when another process was faster."""
    _write(job, 0)


@transaction.atomic(durable=True)
def image_record(*, job: GenerationJob, position: int, file: File, image: CheckedImage) -> None:
    """Record a stored image; again the same changes nothing."""
    GeneratedImage.objects.get_or_create(
        job=job,
        position=position,
        defaults={
            "file": file,
            "width": image.width,
            "height": image.height,
            "format": image.format.value,
            "created_at": timezone.now(),
        },
    )


def job_succeed(*, job: GenerationJob, errors: Sequence[GenerationError]) -> None:
    """Finish a job that has images; `errors` are of those that it has not."""
    _write(job, None, status=JobStatus.SUCCEEDED, item_errors=[error.item() for error in errors])


def job_fail(*, job: GenerationJob, code: str, message: str, provider_code: str = "") -> None:
    """Finish a job that has no image."""
    _write(
        job,
        None,
        status=JobStatus.FAILED,
        error_code=code,
        error_message=message,
        provider_error_code=provider_code[:MAX_CODE_CHARACTERS],
    )


@transaction.atomic(durable=True)
def _write(job: GenerationJob, seconds: float | None, **fields: Any) -> None:
    """Update the row if its lease is the one in `job`; `seconds` None ends the job."""
    now = timezone.now()
    if seconds is None:
        fields |= {"finished_at": now, "lease_until": None}
    else:
        fields["lease_until"] = now + timedelta(seconds=seconds) + LEASE_MARGIN
    leased = GenerationJob.objects.filter(pk=job.pk, lease_until=job.lease_until)
    if not leased.exclude(status__in=FINISHED).update(**fields):
        raise LeaseLost(f"{job} is in other hands.")
    for name, value in fields.items():
        setattr(job, name, value)
