"""The gateway: tasks, polling, uploads, and errors that come with status 200."""

import dataclasses
import json
from datetime import datetime, timedelta

import pytest
from django.utils import timezone

from seedream_app import errors
from seedream_app.images import ALL_FORMATS, check_image
from seedream_app.providers.base import GenerationRequest, Outcome, ResultUrl, Task
from seedream_app.providers.kie import KieProvider, PollTimes
from tests.seedream_app.conftest import API_KEY
from tests.seedream_app.fakes.kie import FakeKie, error, success
from tests.seedream_app.fakes.pictures import picture
from tests.seedream_app.fakes.server import FakeServer, Hangup, Reply, Silence

A_CAT = GenerationRequest(prompt="a cat")
QUICK = PollTimes(first=0.01, longest=0.02, total=30)


@pytest.fixture
def provider(kie: FakeKie) -> KieProvider:
    return KieProvider(api_key=API_KEY, base_url=kie.url, poll_times=QUICK)


@pytest.fixture
def hasty(kie: FakeKie) -> KieProvider:
    """Give a provider that soon loses its patience."""
    times = dataclasses.replace(QUICK, total=0.3)
    return KieProvider(api_key=API_KEY, base_url=kie.url, read_seconds=0.5, poll_times=times)


def collect(provider: KieProvider, task: Task, *, submitted_at: datetime | None = None) -> Outcome:
    return provider.collect(
        task, submitted_at=submitted_at or timezone.now(), before_poll=lambda _seconds: None
    )


def refusal_of_submit(provider: KieProvider) -> errors.GenerationError:
    with pytest.raises(errors.GenerationError) as caught:
        provider.submit(A_CAT)
    assert API_KEY not in f"{caught.value!r} {caught.value.body()}"
    return caught.value


def test_a_task_is_created_with_a_size_in_kies_words(kie: FakeKie, provider: KieProvider) -> None:
    provider.submit(GenerationRequest(prompt="a cat", size="landscape_16_9", max_images=2))
    provider.submit(GenerationRequest(prompt="a cat", size="4K"))
    first, second = (request.json["input"] for request in kie.creations)
    assert first == {
        "prompt": "a cat",
        "image_size": "landscape_16_9",
        "image_resolution": "2K",
        "max_images": 2,
    }
    assert (second["image_size"], second["image_resolution"]) == ("square_hd", "4K")


def test_references_are_uploaded_first_and_named_by_their_addresses(
    kie: FakeKie, provider: KieProvider
) -> None:
    content = picture(200, 100, "WEBP")
    image = check_image(content, formats=ALL_FORMATS)
    provider.submit(GenerationRequest(prompt="a cat", references=(image,)))
    [created] = [request.json for request in kie.creations]
    assert created["model"] == "bytedance/seedream-v4-edit"
    [url] = created["input"]["image_urls"]
    assert kie.uploads == {url: content}


def test_uploads_may_go_to_another_host_and_a_gateways_key_only_to_the_gateway(
    kie: FakeKie, host: FakeServer
) -> None:
    image = check_image(picture(), formats=ALL_FORMATS)
    request = GenerationRequest(prompt="a cat", references=(image,))
    host.replies.append(success({"downloadUrl": f"{host.url}/x.png"}))
    kie.uploads[f"{host.url}/x.png"] = b""
    KieProvider(api_key=API_KEY, base_url=kie.url, upload_url=host.url).submit(request)
    assert len(host.requests) == 1
    KieProvider(api_key=API_KEY, base_url=kie.url).submit(request)
    assert len(kie.requests_to("/api/file-base64-upload")) == 1


def test_a_task_is_looked_at_until_it_succeeds(kie: FakeKie, provider: KieProvider) -> None:
    task = provider.submit(A_CAT)
    outcome = collect(provider, task)
    assert outcome.items == (ResultUrl(f"{kie.url}/result/{task.task_id}-0.jpg"),)
    assert len(kie.polls) == 4


def test_the_waits_between_looks_grow_from_two_seconds_up_to_a_limit() -> None:
    times = PollTimes()
    assert (times.first, times.total) == (2, 15 * 60)
    assert 1 < times.growth <= 2
    assert times.first < times.longest <= 30


def test_the_lease_is_asked_for_before_each_look(kie: FakeKie, provider: KieProvider) -> None:
    leases: list[float] = []
    task = provider.submit(A_CAT)
    provider.collect(task, submitted_at=timezone.now(), before_poll=leases.append)
    assert len(leases) == len(kie.polls)
    assert min(leases) > 0.5


@pytest.mark.parametrize("state", ["waiting", "queuing", "generating", "something new"])
def test_a_task_that_never_ends_is_a_time_out(kie: FakeKie, hasty: KieProvider, state: str) -> None:
    kie.states = [state]
    with pytest.raises(errors.ProviderTimeout) as caught:
        collect(hasty, hasty.submit(A_CAT))
    assert caught.value.status == 504
    assert len(kie.creations) == 1


def test_a_task_from_long_ago_gets_one_look(kie: FakeKie, provider: KieProvider) -> None:
    kie.states = ["success"]
    task = provider.submit(A_CAT)
    long_ago = timezone.now() - timedelta(days=1)
    assert collect(provider, task, submitted_at=long_ago).items


BODY_CODES = [
    (401, errors.AuthenticationRefused),
    (402, errors.NoCredit),
    (404, errors.ProviderMisconfigured),
    (408, errors.ProviderTimeout),
    (422, errors.BadParameters),
    (433, errors.NoCredit),
    (455, errors.ProviderDown),
    (500, errors.ProviderDown),
    (501, errors.GenerationError),
    (505, errors.ProviderMisconfigured),
    (599, errors.ProviderDown),
]


@pytest.mark.parametrize(("code", "kind"), BODY_CODES)
def test_each_code_in_a_body_has_its_kind_and_is_asked_for_once(
    kie: FakeKie, provider: KieProvider, code: int, kind: type[errors.GenerationError]
) -> None:
    kie.replies.append(error(code, "This is why."))
    refused = refusal_of_submit(provider)
    assert type(refused) is kind
    assert refused.provider_code == str(code)
    assert "This is why." in refused.detail
    assert len(kie.creations) == 1


def test_moderation_has_no_code_and_is_told_by_its_words(
    kie: FakeKie, provider: KieProvider
) -> None:
    kie.replies.append(error(422, "The prompt was flagged by content moderation."))
    assert isinstance(refusal_of_submit(provider), errors.ModerationRefused)


def test_a_sentence_may_be_under_message_as_well(kie: FakeKie, provider: KieProvider) -> None:
    kie.replies.append(Reply.json({"code": 402, "message": "Top up."}))
    assert "Top up." in refusal_of_submit(provider).detail


def test_a_rate_limit_is_waited_out(kie: FakeKie, provider: KieProvider) -> None:
    kie.replies.append(error(429, "Slow down.", Retry_After="1"))
    provider.submit(A_CAT)
    first, second = kie.creations
    assert 1.0 <= second.at - first.at < 3.0


def test_a_rate_limit_that_stays_is_given_up(kie: FakeKie, provider: KieProvider) -> None:
    kie.replies.extend([error(429, "Slow down.", Retry_After="0")] * 5)
    assert isinstance(refusal_of_submit(provider), errors.RateLimited)
    assert len(kie.creations) == 3


@pytest.mark.parametrize(
    ("behaviour", "kind"),
    [
        (Hangup(), errors.ProviderDown),
        (Reply(body=b"{"), errors.ProviderDown),
        (Reply(status=502, body=b"<html>"), errors.ProviderDown),
        (Reply(status=504, body=b"<html>"), errors.ProviderTimeout),
        (success({}), errors.ProviderDown),
        (Reply(status=302, headers={"Location": "/elsewhere"}), errors.ProviderMisconfigured),
    ],
    ids=["dropped", "broken JSON", "bad gateway", "gateway time-out", "no id", "moved"],
)
def test_a_creation_without_an_answer_is_never_repeated(
    kie: FakeKie,
    provider: KieProvider,
    behaviour: Hangup | Reply,
    kind: type[errors.GenerationError],
) -> None:
    kie.replies.append(behaviour)
    assert type(refusal_of_submit(provider)) is kind
    assert len(kie.creations) == 1


def test_a_silent_creation_is_a_time_out_and_never_repeated(
    kie: FakeKie, hasty: KieProvider
) -> None:
    kie.replies.append(Silence())
    refused = refusal_of_submit(hasty)
    assert isinstance(refused, errors.ProviderTimeout)
    assert refused.status == 504
    assert len(kie.creations) == 1


@pytest.mark.parametrize(
    "trouble",
    [Hangup(), Reply(body=b"{"), Reply(status=502), error(500), error(455), error(429)],
    ids=["dropped", "broken JSON", "bad gateway", "500", "455", "429"],
)
def test_a_task_goes_on_while_its_state_cannot_be_had(
    kie: FakeKie, provider: KieProvider, trouble: Hangup | Reply
) -> None:
    task = provider.submit(A_CAT)
    kie.replies.append(trouble)
    assert collect(provider, task).items
    assert len(kie.creations) == 1


def test_trouble_that_stays_is_reported_when_the_time_is_up(
    kie: FakeKie, hasty: KieProvider
) -> None:
    task = hasty.submit(A_CAT)
    kie.replies.extend([error(455, "Maintenance.")] * 1000)
    with pytest.raises(errors.ProviderDown, match="Maintenance"):
        collect(hasty, task)


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        (401, errors.AuthenticationRefused),
        (402, errors.NoCredit),
        (422, errors.BadParameters),
        (433, errors.NoCredit),
        (501, errors.GenerationError),
        (505, errors.ProviderMisconfigured),
    ],
)
def test_a_look_that_is_refused_for_good_ends_the_wait(
    kie: FakeKie, provider: KieProvider, code: int, kind: type[errors.GenerationError]
) -> None:
    task = provider.submit(A_CAT)
    kie.replies.append(error(code))
    with pytest.raises(errors.GenerationError) as caught:
        collect(provider, task)
    assert type(caught.value) is kind


def test_the_state_counts_for_more_than_the_code(kie: FakeKie, provider: KieProvider) -> None:
    task = provider.submit(A_CAT)
    result = json.dumps({"resultUrls": ["https://images.example/1.png"]})
    data = {"taskId": task.task_id, "state": "success", "resultJson": result}
    kie.replies.append(Reply.json({"code": 501, "msg": "?", "data": data}))
    assert collect(provider, task).items == (ResultUrl("https://images.example/1.png"),)


@pytest.mark.parametrize(
    ("code", "message", "kind"),
    [
        ("422", "Bad ratio", errors.BadParameters),
        ("500", "Internal error", errors.ProviderDown),
        ("501", "Generation failed", errors.GenerationError),
        ("400", "Your prompt may contain sensitive words", errors.ModerationRefused),
        ("500", "The output violates the content policy", errors.ModerationRefused),
        ("", "", errors.GenerationError),
        (None, None, errors.GenerationError),
    ],
)
def test_a_task_that_fails_says_why(
    kie: FakeKie,
    provider: KieProvider,
    code: str | None,
    message: str | None,
    kind: type[errors.GenerationError],
) -> None:
    kie.states = ["fail"]
    kie.record = {"failCode": code, "failMsg": message}
    [item] = collect(provider, provider.submit(A_CAT)).items
    assert type(item) is kind
    assert (message or "no reason") in item.detail


@pytest.mark.parametrize(
    "result", ["", None, "{", "[]", "{}", '{"resultUrls": []}', '{"resultUrls": "x"}', 5]
)
def test_a_success_without_readable_result_is_a_failure(
    kie: FakeKie, provider: KieProvider, result: object
) -> None:
    kie.states = ["success"]
    kie.record = {"resultJson": result}
    [item] = collect(provider, provider.submit(A_CAT)).items
    assert isinstance(item, errors.GenerationError)


def test_a_key_that_is_quoted_back_is_hidden(kie: FakeKie) -> None:
    kie.api_key = "another"
    refused = refusal_of_submit(KieProvider(api_key=API_KEY, base_url=kie.url))
    assert isinstance(refused, errors.AuthenticationRefused)
    assert "[key]" in refused.detail


def test_the_production_addresses_are_kies() -> None:
    provider = KieProvider(api_key=API_KEY)
    assert provider._client._base_url == "https://api.kie.ai"
    assert provider._uploads._base_url == "https://kieai.redpandaai.co"
