"""A download that travels compressed, in a real browser."""

import hashlib

import pytest
from playwright.sync_api import Browser

from tests.browser.conftest import visiting
from tests.conftest import StartCluster
from tests.support.waiting import eventually

pytestmark = [pytest.mark.browser, pytest.mark.cluster]

# Compression goes after everybody else, and a machine that runs tests has much to do.
PATIENCE = 60.0
# Several frames, the last of them short.
CONTENT = b"".join(b"line %d of a text for a browser\n" % number for number in range(50_000))

FETCH_AND_HASH = """async url => {
    const answer = await fetch(url);
    const body = await answer.arrayBuffer();
    const digest = new Uint8Array(await crypto.subtle.digest("SHA-256", body));
    return [body.byteLength, [...digest].map(b => b.toString(16).padStart(2, "0")).join("")];
}"""


def test_the_browser_takes_the_stored_frames_and_has_the_same_bytes(
    browser: Browser, start_cluster: StartCluster
) -> None:
    cluster = start_cluster(COMPRESS_AFTER_SECONDS="0")
    node = cluster.nodes[0]
    blob_hash = node.upload(CONTENT, "text.txt").json()["hash"]
    eventually(lambda: len(cluster.blob_paths(f"{blob_hash}.zst")) == 2, PATIENCE)
    url = f"{node.url}/retrieve?hash={blob_hash}"
    with visiting(browser) as visit:
        visit.page.goto(cluster.master.url)
        with visit.page.expect_response(url) as response:
            size, digest = visit.page.evaluate(FETCH_AND_HASH, url)

    assert response.value.headers["content-encoding"] == "zstd"
    assert int(response.value.headers["content-length"]) < len(CONTENT) / 5
    assert size == len(CONTENT)
    assert digest == hashlib.sha256(CONTENT).hexdigest()


def test_a_download_is_saved_as_it_was_uploaded(
    browser: Browser, start_cluster: StartCluster
) -> None:
    cluster = start_cluster(COMPRESS_AFTER_SECONDS="0")
    blob_hash = cluster.nodes[0].upload(CONTENT, "text.txt").json()["hash"]
    eventually(lambda: len(cluster.blob_paths(f"{blob_hash}.zst")) == 2, PATIENCE)
    with visiting(browser) as visit:
        visit.page.goto(cluster.master.url)
        with visit.page.expect_download() as download:
            visit.page.get_by_title("text.txt").first.click()

        assert download.value.suggested_filename == "text.txt"
        assert download.value.path().read_bytes() == CONTENT
