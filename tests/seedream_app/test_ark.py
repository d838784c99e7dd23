"""The official provider: what is sent, and what becomes of each of its errors."""

import time

import pytest

from seedream_app import errors
from seedream_app.images import ALL_FORMATS, check_image
from seedream_app.providers import ark as ark_module
from seedream_app.providers.ark import ArkProvider
from seedream_app.providers.base import GenerationRequest, ResultUrl
from tests.seedream_app.conftest import API_KEY
from tests.seedream_app.fakes.ark import FakeArk, error
from tests.seedream_app.fakes.pictures import picture
from tests.seedream_app.fakes.server import Drip, FakeServer, Hangup, Reply, Silence

A_CAT = GenerationRequest(prompt="a cat")


@pytest.fixture
def provider(ark: FakeArk) -> ArkProvider:
    return ArkProvider(api_key=API_KEY, base_url=ark.base_url)


def refusal(provider: ArkProvider) -> errors.GenerationError:
    with pytest.raises(errors.GenerationError) as caught:
        provider.submit(A_CAT)
    assert API_KEY not in f"{caught.value!r} {caught.value.body()}"
    return caught.value


def test_a_request_says_everything_that_has_a_default_elsewhere(
    ark: FakeArk, provider: ArkProvider
) -> None:
    provider.submit(A_CAT)
    assert ark.generations[0].json == {
        "model": "seedream-4-0-250828",
        "prompt": "a cat",
        "size": "2K",
        "sequential_image_generation": "disabled",
        "stream": False,
        "response_format": "url",
        "watermark": False,
    }


def test_one_reference_is_a_string_and_several_are_a_list(
    ark: FakeArk, provider: ArkProvider
) -> None:
    kinds = ("PNG", "JPEG", "WEBP", "BMP", "TIFF", "GIF")
    images = tuple(check_image(picture(kind=kind), formats=ALL_FORMATS) for kind in kinds)
    provider.submit(GenerationRequest(prompt="a cat", references=images[:1]))
    provider.submit(GenerationRequest(prompt="a cat", references=images))
    first, second = (request.json["image"] for request in ark.generations)
    assert first.startswith("data:image/png;base64,")
    assert [uri.split(";")[0] for uri in second] == [f"data:image/{kind.lower()}" for kind in kinds]


def test_several_images_are_asked_for_as_a_sequence(ark: FakeArk, provider: ArkProvider) -> None:
    outcome = provider.submit(GenerationRequest(prompt="a cat", max_images=3))
    body = ark.generations[0].json
    assert body["sequential_image_generation"] == "auto"
    assert body["sequential_image_generation_options"] == {"max_images": 3}
    assert len(outcome.items) == 3


@pytest.mark.parametrize(
    ("base_url", "model"),
    [
        ("https://ark.ap-southeast.bytepluses.com/api/v3", "seedream-4-0-250828"),
        ("https://ark.eu-west.bytepluses.com/api/v3", "seedream-4-0-250828"),
        ("https://ark.cn-beijing.volces.com/api/v3", "doubao-seedream-4-0-250828"),
    ],
)
def test_the_default_model_belongs_to_the_region(base_url: str, model: str) -> None:
    assert ArkProvider(api_key=API_KEY, base_url=base_url).model_for(A_CAT) == model


@pytest.mark.parametrize(
    ("model", "size"),
    [
        ("seedream-4-0-250828", "1K"),
        ("seedream-4-0-250828", "4K"),
        ("seedream-4-0-250828", "1280x720"),
        ("seedream-4-0-250828", "4096x4096"),
        ("doubao-seedream-4-0-250828", "1K"),
        ("seedream-4-5-251128", "2K"),
        ("seedream-4-5-251128", "2560x1440"),
        ("seedream-5-0-260128", "3K"),
        ("ep-20250101-abcde", "3K"),
        ("ep-20250101-abcde", "1K"),
    ],
)
def test_a_size_of_the_model_passes(model: str, size: str) -> None:
    ArkProvider(api_key=API_KEY, model=model).check(GenerationRequest(prompt="a cat", size=size))


@pytest.mark.parametrize(
    ("model", "size"),
    [
        ("seedream-4-0-250828", "3K"),
        ("seedream-4-0-250828", "1279x720"),
        ("seedream-4-0-250828", "4097x4096"),
        ("seedream-4-0-250828", "8192x500"),
        ("seedream-4-0-250828", "2k"),
        ("seedream-4-0-250828", "landscape_16_9"),
        ("seedream-4-5-251128", "1K"),
        ("seedream-4-5-251128", "1280x720"),
        ("doubao-seedream-4-5-251128", "1K"),
        ("seedream-5-0-260128", "1K"),
        ("seedream-5-0-260128", "2048x2048"),
    ],
)
def test_a_size_that_the_model_does_not_take_is_refused(model: str, size: str) -> None:
    with pytest.raises(errors.InvalidGenerationRequest, match=model):
        ArkProvider(api_key=API_KEY, model=model).check(
            GenerationRequest(prompt="a cat", size=size)
        )


REFUSALS = [
    (400, "InvalidParameter", errors.BadParameters),
    (400, "InvalidParameter.ImageSize", errors.BadParameters),
    (400, "MissingParameter", errors.BadParameters),
    (400, "InputTextSensitiveContentDetected", errors.ModerationRefused),
    (400, "InputTextSensitiveContentDetected.PolicyViolation", errors.ModerationRefused),
    (400, "InputImageSensitiveContentDetected", errors.ModerationRefused),
    (400, "InputImageSensitiveContentDetected.PrivacyInformation", errors.ModerationRefused),
    (400, "OutputImageSensitiveContentDetected", errors.ModerationRefused),
    (400, "OutputImageSensitiveContentDetected.Suffix", errors.ModerationRefused),
    (401, "AuthenticationError", errors.AuthenticationRefused),
    (403, "AccountOverdueError", errors.NoCredit),
    (403, "AccessDenied", errors.AuthenticationRefused),
    (404, "InvalidEndpointOrModel.NotFound", errors.ProviderMisconfigured),
    (404, "ModelNotOpen", errors.ProviderMisconfigured),
    (429, "QuotaExceeded", errors.NoCredit),
    (429, "SetLimitExceeded", errors.NoCredit),
    (429, "ServerOverloaded", errors.ProviderDown),
    (429, "SomethingElse", errors.RateLimited),
    (500, "InternalServiceError", errors.ProviderDown),
    (400, "NeverHeardOf", errors.BadParameters),
    (503, "NeverHeardOf", errors.ProviderDown),
]


@pytest.mark.parametrize(("status", "code", "kind"), REFUSALS)
def test_each_error_has_its_kind_and_is_asked_for_once(
    ark: FakeArk,
    provider: ArkProvider,
    status: int,
    code: str,
    kind: type[errors.GenerationError],
) -> None:
    ark.replies.append(error(status, code, "This is why."))
    refused = refusal(provider)
    assert type(refused) is kind
    assert refused.status == 502
    assert refused.provider_code == code
    assert "This is why." in refused.detail
    assert len(ark.generations) == 1


def test_the_six_failures_of_a_user_are_six_codes() -> None:
    six = {
        errors.ModerationRefused,
        errors.BadParameters,
        errors.NoCredit,
        errors.RateLimited,
        errors.ProviderDown,
        errors.ProviderTimeout,
    }
    assert len({kind.code for kind in six}) == len({kind.advice for kind in six}) == 6


def test_a_wrong_key_is_not_repeated_to_anybody(ark: FakeArk) -> None:
    ark.api_key = "another"
    refused = refusal(ArkProvider(api_key=API_KEY, base_url=ark.base_url))
    assert isinstance(refused, errors.AuthenticationRefused)
    assert "[key]" in refused.detail


def test_a_rate_limit_is_waited_out_as_long_as_the_provider_says(
    ark: FakeArk, provider: ArkProvider
) -> None:
    ark.replies.append(error(429, "ModelAccountIpmRateLimitExceeded", Retry_After="1"))
    assert provider.submit(A_CAT).items
    first, second = ark.generations
    assert 1.0 <= second.at - first.at < 3.0


def test_a_rate_limit_that_stays_is_given_up(ark: FakeArk, provider: ArkProvider) -> None:
    limited = error(429, "ModelAccountIpmRateLimitExceeded", Retry_After="0")
    ark.replies.extend([limited] * 5)
    assert isinstance(refusal(provider), errors.RateLimited)
    assert len(ark.generations) == 3


def test_a_wait_that_is_too_long_is_left_to_the_user(ark: FakeArk, provider: ArkProvider) -> None:
    ark.replies.append(error(429, "ModelAccountIpmRateLimitExceeded", Retry_After="3600"))
    assert isinstance(refusal(provider), errors.RateLimited)
    assert len(ark.generations) == 1


@pytest.mark.parametrize("value", ["Wed, 21 Oct 2015 07:28:00 GMT", "0"])
def test_retry_after_may_be_a_date(ark: FakeArk, provider: ArkProvider, value: str) -> None:
    ark.replies.append(error(429, "ModelAccountIpmRateLimitExceeded", Retry_After=value))
    assert provider.submit(A_CAT).items


@pytest.mark.parametrize("behaviour", [Silence(), Drip()], ids=["silence", "drip"])
def test_silence_is_a_time_out_and_never_asked_again(
    ark: FakeArk, behaviour: Silence | Drip
) -> None:
    ark.replies.append(behaviour)
    provider = ArkProvider(api_key=API_KEY, base_url=ark.base_url, read_seconds=0.3)
    started = time.monotonic()
    refused = refusal(provider)
    assert time.monotonic() - started < 5
    assert isinstance(refused, errors.ProviderTimeout)
    assert refused.status == 504
    assert len(ark.generations) == 1


def test_ark_may_take_five_minutes_by_default() -> None:
    assert ark_module.READ_SECONDS == 300


@pytest.mark.parametrize(
    "behaviour",
    [
        Hangup(),
        Reply(body=b'{"data": [{"url": "http'),
        Reply(body=b"<html>hello</html>"),
        Reply(body=b"[]"),
        Reply(status=502, body=b"<html>Bad Gateway</html>"),
        Reply(body=b'{"data": []}', says_length=5000),
    ],
    ids=["dropped", "broken JSON", "HTML", "a list", "a gateway's page", "cut off"],
)
def test_what_is_no_answer_means_that_the_provider_is_down(
    ark: FakeArk, provider: ArkProvider, behaviour: Hangup | Reply
) -> None:
    ark.replies.append(behaviour)
    refused = refusal(provider)
    assert type(refused) in {errors.ProviderDown, errors.GenerationError}
    assert refused.status == 502
    assert len(ark.generations) == 1


def test_a_refused_connection_means_that_the_provider_is_down(ark: FakeArk) -> None:
    ark.close()
    provider = ArkProvider(api_key=API_KEY, base_url=ark.base_url)
    assert isinstance(refusal(provider), errors.ProviderDown)


def test_a_redirect_does_not_take_the_key_along(
    ark: FakeArk, provider: ArkProvider, canary: FakeServer
) -> None:
    ark.replies.append(Reply(status=307, headers={"Location": f"{canary.url}/api/v3"}))
    assert isinstance(refusal(provider), errors.ProviderMisconfigured)


def test_an_answer_without_images_is_a_failure(ark: FakeArk, provider: ArkProvider) -> None:
    ark.items = []
    assert refusal(provider).code == "generation_failed"


def test_a_good_answer_can_hold_errors_per_image(ark: FakeArk, provider: ArkProvider) -> None:
    sensitive = {"code": "OutputImageSensitiveContentDetected", "message": "No."}
    ark.items = [
        {"url": "https://images.example/1.png", "size": "1x1"},
        {"error": sensitive},
        {"error": {"code": "NeverHeardOf", "message": "?"}},
        {},
        {"b64_json": "not base 64!"},
    ]
    first, *others = provider.submit(A_CAT).items
    assert first == ResultUrl("https://images.example/1.png")
    assert [type(item) for item in others] == [
        errors.ModerationRefused,
        errors.GenerationError,
        errors.GenerationError,
        errors.GenerationError,
    ]


def test_too_many_images_in_all_are_refused_before_sending(provider: ArkProvider) -> None:
    image = check_image(picture(), formats=ALL_FORMATS)
    crowd = GenerationRequest(prompt="a crowd", references=(image,) * 10, max_images=6)
    with pytest.raises(errors.InvalidGenerationRequest, match="15 in all"):
        provider.check(crowd)


def test_a_long_complaint_is_cut_and_put_on_one_line(ark: FakeArk, provider: ArkProvider) -> None:
    ark.replies.append(error(400, "InvalidParameter", "line\n\x1b[31m" + "x" * 5000))
    refused = refusal(provider)
    assert len(refused.detail) < 700
    assert refused.detail.isprintable()
