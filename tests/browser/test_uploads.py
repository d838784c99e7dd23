import re
from collections.abc import Callable
from pathlib import Path

import pytest
from playwright.sync_api import FilePayload, Locator, Page, expect

from tests.browser.conftest import MAX_UPLOAD_BYTES, Master, Visit
from tests.browser.fake_node import FakeNode, Refusal

pytestmark = pytest.mark.browser

MIB = 1024 * 1024


def payload(name: str, content: bytes = b"content", mime: str = "text/plain") -> FilePayload:
    return {"name": name, "mimeType": mime, "buffer": content}


def choose(page: Page, *files: FilePayload) -> None:
    page.locator("#file-input").set_input_files(list(files))


def upload_row(page: Page, name: str) -> Locator:
    return page.locator(".upload").filter(has_text=name)


def state(row: Locator) -> Locator:
    return row.locator(".upload-state")


def test_a_chosen_file_shows_its_progress_and_ends_in_the_list(
    visit: Visit, master: Master, node: FakeNode
) -> None:
    page = visit.page
    page.goto(master.url)
    node.open_gate.clear()
    content = bytes(9 * MIB)
    choose(page, payload("holiday.bin", content))
    row = upload_row(page, "holiday.bin")
    expect(row.locator(".upload-size")).to_have_text("9 MB")
    expect(state(row)).to_have_text(re.compile(r"Uploading \d+ %"))
    share = row.locator("progress").evaluate("bar => bar.value")
    assert 0 <= share < 1
    node.open_gate.set()
    expect(state(row)).to_have_text("1 copy on 8001")
    expect(page.locator("#uploads-summary")).to_have_text("1 file uploaded")
    expect(page.locator("#files .file-name").first).to_have_attribute("title", "holiday.bin")
    assert node.uploads[0].content == content
    link = f"{node.url}/retrieve?hash={node.uploads[0].hash}&name=holiday.bin"
    expect(page.locator("#files a.file-name").first).to_have_attribute("href", link)
    assert visit.origins == {master.url, node.url}


def test_the_page_under_its_other_address_uploads_as_well(
    visit: Visit, master: Master, node: FakeNode
) -> None:
    visit.page.goto(master.origins[1])
    choose(visit.page, payload("a.txt"))
    expect(state(upload_row(visit.page, "a.txt"))).to_have_text("1 copy on 8001")


def test_several_files_go_at_the_same_time_but_at_most_three(
    visit: Visit, master: Master, node: FakeNode
) -> None:
    page = visit.page
    page.goto(master.url)
    node.open_gate.clear()
    choose(page, *(payload(f"{number}.txt", b"%d" % number) for number in range(5)))
    expect(page.locator(".upload[data-state=waiting]")).to_have_count(2)
    expect(page.locator("#uploads-summary")).to_have_text("Uploading 1 of 5")
    node.open_gate.set()
    expect(page.locator(".upload[data-state=done]")).to_have_count(5)
    assert node.most_at_once <= 3
    assert {upload.content for upload in node.uploads} == {b"0", b"1", b"2", b"3", b"4"}
    page.get_by_role("button", name="Clear finished").click()
    expect(page.locator("#uploads")).to_be_hidden()


def test_uploads_are_spread_over_the_nodes(
    visit: Visit, master: Master, start_node: Callable[[str], FakeNode]
) -> None:
    first, second = start_node("8001"), start_node("8002")
    visit.page.goto(master.url)
    choose(visit.page, *(payload(f"{number}.txt", b"%d" % number) for number in range(4)))
    expect(visit.page.locator(".upload[data-state=done]")).to_have_count(4)
    assert len(first.uploads) == len(second.uploads) == 2


def test_a_file_dropped_anywhere_on_the_page_is_uploaded(
    visit: Visit, master: Master, node: FakeNode
) -> None:
    page = visit.page
    page.goto(master.url)
    transfer = page.evaluate_handle(
        """() => {
            const transfer = new DataTransfer();
            transfer.items.add(new File(["dropped bytes"], "dropped.txt", {type: "text/plain"}));
            return transfer;
        }"""
    )
    page.dispatch_event("h1", "dragenter", {"dataTransfer": transfer})
    expect(page.locator("#drop-overlay")).to_be_visible()
    page.dispatch_event("h1", "drop", {"dataTransfer": transfer})
    expect(page.locator("#drop-overlay")).to_be_hidden()
    expect(state(upload_row(page, "dropped.txt"))).to_have_text("1 copy on 8001")
    assert node.uploads[0].content == b"dropped bytes"


def test_a_dropped_folder_brings_the_files_within_it(
    visit: Visit, master: Master, node: FakeNode, tmp_path: Path
) -> None:
    folder = tmp_path / "album"
    (folder / "inner").mkdir(parents=True)
    # A browser hands out a folder's entries a hundred at a time.
    for number in range(120):
        (folder / f"{number}.txt").write_text(str(number))
    (folder / "inner" / "deep.txt").write_text("deep")
    visit.page.goto(master.url)
    devtools = visit.page.context.new_cdp_session(visit.page)
    data = {"items": [], "files": [str(folder)], "dragOperationsMask": 1}
    for kind in ("dragEnter", "dragOver", "drop"):
        devtools.send("Input.dispatchDragEvent", {"type": kind, "x": 300, "y": 300, "data": data})
    expect(visit.page.locator("#uploads-summary")).to_have_text(
        "121 files uploaded", timeout=60_000
    )
    assert "deep.txt" in {upload.name for upload in node.uploads}


def test_a_name_that_is_markup_is_shown_as_text(
    visit: Visit, master: Master, node: FakeNode
) -> None:
    page = visit.page
    page.goto(master.url)
    name = "<img src=x onerror=window.ran=1>.txt"
    choose(page, payload(name))
    expect(page.locator(".upload-name")).to_have_text(name)
    expect(page.locator("#files .file-name")).to_have_text(name)
    expect(page.locator("#files .file-name")).to_have_attribute("title", name)
    page.reload()
    expect(page.locator("#files .file-name")).to_have_text(name)
    assert page.evaluate("window.ran") is None
    assert page.locator("img[src=x]").count() == 0


def test_a_file_over_the_limit_is_refused_before_any_request(
    visit: Visit, master: Master, node: FakeNode
) -> None:
    visit.page.goto(master.url)
    choose(visit.page, payload("large.bin", bytes(MAX_UPLOAD_BYTES + MIB)))
    row = upload_row(visit.page, "large.bin")
    expect(state(row)).to_have_text("Too large: it has 11 MB, and one file may have 10 MB.")
    expect(row.get_by_role("button", name="Retry large.bin")).to_be_hidden()
    assert node.requests == []


@pytest.mark.parametrize(
    "refusal",
    [
        Refusal(413, "A file may have at most 10 bytes here.", "too_large"),
        Refusal(503, "Only 1 of 2 copies could be made; try again.", "below_quorum"),
    ],
)
def test_a_refusal_shows_the_sentence_of_the_node_and_can_be_retried(
    visit: Visit, master: Master, node: FakeNode, refusal: Refusal
) -> None:
    visit.failures_expected = True
    node.refusal = refusal
    visit.page.goto(master.url)
    choose(visit.page, payload("a.txt"))
    row = upload_row(visit.page, "a.txt")
    expect(state(row)).to_have_text(refusal.message)
    expect(visit.page.locator("#uploads-summary")).to_have_text("0 files uploaded, 1 failed")
    node.refusal = None
    row.get_by_role("button", name="Retry a.txt").click()
    expect(state(row)).to_have_text("1 copy on 8001")


def test_the_next_node_is_used_when_one_cannot_be_reached(
    visit: Visit, master: Master, start_node: Callable[[str], FakeNode]
) -> None:
    visit.failures_expected = True
    gone, there = start_node("8001"), start_node("8002")
    gone.stop_listening()
    visit.page.goto(master.url)
    choose(visit.page, payload("a.txt", b"a"), payload("b.txt", b"b"))
    expect(state(upload_row(visit.page, "a.txt"))).to_have_text("1 copy on 8002")
    expect(state(upload_row(visit.page, "b.txt"))).to_have_text("1 copy on 8002")
    assert len(there.uploads) == 2


def test_an_upload_without_any_reachable_node_fails_with_a_sentence(
    visit: Visit, master: Master, node: FakeNode
) -> None:
    visit.failures_expected = True
    node.stop_listening()
    visit.page.goto(master.url)
    choose(visit.page, payload("a.txt"))
    sentence = "Node 8001 cannot be reached. Retry when it is back."
    expect(state(upload_row(visit.page, "a.txt"))).to_have_text(sentence)


def test_an_upload_can_be_cancelled_on_its_way(
    visit: Visit, master: Master, node: FakeNode
) -> None:
    visit.page.goto(master.url)
    node.open_gate.clear()
    choose(visit.page, payload("a.bin", bytes(9 * MIB)))
    row = upload_row(visit.page, "a.bin")
    expect(state(row)).to_have_text(re.compile("Uploading"))
    row.get_by_role("button", name="Cancel a.bin").click()
    expect(state(row)).to_have_text("Cancelled")
    row.get_by_role("button", name="Remove from this list: a.bin").click()
    expect(visit.page.locator("#uploads")).to_be_hidden()
    assert node.uploads == []
