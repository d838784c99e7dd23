"""Many contents at once: each has its own outcome, whatever becomes of the others."""

from contextlib import ExitStack

import pytest

from node_app.blobwriter import MEMORY_BYTES
from node_app.commits import Incoming
from node_app.errors import HashCollision, NodeError, StoreFailed
from tests.support.blob_backends import Backend, md5
from tests.support.md5_collision import colliding_pair


def commit_all(backend: Backend, *contents: bytes) -> list[bool | NodeError]:
    with ExitStack() as writers:
        incoming = []
        for number, content in enumerate(contents):
            writer = writers.enter_context(backend.store.writer())
            writer.write(content)
            incoming.append(Incoming(writer, f"name {number}", "text/plain"))
        return backend.store.commit_all(incoming)


def test_all_are_kept(backend: Backend) -> None:
    contents = [bytes([number]) * size for number, size in enumerate((0, 1, 100, MEMORY_BYTES + 1))]

    assert commit_all(backend, *contents) == [False] * len(contents)

    backend.reopen()
    assert [backend.get(md5(content)) for content in contents] == contents
    assert backend.rows() == sorted(map(md5, contents))
    assert backend.store.totals().count == len(contents)
    assert backend.temporary_files() == []


def test_none_at_all_is_no_error(backend: Backend) -> None:
    assert commit_all(backend) == []


def test_what_was_there_is_told_apart(backend: Backend) -> None:
    backend.put(b"known")

    assert commit_all(backend, b"new", b"known") == [False, True]


def test_a_content_that_comes_twice_is_new_once(backend: Backend) -> None:
    assert commit_all(backend, b"same", b"other", b"same") == [False, False, True]
    assert backend.store.totals().count == 2


def test_a_collision_keeps_nothing_else_out(backend: Backend) -> None:
    first, second = colliding_pair()

    before, collision, after = commit_all(backend, first, second, b"another")

    assert (before, after) == (False, False)
    assert isinstance(collision, HashCollision)
    assert backend.get(md5(first)) == first


def test_a_writer_that_was_given_up_keeps_nothing_else_out(backend: Backend) -> None:
    given_up, kept = backend.store.writer(), backend.store.writer()
    given_up.write(b"given up")
    kept.write(b"kept")
    given_up.close()

    with kept:
        refused, stored = backend.store.commit_all(
            [Incoming(given_up, "a", ""), Incoming(kept, "b", "")]
        )

    assert isinstance(refused, StoreFailed)
    assert stored is False
    assert backend.rows() == [md5(b"kept")]


def test_when_the_index_cannot_be_written_nothing_is_kept(
    backend: Backend, monkeypatch: pytest.MonkeyPatch
) -> None:
    backend.put(b"known")

    def fail(*_: object, **__: object) -> None:
        raise StoreFailed("The node's index cannot be written.")

    with monkeypatch.context() as patched:
        patched.setattr(backend.store._index, "put", fail)
        outcomes = commit_all(backend, b"one", b"known", b"two")

    assert [type(outcome) for outcome in outcomes] == [StoreFailed, bool, StoreFailed]
    assert backend.planted(md5(b"one")) is None
    assert backend.planted(md5(b"two")) is None
    assert commit_all(backend, b"one", b"two") == [False, False]
