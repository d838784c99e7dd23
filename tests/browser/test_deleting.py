"""Files are deleted on the first page, after one question."""

import pytest
from playwright.sync_api import Dialog, expect

from tests.browser.conftest import Master, Visit
from tests.browser.fake_node import FakeNode, Upload

pytestmark = pytest.mark.browser


def store(node: FakeNode, name: str) -> None:
    upload = Upload(name, "text/plain", name.encode())
    node.uploads.append(upload)
    node.register(upload)


@pytest.mark.parametrize("is_sure", [True, False])
def test_a_file_is_deleted_after_a_question(
    visit: Visit, master: Master, node: FakeNode, *, is_sure: bool
) -> None:
    page = visit.page
    asked: list[str] = []

    def answer(dialog: Dialog) -> None:
        asked.append(dialog.message)
        if is_sure:
            dialog.accept()
        else:
            dialog.dismiss()

    page.on("dialog", answer)
    store(node, "old <report>.txt")
    store(node, "kept.txt")
    page.goto(master.url)
    expect(page.locator(".file")).to_have_count(2)
    page.get_by_label("Delete old <report>.txt").click()

    if is_sure:
        expect(page.locator(".file-name")).to_have_text(["kept.txt"])
        expect(page.locator("#toast")).to_have_text("File deleted")
    else:
        expect(page.locator(".file")).to_have_count(2)
    assert asked == ["Delete “old <report>.txt”?"]
    page.reload()
    expect(page.locator(".file")).to_have_count(1 if is_sure else 2)


def test_one_that_is_gone_already_is_said_to_be(
    visit: Visit, master: Master, node: FakeNode
) -> None:
    page = visit.page
    visit.failures_expected = True
    page.on("dialog", lambda dialog: dialog.accept())
    store(node, "old.txt")
    page.goto(master.url)
    button = page.get_by_label("Delete old.txt")
    address = str(button.get_attribute("data-delete"))
    assert page.request.delete(f"{master.url}{address}").status == 204
    button.click()

    expect(page.locator("#toast")).to_have_text("The file is gone already.")
    expect(page.locator(".file")).to_have_count(0)
