"""Every back end removes a blob only if nobody has stored it again."""

import pytest

from mini_dropbox.wire import RemovalOrder, RemovalStatus
from node_app.errors import BlobNotFound
from tests.support.blob_backends import Backend, md5, sha256

CONTENT = b"nobody names this any more"


def order(content: bytes = CONTENT, seconds: float = 0, **changes: str) -> RemovalOrder:
    said = {"hash": md5(content), "sha256": sha256(content), **changes}
    return RemovalOrder(**said, untouched_seconds=seconds)


@pytest.fixture
def untouched(backend: Backend, monkeypatch: pytest.MonkeyPatch) -> Backend:
    """Let nothing count as touched lately."""
    monkeypatch.setattr(backend.store._touches, "silence", lambda _: 1000.0)
    return backend


def test_a_blob_that_nobody_has_touched_goes(untouched: Backend) -> None:
    untouched.put(CONTENT)
    assert untouched.store.remove_untouched(order(seconds=999)).status is RemovalStatus.REMOVED

    with pytest.raises(BlobNotFound):
        untouched.store.open(md5(CONTENT))
    assert untouched.store.record(md5(CONTENT)) is None
    assert untouched.store.totals().count == 0
    assert untouched.store.remove_untouched(order()).status is RemovalStatus.ABSENT


def test_one_that_was_just_stored_stays(backend: Backend) -> None:
    backend.put(CONTENT)
    result = backend.store.remove_untouched(order(seconds=60))

    assert result.status is RemovalStatus.KEPT
    assert result.reason == "it, or one near it, was stored or found a moment ago"
    assert backend.get(md5(CONTENT)) == CONTENT


def test_one_that_was_found_by_another_upload_stays(
    backend: Backend, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = [0.0]
    monkeypatch.setattr(backend.store._touches, "_clock", lambda: clock[0])
    monkeypatch.setattr(backend.store._touches, "_began_at", 0.0)
    backend.put(CONTENT)
    clock[0] = 1000
    assert backend.put(CONTENT)

    assert backend.store.remove_untouched(order(seconds=60)).status is RemovalStatus.KEPT


def test_another_content_under_the_same_address_stays(untouched: Backend) -> None:
    untouched.put(CONTENT)
    result = untouched.store.remove_untouched(order(sha256="0" * 64))

    assert result.status is RemovalStatus.KEPT
    assert result.reason == "another content is stored under this MD5"
    assert untouched.get(md5(CONTENT)) == CONTENT


def test_what_was_removed_is_stored_anew(untouched: Backend) -> None:
    untouched.put(CONTENT)
    untouched.store.remove_untouched(order())

    assert not untouched.put(CONTENT)
    assert untouched.get(md5(CONTENT)) == CONTENT
