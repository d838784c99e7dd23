"""Files over the form's limit, sent by tus-js-client: from the first page, and by hand."""

import hashlib
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, CDPSession, Page, Route, expect

from tests.browser.conftest import Visit, visiting
from tests.browser.test_uploads import state, upload_row
from tests.conftest import StartCluster
from tests.support.cluster import Cluster, Server
from tests.support.waiting import eventually

pytestmark = [pytest.mark.browser, pytest.mark.cluster]

MIB = 1024 * 1024
PATIENCE_MILLISECONDS = 60_000


# Tests with a cluster of their own ask for it first: the page closes before the master ends.
@pytest.fixture
def visit(browser: Browser) -> Iterator[Visit]:
    """Open a page without a master of its own."""
    with visiting(browser) as visit:
        visit.page.set_default_timeout(PATIENCE_MILLISECONDS)
        yield visit


def large_file(folder: Path, name: str, size: int) -> tuple[Path, bytes]:
    path = folder / name
    content = random.Random(name).randbytes(size)
    path.write_bytes(content)
    return path, content


def md5(content: bytes) -> str:
    return hashlib.md5(content, usedforsecurity=False).hexdigest()


def open_page(page: Page, cluster: Cluster) -> None:
    page.goto(cluster.master.url)
    expect(page.locator("#cluster [data-upload-url]")).to_have_count(len(cluster.nodes))


def slow_down(page: Page, bytes_a_second: int) -> CDPSession:
    """Let the page's uploads take long enough to be interrupted."""
    devtools = page.context.new_cdp_session(page)
    devtools.send("Network.enable")
    set_speed(devtools, bytes_a_second)
    return devtools


def set_speed(devtools: CDPSession, bytes_a_second: int) -> None:
    conditions = {"latency": 0, "downloadThroughput": -1, "uploadThroughput": bytes_a_second}
    devtools.send("Network.emulateNetworkConditions", {"offline": False, **conditions})


def unfinished(cluster: Cluster) -> dict[str, int]:
    """Return how much of each upload is on a node's disk, by the path on the disk."""
    paths = cluster.data_dir.glob("node_*/uploads/*")
    return {str(path): path.stat().st_size for path in paths}


def assert_everywhere(cluster: Cluster, content: bytes) -> None:
    assert len(cluster.blob_paths(md5(content))) == 2
    for node in cluster.nodes:
        assert node.retrieve(md5(content), timeout=60).content == content
    assert unfinished(cluster) == {}


def node_of(cluster: Cluster) -> Server:
    """Return the node that has the one unfinished upload."""
    (path,) = unfinished(cluster)
    return next(node for node in cluster.nodes if f"node_{node.node_id}/" in path)


def test_a_large_file_dropped_on_the_first_page_just_works(
    visit: Visit, cluster: Cluster, tmp_path: Path
) -> None:
    page = visit.page
    path, content = large_file(tmp_path, "film.mp4", 100 * MIB)
    open_page(page, cluster)

    page.locator("#file-input").set_input_files(path)

    row = upload_row(page, "film.mp4")
    nodes = ", ".join(sorted(node.node_id for node in cluster.nodes))
    expect(state(row)).to_have_text(f"2 copies on {nodes}", timeout=PATIENCE_MILLISECONDS)
    link = page.locator('a.file-name[title="film.mp4"]')
    expect(link).to_be_visible()
    with page.expect_download() as download:
        row.get_by_role("link", name="Download film.mp4").click()
    assert download.value.path().read_bytes() == content
    assert_everywhere(cluster, content)
    assert page.evaluate("localStorage.length") == 0


def test_a_killed_node_only_interrupts_the_upload(
    start_cluster: StartCluster, visit: Visit, tmp_path: Path
) -> None:
    visit.failures_expected = True
    cluster = start_cluster()
    page = visit.page
    path, content = large_file(tmp_path, "interrupted.bin", 60 * MIB)
    open_page(page, cluster)
    devtools = slow_down(page, 12 * MIB)

    page.locator("#file-input").set_input_files(path)
    eventually(lambda: max(unfinished(cluster).values(), default=0) > 20 * MIB, 30)
    node = node_of(cluster)
    worker = cluster.worker(node)
    # Without the arbiter the port is closed as well, until the supervisor starts the node again.
    cluster.arbiter(node).kill()
    worker.kill()

    row = upload_row(page, "interrupted.bin")
    expect(state(row)).to_contain_text("Interrupted at ")
    eventually(lambda: cluster.has_new_worker(node, worker), 20)
    set_speed(devtools, -1)
    expect(state(row)).to_contain_text("2 copies on", timeout=PATIENCE_MILLISECONDS)
    assert_everywhere(cluster, content)


def test_an_upload_goes_on_after_the_page_was_closed(
    visit: Visit, cluster: Cluster, tmp_path: Path
) -> None:
    visit.failures_expected = True
    page = visit.page
    path, content = large_file(tmp_path, "closed.bin", 40 * MIB)
    open_page(page, cluster)
    devtools = slow_down(page, 12 * MIB)
    page.locator("#file-input").set_input_files(path)
    eventually(lambda: max(unfinished(cluster).values(), default=0) > 20 * MIB, 30)
    page.once("dialog", lambda dialog: dialog.accept())
    open_page(page, cluster)
    (begun,) = unfinished(cluster)
    set_speed(devtools, -1)

    with page.expect_request(f"**/uploads/{Path(begun).name}") as request:
        page.locator("#file-input").set_input_files(path)

    assert request.value.method in {"HEAD", "OPTIONS"}
    expect(state(upload_row(page, "closed.bin"))).to_contain_text(
        "2 copies on", timeout=PATIENCE_MILLISECONDS
    )
    assert_everywhere(cluster, content)


def test_a_cancelled_upload_leaves_nothing(visit: Visit, cluster: Cluster, tmp_path: Path) -> None:
    visit.failures_expected = True
    page = visit.page
    path, content = large_file(tmp_path, "cancelled.bin", 40 * MIB)
    open_page(page, cluster)
    slow_down(page, 8 * MIB)
    page.locator("#file-input").set_input_files(path)
    eventually(lambda: max(unfinished(cluster).values(), default=0) > 4 * MIB, 30)

    row = upload_row(page, "cancelled.bin")
    row.get_by_role("button", name="Cancel cancelled.bin").click()

    expect(state(row)).to_have_text("Cancelled")
    eventually(lambda: unfinished(cluster) == {}, what="the node has forgotten it")
    assert cluster.blob_paths(md5(content)) == []


def test_a_refusal_shows_the_sentence_of_the_node(
    start_cluster: StartCluster, visit: Visit, tmp_path: Path
) -> None:
    visit.failures_expected = True
    limit = 12 * MIB
    cluster = start_cluster(MAX_FILE_BYTES=str(limit))
    page = visit.page
    path, _ = large_file(tmp_path, "large.bin", 13 * MIB)
    row = upload_row(page, "large.bin")
    open_page(page, cluster)

    page.locator("#file-input").set_input_files(path)

    expect(state(row)).to_have_text("Too large: it has 13 MB, and one file may have 12 MB.")

    def with_old_limit(route: Route) -> None:
        response = route.fetch()
        body = response.text().replace(f'"{limit}"', f'"{2 * limit}"')
        route.fulfill(response=response, body=body)

    # A page that was opened before the limit was lowered learns of it from the node.
    page.route(f"{cluster.master.url}/", with_old_limit)
    page.context.grant_permissions(["local-network-access"], origin=cluster.master.url)
    open_page(page, cluster)
    page.locator("#file-input").set_input_files(path)
    expect(state(row)).to_have_text(f"The file is over the limit of {limit} bytes.")


def test_the_page_sends_large_files_under_a_strict_content_security_policy(
    visit: Visit, cluster: Cluster, tmp_path: Path
) -> None:
    page = visit.page
    nodes = " ".join(node.url for node in cluster.nodes)
    policy = (
        "default-src 'self'; img-src 'self' data:; object-src 'none'; base-uri 'none'; "
        f"form-action 'self'; frame-ancestors 'none'; connect-src 'self' {nodes}"
    )

    def with_policy(route: Route) -> None:
        response = route.fetch()
        headers = {**response.headers, "content-security-policy": policy}
        route.fulfill(response=response, headers=headers)

    page.route(f"{cluster.master.url}/", with_policy)
    page.context.grant_permissions(["local-network-access"], origin=cluster.master.url)
    path, content = large_file(tmp_path, "strict.bin", 12 * MIB)
    open_page(page, cluster)

    page.locator("#file-input").set_input_files(path)

    expect(state(upload_row(page, "strict.bin"))).to_contain_text("2 copies on")
    assert_everywhere(cluster, content)


@pytest.mark.parametrize(
    "options",
    [
        {"parallelUploads": 3},
        {"parallelUploads": 3, "chunkSize": 2 * MIB},
        {"chunkSize": MIB},
        {"uploadDataDuringCreation": True},
        {"overridePatchMethod": True, "chunkSize": 5 * MIB},
        {"uploadLengthDeferred": True, "chunkSize": 3 * MIB},
    ],
    ids=["parallel", "parallel pieces", "pieces", "at once", "by POST", "length told later"],
)
def test_what_tus_js_client_can_do(visit: Visit, cluster: Cluster, options: dict[str, Any]) -> None:
    page = visit.page
    open_page(page, cluster)
    seed = "".join(options)

    answer = send_by_hand(page, cluster.nodes[1], seed, options)

    content = (seed * 1_000_000).encode()[: 11 * MIB]
    assert answer == {"hash": md5(content), "status": answer["status"]}
    assert cluster.nodes[0].retrieve(md5(content)).content == content


def send_by_hand(page: Page, node: Server, seed: str, options: dict[str, Any]) -> dict[str, Any]:
    """Send a text with tus-js-client alone; return the hash that the node told, and the status."""
    return dict(
        page.evaluate(
            """([endpoint, seed, options]) => new Promise((resolve) => {
                const text = seed.repeat(1_000_000).slice(0, 11 * 1024 * 1024);
                let hash = null;
                const end = (response) => resolve({ hash, status: response?.getStatus() ?? 0 });
                const upload = new tus.Upload(new Blob([text]), {
                    endpoint,
                    retryDelays: null,
                    onAfterResponse: (request, response) => {
                        hash = response.getHeader("X-Blob-Hash") ?? hash;
                    },
                    onSuccess: ({ lastResponse }) => end(lastResponse),
                    onError: (error) => end(error.originalResponse),
                    ...options,
                });
                upload.start();
            })""",
            [f"{node.url}/uploads/", seed, options],
        )
    )
