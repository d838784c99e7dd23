import json
import re
from typing import Any

import pytest
from playwright.sync_api import Page, Route, expect

from tests.browser.conftest import Master, Visit
from tests.browser.fake_node import FakeNode
from tests.browser.test_first_page import PICTURE

pytestmark = pytest.mark.browser

RESULT = {
    "job_id": "1",
    "status": "succeeded",
    "provider": "ark",
    "model": "seedream-4-0-250828",
    "images": [
        {
            "url": "http://127.0.0.1:8001/retrieve?hash=0cc175b9c0f1b6a831c399e269772661",
            "hash": "0cc175b9c0f1b6a831c399e269772661",
            "name": "lighthouse.png",
            "width": 2048,
            "height": 1152,
        }
    ],
}


class Provider:
    """Answers the form's request in the browser, so that each state of the form can be seen."""

    def __init__(self, page: Page) -> None:
        self.bodies: list[str] = []
        self.held: list[Route] = []
        page.route("**/seedream/generate", self._take)
        page.route(
            "**/thumbnails/*",
            lambda route: route.fulfill(body=PICTURE["buffer"], content_type="image/png"),
        )

    def _take(self, route: Route) -> None:
        self.bodies.append((route.request.post_data_buffer or b"").decode("latin-1"))
        self.held.append(route)

    def answer(self, page: Page, status: int, body: dict[str, Any]) -> None:
        while not self.held:
            page.wait_for_timeout(20)
        self.held.pop().fulfill(
            status=status, body=json.dumps(body), content_type="application/json"
        )


@pytest.fixture
def provider(visit: Visit, master: Master, node: FakeNode) -> Provider:
    provider = Provider(visit.page)
    visit.page.goto(master.url)
    return provider


def submit(page: Page, prompt: str) -> None:
    page.get_by_label("Prompt").fill(prompt)
    page.get_by_role("button", name="Generate").click()


def test_the_form_shows_the_wait_and_then_the_image(visit: Visit, provider: Provider) -> None:
    page = visit.page
    submit(page, "A lighthouse")
    button = page.locator("#generate [type=submit]")
    expect(button).to_have_text(re.compile(r"Generating… [1-9]\d* s"))
    button.click(force=True)
    provider.answer(page, 200, RESULT)
    expect(button).to_have_text("Generate")
    image = page.get_by_role("img", name="A lighthouse")
    expect(image).to_have_attribute("src", f"/thumbnails/{RESULT['images'][0]['hash']}")
    link = page.locator("#generated a")
    expect(link).to_have_attribute("href", RESULT["images"][0]["url"])
    expect(page.locator(".generated-size")).to_have_text("2048 × 1152")
    expect(page.locator("#generate-notice")).to_be_hidden()
    assert len(provider.bodies) == 1


def test_reference_images_are_previewed_sent_and_can_be_taken_back(
    visit: Visit, provider: Provider
) -> None:
    page = visit.page
    page.locator("#image1").set_input_files(PICTURE)
    page.locator("#image2").set_input_files({**PICTURE, "name": "second.png"})
    expect(page.get_by_role("img", name="Preview of reference.png")).to_be_visible()
    page.get_by_role("button", name="Remove reference image 2").click()
    expect(page.get_by_role("img", name="Preview of second.png")).to_be_hidden()
    submit(page, "The same in winter")
    provider.answer(page, 200, RESULT)
    expect(page.locator("#generated li")).to_have_count(1)
    assert 'name="image1"; filename="reference.png"' in provider.bodies[0]
    assert 'name="image2"' not in provider.bodies[0]
    assert "The same in winter" in provider.bodies[0]


def test_a_placeholder_is_called_one(visit: Visit, provider: Provider) -> None:
    submit(visit.page, "A lighthouse")
    provider.answer(visit.page, 200, {**RESULT, "provider": "placeholder"})
    expect(visit.page.locator("#generate-notice")).to_have_text(
        "No API key is set, so a placeholder drew this. "
        "Set MINI_DROPBOX_SEEDREAM_API_KEY for real images."
    )


def test_a_refusal_is_shown_as_its_sentence(visit: Visit, provider: Provider) -> None:
    visit.failures_expected = True
    submit(visit.page, "Something")
    sentence = "The provider refused the prompt: it may contain sensitive content."
    provider.answer(visit.page, 502, {"detail": sentence, "code": "moderation"})
    expect(visit.page.locator("#generate-error")).to_have_text(sentence)
    expect(visit.page.locator("#generate [type=submit]")).to_have_text("Generate")
    submit(visit.page, "Something else")
    expect(visit.page.locator("#generate-error")).to_be_hidden()
    provider.answer(visit.page, 200, RESULT)
    expect(visit.page.locator("#generated li")).to_have_count(1)


def test_images_that_are_missing_are_explained_beside_those_that_came(
    visit: Visit, provider: Provider
) -> None:
    submit(visit.page, "Two lighthouses")
    missing = {"detail": "One image was refused as sensitive.", "code": "moderation"}
    provider.answer(visit.page, 200, {**RESULT, "errors": [missing]})
    expect(visit.page.locator("#generated li")).to_have_count(1)
    expect(visit.page.locator("#generate-error")).to_have_text(missing["detail"])


def test_an_empty_prompt_is_asked_for_without_a_request(visit: Visit, provider: Provider) -> None:
    submit(visit.page, "   ")
    expect(visit.page.locator("#generate-error")).to_contain_text("Say in a few words")
    expect(visit.page.get_by_label("Prompt")).to_be_focused()
    assert provider.bodies == []


def test_a_link_that_would_run_code_is_left_out(visit: Visit, provider: Provider) -> None:
    submit(visit.page, "A lighthouse")
    image = {**RESULT["images"][0], "url": "javascript:window.ran=1"}
    provider.answer(visit.page, 200, {**RESULT, "images": [image]})
    expect(visit.page.locator("#generated li")).to_have_count(1)
    assert visit.page.locator("#generated a").get_attribute("href") is None
