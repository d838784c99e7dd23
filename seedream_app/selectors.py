"""Every read of jobs and their images."""

from uuid import UUID

from django.db.models import Prefetch, QuerySet
from django.utils import timezone

from master_app.models import File
from seedream_app.errors import UnknownJob
from seedream_app.models import GeneratedImage, GenerationJob


def job_by_id(*, job_id: UUID) -> GenerationJob:
    """Return a job with its images at hand; UnknownJob when there is none."""
    job = jobs_with_images().filter(pk=job_id).first()
    if job is None:
        raise UnknownJob(f"No generation has the id {job_id}.")
    return job


def jobs_with_images() -> QuerySet[GenerationJob]:
    """Return the jobs with images, files and replicas at hand, images by position."""
    images = images_with_files().order_by("position")
    return GenerationJob.objects.prefetch_related(Prefetch("images", queryset=images))


def images_with_files() -> QuerySet[GeneratedImage]:
    """Return the images with job, file, blob and replicas at hand."""
    return GeneratedImage.objects.select_related("job", "file__blob").prefetch_related(
        "file__blob__replicas__node"
    )


def jobs_abandoned() -> list[GenerationJob]:
    """Return the unfinished jobs that no process works on any more, oldest first."""
    return list(GenerationJob.objects.filter(lease_until__lt=timezone.now()).order_by("created_at"))


def file_named(*, blob_hash: str, name: str) -> File | None:
    """Return the file of that name for that blob, if it is registered."""
    return File.objects.filter(blob__hash=blob_hash, name=name).first()
