import hashlib
from collections.abc import Iterator
from urllib.parse import urlsplit

import pytest
import requests
from playwright.sync_api import Browser, expect

from tests.browser.conftest import Visit, visiting
from tests.browser.test_uploads import choose, payload, state, upload_row
from tests.support.cluster import Cluster

pytestmark = [pytest.mark.browser, pytest.mark.cluster]


@pytest.fixture
def visit(browser: Browser) -> Iterator[Visit]:
    """Open a page without a master of its own."""
    with visiting(browser) as visit:
        yield visit


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_an_upload_ends_with_two_copies_and_a_link_that_serves_it(
    visit: Visit, cluster: Cluster, host: str
) -> None:
    page = visit.page
    nodes = sorted(node.node_id for node in cluster.nodes)
    content = f"uploaded from {host}".encode()
    page.goto(f"http://{host}:{cluster.master.port}")
    expect(page.locator("h1")).to_have_text("All 2 nodes are healthy.")
    choose(page, payload(f"{host}.txt", content))
    row = upload_row(page, f"{host}.txt")
    expect(state(row)).to_have_text(f"2 copies on {', '.join(nodes)}")
    link = page.locator(f'a.file-name[title="{host}.txt"]').get_attribute("href")
    assert link
    with page.expect_download() as download:
        row.get_by_role("link", name=f"Download {host}.txt").click()
    assert download.value.path().read_bytes() == content
    assert requests.get(link, timeout=10).content == content
    asked = {urlsplit(origin).port for origin in visit.origins}
    assert asked <= {cluster.master.port, *(node.port for node in cluster.nodes)}


def test_bytes_that_are_there_already_are_not_stored_twice(visit: Visit, cluster: Cluster) -> None:
    content = b"the same bytes"
    cluster.nodes[0].upload(content, "first.txt")
    visit.page.goto(cluster.master.url)
    choose(visit.page, payload("second.txt", content))
    sentence = "The same bytes were already here."
    expect(state(upload_row(visit.page, "second.txt"))).to_contain_text(sentence)
    expect(visit.page.locator(".file-name", has_text="first.txt")).to_be_visible()
    assert len(cluster.blob_paths(hashlib.md5(content).hexdigest())) == 2


def test_without_a_key_the_placeholder_draws_and_the_image_is_a_file(
    visit: Visit, cluster: Cluster
) -> None:
    page = visit.page
    page.goto(cluster.master.url)
    page.get_by_label("Prompt").fill("A lighthouse on a calm sea at dawn")
    page.get_by_role("button", name="Generate").click()
    picture = page.get_by_role("img", name="A lighthouse on a calm sea at dawn")
    expect(picture).to_be_visible(timeout=30_000)
    page.wait_for_function("image => image.naturalWidth > 0", arg=picture.element_handle())
    expect(page.locator("#generate-notice")).to_contain_text("a placeholder drew this")
    link = page.locator("#generated a").get_attribute("href")
    assert link
    assert requests.get(link, timeout=10).headers["Content-Type"].startswith("image/")
    expect(page.locator(".file-picture img").first).to_be_visible()
