"""From a prompt to stored images: generating, and taking up what a restart interrupted.

No step talks to the network within a transaction: each records what it knows before the next
one asks anybody anything.
"""

import hashlib
import logging
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from django.conf import settings
from django.utils.text import slugify

from master_app import node_client
from master_app import selectors as cluster
from master_app import services as registry
from master_app.errors import NoHealthyNode
from master_app.models import File
from mini_dropbox.env import SeedreamProvider
from mini_dropbox.errors import ApiError
from mini_dropbox.wire import Registration
from seedream_app import jobs, selectors
from seedream_app.errors import GenerationError, GenerationInterrupted, ResultNotStored
from seedream_app.image_download import DOWNLOAD_SECONDS, check_result, fetch_image
from seedream_app.images import CheckedImage
from seedream_app.models import GenerationJob
from seedream_app.providers.base import (
    GenerationRequest,
    Outcome,
    Provider,
    ResultBytes,
    ResultItem,
    Task,
)
from seedream_app.providers.choice import configured_provider, provider_named
from seedream_app.reference_images import check_references

logger = logging.getLogger(__name__)

MAX_SLUG_CHARACTERS = 40


def generation_run(
    *,
    prompt: str,
    size: str | None = None,
    max_images: int = 1,
    references: Mapping[str, bytes],
    provider: Provider | None = None,
) -> GenerationJob:
    """Generate, store and register images, and return the finished job.

    `references` are images by the field that they came in. InvalidGenerationRequest for what
    nobody needs to be asked about; NoHealthyNode when images could not be kept; any other
    failure is in the job's row, and is raised with the job's id.
    """
    provider = provider or configured_provider(settings.ENV)
    request = GenerationRequest(
        prompt=prompt,
        size=size,
        max_images=max_images,
        references=check_references(references, formats=provider.reference_formats),
    )
    provider.check(request)
    _require_storage()
    job = jobs.job_create(request=request, provider=provider)
    try:
        with _failures_recorded(job):
            outcome = _ask(job, provider, request)
            _keep(job, provider, outcome)
    except jobs.LeaseLost as error:
        # This process was asleep for longer than anything may take, as laptops are.
        interrupted = GenerationInterrupted("Another process took this over; look the job up.")
        interrupted.job_id = str(job.pk)
        raise interrupted from error
    return selectors.job_by_id(job_id=job.pk)


def generation_resume_pending() -> int:
    """Finish what processes that are gone have left, and return how many jobs that were.

    A job that the provider has a task for is collected. Any other is failed: sent again, it
    might be paid for twice. Without a node to store to, everything waits for the next time.
    """
    if not cluster.healthy_nodes():
        return 0
    resumed = 0
    for job in selectors.jobs_abandoned():
        try:
            jobs.job_claim(job=job)
            _resume(job)
        except jobs.LeaseLost:
            continue
        except ApiError as error:
            logger.warning("%s cannot be finished: %s", job, error)
        resumed += 1
    return resumed


def _require_storage() -> None:
    """Refuse before anything is paid that could not be kept."""
    if not cluster.healthy_nodes():
        raise NoHealthyNode("No storage node is up to keep an image; start one and try again.")


def _ask(job: GenerationJob, provider: Provider, request: GenerationRequest) -> Outcome:
    jobs.job_start(job=job, seconds=provider.submit_seconds)
    answer = provider.submit(request)
    if isinstance(answer, Outcome):
        return answer
    jobs.job_task_record(job=job, task_id=answer.task_id)
    return _collect(job, provider)


def _collect(job: GenerationJob, provider: Provider) -> Outcome:
    def keep_lease(seconds: float) -> None:
        jobs.job_lease_extend(job=job, seconds=seconds)

    task = Task(job.provider_task_id)
    started_at = job.started_at or job.created_at
    return provider.collect(task, submitted_at=started_at, before_poll=keep_lease)


def _resume(job: GenerationJob) -> None:
    with _failures_recorded(job):
        if not job.provider_task_id:
            raise GenerationInterrupted(
                "The server stopped while the provider was at work, and its answer is lost."
            )
        provider = provider_named(SeedreamProvider(job.provider), settings.ENV)
        _keep(job, provider, _collect(job, provider))


@contextmanager
def _failures_recorded(job: GenerationJob) -> Iterator[None]:
    """Put what goes wrong into the job's row, and the job's id into the error."""
    try:
        yield
    except jobs.LeaseLost:
        raise
    except ApiError as error:
        provider_code = error.provider_code if isinstance(error, GenerationError) else ""
        jobs.job_fail(job=job, code=error.code, message=error.detail, provider_code=provider_code)
        if isinstance(error, GenerationError):
            error.job_id = str(job.pk)
        raise
    except Exception:
        # A fault of ours: the log has the traceback, the row must not stay open for ever.
        jobs.job_fail(job=job, code="server_error", message="Something went wrong here.")
        raise


def _keep(job: GenerationJob, provider: Provider, outcome: Outcome) -> None:
    """Store every image of `outcome` that is one, and finish the job."""
    errors: list[GenerationError] = []
    for position, item in enumerate(outcome.items, start=1):
        jobs.job_lease_extend(job=job, seconds=DOWNLOAD_SECONDS + _store_seconds())
        try:
            image = _image(item, provider)
            file = _store(job, position, image)
        except GenerationError as error:
            logger.warning("%s lacks image %d: %s", job, position, error)
            errors.append(error)
        else:
            jobs.image_record(job=job, position=position, file=file, image=image)
    if len(errors) == len(outcome.items):
        raise errors[0]
    jobs.job_succeed(job=job, errors=errors)


def _image(item: ResultItem, provider: Provider) -> CheckedImage:
    if isinstance(item, GenerationError):
        raise item
    if isinstance(item, ResultBytes):
        return check_result(item.content)
    return fetch_image(item.url, trusted_origins=provider.trusted_origins)


def _store_seconds() -> float:
    one = node_client.CONNECT_SECONDS + node_client.READ_SECONDS
    return one * max(len(cluster.healthy_nodes()), 1)


def _store(job: GenerationJob, position: int, image: CheckedImage) -> File:
    """Upload `image` as a client would, and return the file that the master has for it."""
    limit = settings.ENV.max_upload_bytes
    if len(image.content) > limit:
        raise ResultNotStored(
            f"The image has {len(image.content):,} bytes, and nodes take at most {limit:,}: "
            "raise MINI_DROPBOX_MAX_UPLOAD_BYTES."
        )
    name = file_name(job.prompt, position, image)
    content_type = image.format.content_type
    try:
        stored = node_client.upload(
            nodes=cluster.healthy_nodes(),
            content=image.content,
            name=name,
            content_type=content_type,
        )
    except (node_client.NodeRequestError, NoHealthyNode) as error:
        raise ResultNotStored("No storage node took the image; see the log.") from error
    if stored.sha256 != hashlib.sha256(image.content).hexdigest():
        raise ResultNotStored(f"A node stored {name} as something else: {stored.hash}.")
    return selectors.file_named(blob_hash=stored.hash, name=name) or _register(
        stored, name, content_type
    )


def _register(stored: node_client.StoredBlob, name: str, content_type: str) -> File:
    """Register what a node has stored and could not yet tell the master itself."""
    registry.registrations_apply(
        registrations=[
            Registration(
                hash=stored.hash,
                sha256=stored.sha256,
                size=stored.size,
                name=name,
                content_type=content_type,
                replicas=stored.replicas,
                uploaded_at=time.time(),
            )
        ]
    )
    file = selectors.file_named(blob_hash=stored.hash, name=name)
    if file is None:
        raise ResultNotStored(f"{stored.hash} is on record with other content; see /get.")
    return file


def file_name(prompt: str, position: int, image: CheckedImage) -> str:
    """Return a name that tells what is in the picture."""
    slug = slugify(prompt)[:MAX_SLUG_CHARACTERS].strip("-") or "image"
    return f"seedream-{slug}-{position}.{image.format.extension}"
