import re
from collections.abc import Callable
from pathlib import Path

import pytest
from playwright.sync_api import Route, expect

from tests.browser.conftest import Master, Visit
from tests.browser.fake_node import FakeNode, Upload
from tests.browser.test_uploads import choose, payload, state, upload_row

pytestmark = pytest.mark.browser

POOR_CONTRAST = Path(__file__).with_name("poor_contrast.js")


def store(node: FakeNode, *names: str) -> None:
    for name in names:
        upload = Upload(name, "text/plain", name.encode())
        node.uploads.append(upload)
        node.register(upload)


def test_the_search_filters_as_one_types_and_stays_through_refreshes(
    visit: Visit, master: Master, node: FakeNode
) -> None:
    page = visit.page
    store(node, "report.pdf", "holiday.mp3", "holiday.mp4")
    page.goto(master.url)
    expect(page.locator(".file")).to_have_count(3)
    page.keyboard.press("/")
    expect(page.locator("#file-search")).to_be_focused()
    page.keyboard.type("HOLI")
    expect(page.locator(".file")).to_have_count(2)
    choose(page, payload("other.txt"))
    expect(state(upload_row(page, "other.txt"))).to_have_text("1 copy on 8001")
    page.locator("#file-search").fill("other")
    expect(page.locator(".file-name")).to_have_text(["other.txt"])
    page.locator("#file-search").fill("nothing like it")
    expect(page.get_by_text("No file’s name contains “nothing like it”")).to_be_visible()
    page.locator("#file-search").fill("")
    expect(page.locator(".file")).to_have_count(4)


def test_a_file_that_another_client_stored_appears_by_itself_and_moves_nothing_else(
    visit: Visit, master: Master, node: FakeNode
) -> None:
    page = visit.page
    store(node, "first.txt")
    page.goto(master.url)
    link = page.locator("a.file-name", has_text="first.txt")
    link.focus()
    link.evaluate("element => { element.seen = true; }")
    store(node, "second.txt")
    expect(page.locator(".file-name")).to_have_text(["second.txt", "first.txt"])
    expect(link).to_be_focused()
    assert link.evaluate("element => element.seen") is True


def test_the_headline_follows_the_nodes(
    visit: Visit, master: Master, start_node: Callable[[str], FakeNode]
) -> None:
    page = visit.page
    page.goto(master.url)
    expect(page.locator("h1")).to_contain_text("No storage node is up: start one with")
    start_node("8001")
    second = start_node("8002")
    expect(page.locator("h1")).to_have_text("All 2 nodes are healthy.")
    second.stop_heartbeats()
    expect(page.locator("h1")).to_have_text(
        re.compile(r"Node 8002 has been silent for \d+ s; uploads go on with fewer copies\.")
    )
    expect(page.locator("#headline-announcement")).to_contain_text("Node 8002 has been silent")
    expect(page.locator("#node-8002 .state")).to_have_text(re.compile("suspect|down"))
    expect(page.locator("#node-8002")).not_to_have_attribute("data-upload-url", re.compile(""))


def test_a_master_that_does_not_answer_is_said_and_taken_back(
    visit: Visit, master: Master, node: FakeNode
) -> None:
    visit.failures_expected = True
    page = visit.page
    page.goto(master.url)
    expect(page.locator("#offline")).to_be_hidden()
    page.route("**/fragments/**", lambda route: route.fulfill(status=503, body="busy"))
    expect(page.locator("#offline")).to_be_visible()
    page.unroute("**/fragments/**")
    expect(page.locator("#offline")).to_be_hidden()


def test_link_and_hash_of_a_file_are_copied(visit: Visit, master: Master, node: FakeNode) -> None:
    page = visit.page
    page.context.grant_permissions(["clipboard-read", "clipboard-write"], origin=master.url)
    store(node, "report.pdf")
    page.goto(master.url)
    page.get_by_role("button", name="Copy the hash of report.pdf").click()
    expect(page.locator("#toast")).to_have_text("Hash copied")
    assert page.evaluate("navigator.clipboard.readText()") == node.uploads[0].hash
    page.get_by_role("button", name="Copy the link of report.pdf").click()
    expect(page.locator("#toast")).to_have_text("Link copied")
    assert page.evaluate("navigator.clipboard.readText()").startswith(f"{node.url}/retrieve?hash=")


def test_everything_can_be_reached_with_the_keyboard(
    visit: Visit, master: Master, node: FakeNode
) -> None:
    page = visit.page
    store(node, "report.pdf")
    page.goto(master.url)
    reached = []
    for _ in range(20):
        page.keyboard.press("Tab")
        reached.append(page.evaluate("document.activeElement.id"))
    wanted = ["file-input", "file-search", "node-link-8001", "prompt", "image1", "image2"]
    assert [element for element in reached if element in wanted] == wanted


def test_the_page_works_under_a_strict_content_security_policy(
    visit: Visit, master: Master, node: FakeNode
) -> None:
    page = visit.page
    policy = (
        "default-src 'self'; img-src 'self' data:; object-src 'none'; base-uri 'none'; "
        f"form-action 'self'; frame-ancestors 'none'; connect-src 'self' {node.url}"
    )

    def with_policy(route: Route) -> None:
        response = route.fetch()
        headers = {**response.headers, "content-security-policy": policy}
        route.fulfill(response=response, headers=headers)

    page.route(f"{master.url}/", with_policy)
    # A page that the test hands over has no address of its own, so its calls to loopback are
    # held for those of a stranger on the Internet.
    page.context.grant_permissions(["local-network-access"], origin=master.url)
    page.goto(master.url)
    choose(page, payload("a.txt"))
    expect(state(upload_row(page, "a.txt"))).to_have_text("1 copy on 8001")
    page.locator("#file-search").fill("a.t")
    expect(page.locator(".file")).to_have_count(1)
    picture = page.locator(".reference img").first
    page.locator("#image1").set_input_files(PICTURE)
    expect(picture).to_have_attribute("src", re.compile("^data:image/png"))
    page.wait_for_function("image => image.naturalWidth === 1", arg=picture.element_handle())


def test_the_page_fits_a_telephone(visit: Visit, master: Master, node: FakeNode) -> None:
    store(node, "a report whose name is far too long for such a narrow screen, version 3.pdf")
    visit.page.set_viewport_size({"width": 360, "height": 740})
    visit.page.goto(master.url)
    assert visit.page.evaluate("document.documentElement.scrollWidth") == 360


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_stands_out_from_its_background(
    visit: Visit, master: Master, node: FakeNode, scheme: str
) -> None:
    page = visit.page
    page.emulate_media(color_scheme="dark" if scheme == "dark" else "light")
    store(node, "a.txt", "b.pdf", "c.zip")
    page.goto(master.url)
    assert page.evaluate(POOR_CONTRAST.read_text()) == []


def test_a_picture_has_its_thumbnail_and_one_that_fails_has_an_icon_for_good(
    visit: Visit, master: Master, node: FakeNode
) -> None:
    visit.failures_expected = True
    page = visit.page
    for name, content in (("good.png", PICTURE["buffer"]), ("broken.png", b"no picture")):
        upload = Upload(name, "image/png", content)
        node.uploads.append(upload)
        node.register(upload)
    page.goto(master.url)
    with page.expect_response(f"{master.url}/fragments/files*"):
        expect(
            page.locator(".file", has_text="broken.png").locator(".file-picture svg")
        ).to_be_visible()
    good = page.locator(".file", has_text="good.png").locator(".file-picture img")
    page.wait_for_function("image => image.naturalWidth > 0", arg=good.element_handle())
    expect(page.locator(".file-picture img")).to_have_count(1)


def test_an_unknown_address_leads_back_to_the_first_page(visit: Visit, master: Master) -> None:
    visit.failures_expected = True
    visit.page.goto(f"{master.url}/nowhere")
    expect(visit.page.locator("h1")).to_have_text("There is nothing at this address.")
    visit.page.get_by_role("link", name="To the first page").click()
    expect(visit.page.locator("#upload-title")).to_be_attached()


PICTURE = {
    "name": "reference.png",
    "mimeType": "image/png",
    "buffer": bytes.fromhex(
        "89504e470d0a1a0a0000000d49484452000000010000000108060000001f15c489"
        "0000000d49444154789c6360f8cfc0f01f0005000201a2b5c5d10000000049454e44ae426082"
    ),
}
