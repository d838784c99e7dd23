"""The order of steps, and what happens after a restart."""

import uuid
from collections.abc import Callable
from datetime import datetime, timedelta
from threading import Event, Thread

import pytest
from django.core.management import call_command
from django.db import connection
from django.utils import timezone

from master_app import services as registry
from master_app.models import File
from mini_dropbox.env import SeedreamProvider
from mini_dropbox.wire import Registration
from seedream_app import jobs, resumption, selectors, services
from seedream_app.errors import GenerationInterrupted
from seedream_app.models import GeneratedImage, GenerationJob, JobStatus
from seedream_app.providers.base import GenerationRequest, Outcome, Provider, ResultBytes, Task
from seedream_app.providers.kie import KieProvider, PollTimes
from tests.seedream_app.conftest import API_KEY, Configure
from tests.seedream_app.fakes.kie import FakeKie
from tests.seedream_app.fakes.node import FakeNode
from tests.seedream_app.fakes.pictures import picture


class Witness(Provider):
    """Looks at the job's row when it is asked, as another process would see it."""

    name = SeedreamProvider.KIE
    submit_seconds = 10.0

    def __init__(self, then: Callable[[], None] = lambda: None) -> None:
        self.at_submit: GenerationJob | None = None
        self.at_collect: GenerationJob | None = None
        self._then = then

    def model_for(self, request: GenerationRequest) -> str:
        return "witness-1"

    def check(self, request: GenerationRequest) -> None:
        """Take anything."""

    def submit(self, request: GenerationRequest) -> Task:
        assert not connection.in_atomic_block
        self.at_submit = GenerationJob.objects.get()
        return Task("task-7")

    def collect(
        self, task: Task, *, submitted_at: datetime, before_poll: Callable[[float], None]
    ) -> Outcome:
        assert not connection.in_atomic_block
        before_poll(1)
        self.at_collect = GenerationJob.objects.get()
        self._then()
        return Outcome((ResultBytes(picture()),))


@pytest.mark.django_db(transaction=True)
def test_the_job_is_on_record_before_anybody_is_asked_and_its_task_before_the_wait(
    node: FakeNode, configure: Configure
) -> None:
    witness = Witness()
    job = services.generation_run(prompt="a cat", references={}, provider=witness)
    assert witness.at_submit is not None
    assert witness.at_collect is not None
    assert witness.at_submit.pk == job.pk
    assert witness.at_submit.status == JobStatus.RUNNING
    assert witness.at_submit.lease_until > timezone.now()
    assert witness.at_collect.provider_task_id == "task-7"
    assert job.status == JobStatus.SUCCEEDED
    assert job.lease_until is None
    assert job.duration > timedelta(0)


def test_a_file_that_the_node_has_registered_itself_is_used(
    node: FakeNode, configure: Configure
) -> None:
    job = services.generation_run(prompt="a cat", references={})
    first = job.images.get().file
    again = services.generation_run(prompt="a cat", references={})
    assert again.images.get().file == first
    assert first.blob.verified


def test_a_file_on_record_with_other_bytes_is_not_taken_for_the_image(
    node: FakeNode, configure: Configure
) -> None:
    job = services.generation_run(prompt="a cat", references={})
    blob_hash = job.images.get().file.blob.hash
    File.objects.all().delete()
    blob = registry.Blob.objects.get(hash=blob_hash)
    blob.sha256 = "0" * 64
    blob.save()
    with pytest.raises(services.ResultNotStored, match="other content"):
        services.generation_run(prompt="a cat", references={})


@pytest.mark.django_db(transaction=True)
def test_a_fault_of_ours_leaves_no_job_open(node: FakeNode, configure: Configure) -> None:
    def fault() -> None:
        raise RuntimeError("a fault")

    with pytest.raises(RuntimeError):
        services.generation_run(prompt="a cat", references={}, provider=Witness(fault))
    job = GenerationJob.objects.get()
    assert (job.status, job.error_code) == (JobStatus.FAILED, "server_error")


@pytest.mark.django_db(transaction=True)
def test_who_has_lost_the_lease_writes_nothing_more(node: FakeNode, configure: Configure) -> None:
    def take_over() -> None:
        GenerationJob.objects.update(lease_until=timezone.now() + timedelta(hours=1))

    with pytest.raises(GenerationInterrupted) as caught:
        services.generation_run(prompt="a cat", references={}, provider=Witness(take_over))
    job = GenerationJob.objects.get()
    assert caught.value.body()["job_id"] == str(job.pk)
    assert job.status == JobStatus.RUNNING
    assert not GeneratedImage.objects.exists()


def abandoned_job(*, task_id: str = "", **fields: object) -> GenerationJob:
    """Return a job whose process died a while ago."""
    past = timezone.now() - timedelta(minutes=2)
    return GenerationJob.objects.create(
        **{
            "prompt": "a cat",
            "provider": "kie",
            "model": "bytedance/seedream-v4-text-to-image",
            "status": JobStatus.RUNNING,
            "provider_task_id": task_id,
            "created_at": past,
            "started_at": past,
            "lease_until": past,
            **fields,
        }
    )


@pytest.fixture
def restarted(kie: FakeKie, configure: Configure) -> FakeKie:
    """Kie with a task that a process created which is gone."""
    configure(
        seedream_api_key=API_KEY,
        seedream_provider=SeedreamProvider.KIE,
        seedream_base_url=kie.url,
    )
    task = KieProvider(api_key=API_KEY, base_url=kie.url).submit(GenerationRequest(prompt="a cat"))
    assert task.task_id == "task-1"
    kie.states = ["success"]
    return kie


def test_a_task_is_collected_after_a_restart_and_not_created_again(
    restarted: FakeKie, node: FakeNode
) -> None:
    job = abandoned_job(task_id="task-1")
    assert services.generation_resume_pending() == 1
    job.refresh_from_db()
    assert job.status == JobStatus.SUCCEEDED
    assert node.blobs[job.images.get().file.blob.hash] == restarted.image
    assert len(restarted.creations) == 1
    assert services.generation_resume_pending() == 0


@pytest.mark.parametrize("status", [JobStatus.QUEUED, JobStatus.RUNNING])
def test_a_job_without_a_task_fails_and_is_never_sent_again(
    restarted: FakeKie, node: FakeNode, status: JobStatus
) -> None:
    job = abandoned_job(status=status)
    requests_before = len(restarted.requests)
    assert services.generation_resume_pending() == 1
    job.refresh_from_db()
    assert (job.status, job.error_code) == (JobStatus.FAILED, "interrupted")
    assert len(restarted.requests) == requests_before


def test_a_job_that_a_process_works_on_is_left_alone(restarted: FakeKie, node: FakeNode) -> None:
    job = abandoned_job(task_id="task-1", lease_until=timezone.now() + timedelta(seconds=30))
    assert services.generation_resume_pending() == 0
    job.refresh_from_db()
    assert job.status == JobStatus.RUNNING


def test_two_processes_do_not_both_take_a_job_up() -> None:
    abandoned_job(task_id="task-1")
    [seen_by_one], [seen_by_other] = selectors.jobs_abandoned(), selectors.jobs_abandoned()
    jobs.job_claim(job=seen_by_one)
    with pytest.raises(jobs.LeaseLost):
        jobs.job_claim(job=seen_by_other)


def test_resuming_waits_for_a_node_to_store_to(restarted: FakeKie) -> None:
    job = abandoned_job(task_id="task-1")
    assert services.generation_resume_pending() == 0
    job.refresh_from_db()
    assert job.status == JobStatus.RUNNING


def test_a_task_that_the_provider_has_forgotten_fails_its_job_alone(
    restarted: FakeKie, node: FakeNode
) -> None:
    lost = abandoned_job(task_id="task-of-yore")
    found = abandoned_job(task_id="task-1")
    assert services.generation_resume_pending() == 2
    lost.refresh_from_db()
    found.refresh_from_db()
    assert (lost.status, lost.error_code) == (JobStatus.FAILED, "provider_bad_parameters")
    assert found.status == JobStatus.SUCCEEDED


def test_a_job_whose_key_is_gone_fails(
    restarted: FakeKie, node: FakeNode, configure: Configure
) -> None:
    configure(seedream_api_key=None)
    job = abandoned_job(task_id="task-1")
    assert services.generation_resume_pending() == 1
    job.refresh_from_db()
    assert (job.status, job.error_code) == (JobStatus.FAILED, "provider_misconfigured")


def test_an_image_that_was_stored_before_the_restart_is_not_recorded_twice(
    restarted: FakeKie, node: FakeNode
) -> None:
    job = abandoned_job(task_id="task-1")
    services.generation_resume_pending()
    past = timezone.now() - timedelta(minutes=1)
    GenerationJob.objects.update(status=JobStatus.RUNNING, finished_at=None, lease_until=past)
    assert services.generation_resume_pending() == 1
    job.refresh_from_db()
    assert job.status == JobStatus.SUCCEEDED
    assert job.images.count() == 1


def test_the_command_says_how_many_it_took_up(
    restarted: FakeKie, node: FakeNode, capsys: pytest.CaptureFixture[str]
) -> None:
    abandoned_job(task_id="task-1")
    call_command("resume_generation_jobs")
    assert "taken up: 1" in capsys.readouterr().out


def test_the_watch_ends_when_it_is_told_to() -> None:
    stopping = Event()
    thread = Thread(target=resumption.watch_jobs, args=(stopping,))
    thread.start()
    stopping.set()
    thread.join(5)
    assert not thread.is_alive()


def test_the_time_of_a_job_is_measured_from_its_start(
    kie: FakeKie, node: FakeNode, configure: Configure
) -> None:
    times = PollTimes(first=0.01, total=30)
    provider = KieProvider(api_key=API_KEY, base_url=kie.url, poll_times=times)
    job = services.generation_run(prompt="a cat", references={}, provider=provider)
    assert timedelta(0) < job.duration < timedelta(seconds=30)


def test_names_come_from_the_prompt_whatever_it_is(node: FakeNode, configure: Configure) -> None:
    for prompt, name in [
        ("赛博朋克", "seedream-image-1.png"),
        ("../../etc/passwd", "seedream-etcpasswd-1.png"),
        ("word " * 100, "seedream-word-word-word-word-word-word-word-word-1.png"),
    ]:
        job = services.generation_run(prompt=prompt, references={})
        assert job.images.get().file.name == name


def test_jobs_are_found_by_id(node: FakeNode, configure: Configure) -> None:
    with pytest.raises(selectors.UnknownJob):
        selectors.job_by_id(job_id=uuid.uuid4())


def test_a_registration_that_comes_later_changes_nothing(
    node: FakeNode, configure: Configure
) -> None:
    file = services.generation_run(prompt="a cat", references={}).images.get().file
    blob = file.blob
    registry.registrations_apply(
        registrations=[
            Registration(
                hash=blob.hash,
                sha256=blob.sha256,
                size=blob.size,
                name=file.name,
                content_type=file.content_type,
                replicas=("8001",),
                uploaded_at=1.0,
            )
        ]
    )
    assert File.objects.get() == file
