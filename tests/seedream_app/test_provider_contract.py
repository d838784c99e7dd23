"""What every provider promises, checked on all three over the same tests."""

from dataclasses import dataclass

import pytest
from django.utils import timezone

from seedream_app.errors import InvalidGenerationRequest, ProviderMisconfigured
from seedream_app.image_download import check_result, fetch_image
from seedream_app.images import ALL_FORMATS, CheckedImage, check_image
from seedream_app.providers.ark import ArkProvider
from seedream_app.providers.base import (
    GenerationRequest,
    Outcome,
    Provider,
    ResultBytes,
    ResultUrl,
    Task,
)
from seedream_app.providers.kie import KieProvider, PollTimes
from seedream_app.providers.placeholder import PlaceholderProvider
from tests.seedream_app.conftest import API_KEY
from tests.seedream_app.fakes.ark import FakeArk
from tests.seedream_app.fakes.kie import FakeKie
from tests.seedream_app.fakes.pictures import picture
from tests.seedream_app.fakes.server import FakeServer


@dataclass
class Subject:
    """A provider, and the server behind it where there is one."""

    provider: Provider
    server: FakeServer | None

    def generate(self, request: GenerationRequest) -> Outcome:
        self.provider.check(request)
        answer = self.provider.submit(request)
        if isinstance(answer, Task):
            return self.provider.collect(
                answer, submitted_at=timezone.now(), before_poll=lambda _seconds: None
            )
        return answer

    def images(self, outcome: Outcome) -> list[CheckedImage]:
        return [self._image(item) for item in outcome.items]

    def _image(self, item: object) -> CheckedImage:
        if isinstance(item, ResultBytes):
            return check_result(item.content)
        assert isinstance(item, ResultUrl)
        return fetch_image(item.url, trusted_origins=self.provider.trusted_origins)


@pytest.fixture(params=["ark", "ark with bytes", "kie", "placeholder"])
def subject(request: pytest.FixtureRequest) -> Subject:
    if request.param == "placeholder":
        return Subject(PlaceholderProvider(), None)
    if request.param == "kie":
        kie: FakeKie = request.getfixturevalue("kie")
        times = PollTimes(first=0.01, longest=0.02, total=30)
        provider = KieProvider(api_key=API_KEY, base_url=kie.url, poll_times=times)
        return Subject(provider, kie)
    ark: FakeArk = request.getfixturevalue("ark")
    ark.sends_bytes = request.param == "ark with bytes"
    return Subject(ArkProvider(api_key=API_KEY, base_url=ark.base_url), ark)


def reference(kind: str = "PNG") -> CheckedImage:
    return check_image(picture(200, 100, kind), formats=ALL_FORMATS)


def test_a_prompt_becomes_one_image(subject: Subject) -> None:
    [image] = subject.images(subject.generate(GenerationRequest(prompt="a harbour at dawn")))
    assert image.width > 0
    assert image.height > 0


@pytest.mark.parametrize("count", [1, 2])
def test_reference_images_are_taken(subject: Subject, count: int) -> None:
    references = (reference("PNG"), reference("JPEG"))[:count]
    outcome = subject.generate(GenerationRequest(prompt="in this style", references=references))
    assert len(subject.images(outcome)) == 1


def test_the_size_of_2k_is_known_to_all(subject: Subject) -> None:
    assert subject.generate(GenerationRequest(prompt="large", size="2K")).items


def test_an_unknown_size_is_refused_before_anybody_is_asked(subject: Subject) -> None:
    with pytest.raises(InvalidGenerationRequest, match="size"):
        subject.provider.check(GenerationRequest(prompt="large", size="enormous"))
    assert subject.server is None or subject.server.requests == []


def test_each_names_its_model(subject: Subject) -> None:
    assert subject.provider.model_for(GenerationRequest(prompt="a cat"))


@pytest.mark.parametrize("provider", [ArkProvider(api_key=API_KEY), PlaceholderProvider()])
def test_who_answers_at_once_keeps_no_tasks(provider: Provider) -> None:
    with pytest.raises(ProviderMisconfigured, match="keeps no tasks"):
        provider.collect(
            Task("task-of-kie"), submitted_at=timezone.now(), before_poll=lambda _seconds: None
        )


def test_the_key_goes_to_the_provider_and_not_to_the_images(subject: Subject) -> None:
    subject.images(subject.generate(GenerationRequest(prompt="a cat")))
    for sent in subject.server.requests if subject.server else []:
        is_image = sent.path.startswith("/result/")
        assert (API_KEY in str(sent.headers)) is not is_image
        assert API_KEY not in sent.target
