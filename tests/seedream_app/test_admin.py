"""Generations in the admin site."""

import pytest
from django.contrib.auth.models import User
from django.test import Client
from django.urls import reverse

from seedream_app import services
from seedream_app.errors import GenerationError
from seedream_app.models import GeneratedImage, GenerationJob
from tests.seedream_app.conftest import API_KEY, Configure
from tests.seedream_app.fakes.ark import FakeArk, error
from tests.seedream_app.fakes.node import FakeNode

LISTS = ("generationjob", "generatedimage")


@pytest.fixture
def browser(client: Client) -> Client:
    client.force_login(User.objects.create_superuser("ada"))
    return client


@pytest.fixture
def generated(node: FakeNode, configure: Configure) -> GenerationJob:
    return services.generation_run(prompt="<b>a quiet harbour</b>", references={})


@pytest.fixture
def failed(node: FakeNode, ark: FakeArk, configure: Configure) -> GenerationJob:
    configure(seedream_api_key=API_KEY, seedream_base_url=ark.base_url)
    ark.replies.append(error(400, "InputTextSensitiveContentDetected", "Not that."))
    with pytest.raises(GenerationError):
        services.generation_run(prompt="something bad", references={})
    return GenerationJob.objects.get(prompt="something bad")


@pytest.mark.parametrize("name", LISTS)
def test_the_lists_show_prompt_and_thumbnail(
    browser: Client, generated: GenerationJob, name: str
) -> None:
    page = browser.get(reverse(f"admin:seedream_app_{name}_changelist")).content.decode()
    image = generated.images.get()
    assert "&lt;b&gt;a quiet harbour&lt;/b&gt;" in page
    assert reverse("thumbnail", args=(image.file.blob.hash,)) in page


@pytest.mark.parametrize("name", LISTS)
def test_the_lists_are_searched_by_prompt(
    browser: Client, generated: GenerationJob, name: str
) -> None:
    address = reverse(f"admin:seedream_app_{name}_changelist")
    assert "quiet harbour" in browser.get(address, {"q": "harbour"}).content.decode()
    assert "quiet harbour" not in browser.get(address, {"q": "mountain"}).content.decode()


def test_a_job_is_found_by_its_id(browser: Client, generated: GenerationJob) -> None:
    address = reverse("admin:seedream_app_generationjob_changelist")
    page = browser.get(address, {"q": str(generated.pk)}).content.decode()
    assert "quiet harbour" in page


def test_a_failure_is_shown_with_its_reason(browser: Client, failed: GenerationJob) -> None:
    address = reverse("admin:seedream_app_generationjob_change", args=(failed.pk,))
    page = browser.get(address).content.decode()
    assert "InputTextSensitiveContentDetected: Not that." in page
    assert API_KEY not in page


def test_the_pages_of_one_are_for_reading(browser: Client, generated: GenerationJob) -> None:
    image = GeneratedImage.objects.get()
    for name, key in zip(LISTS, (generated.pk, image.pk), strict=True):
        address = reverse(f"admin:seedream_app_{name}_change", args=(key,))
        assert "quiet harbour" in browser.get(address).content.decode()
        assert browser.post(address, {}).status_code == 403
        assert browser.get(reverse(f"admin:seedream_app_{name}_add")).status_code == 403


@pytest.mark.parametrize("name", LISTS)
def test_a_list_asks_the_database_as_often_for_many_as_for_one(
    browser: Client,
    node: FakeNode,
    configure: Configure,
    name: str,
    django_assert_max_num_queries: pytest.FixtureRequest,
) -> None:
    for number in range(6):
        services.generation_run(prompt=f"cat {number}", size="64x64", references={})
    with django_assert_max_num_queries(16):  # type: ignore[operator]
        browser.get(reverse(f"admin:seedream_app_{name}_changelist"))
