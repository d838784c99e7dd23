"""Large blobs' temporary files: every byte in its place, whatever the file system can do."""

import errno
import os
import random
import sys
import threading
from collections.abc import Iterator
from contextlib import closing
from io import FileIO
from itertools import count
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from node_app import spillfile
from node_app.spillfile import ALIGNMENT, RING_BYTES, SLOT_BYTES, SpillFile

CONTENT = random.Random(2).randbytes(3 * RING_BYTES)

_numbers = count()


def opened(folder: Path) -> SpillFile:
    path = folder / f"file-{next(_numbers)}"
    return SpillFile(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL), str(path))


@pytest.fixture
def file(tmp_path: Path) -> Iterator[SpillFile]:
    with closing(opened(tmp_path)) as file:
        yield file


@pytest.fixture(params=["direct", "refused at first", "refused later", "no such thing", "no ring"])
def any_system(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Be each kind of file system."""

    class RefusingFile(FileIO):
        def write(self, data: memoryview) -> int:  # type: ignore[override]
            if os.get_blocking(self.fileno()) and is_direct(self):
                raise OSError(errno.EINVAL, "direct writes want something else here")
            return super().write(data)

    if request.param == "no such thing":
        monkeypatch.setattr(sys, "platform", "elsewhere")
    elif request.param == "no ring":
        monkeypatch.setattr(spillfile, "MAX_RINGS", 0)
        monkeypatch.setattr(spillfile, "_rings", spillfile.Rings())
    elif request.param == "refused at first":
        monkeypatch.setattr(spillfile, "set_direct", lambda *_, **__: False)
    elif request.param == "refused later":
        monkeypatch.setattr(spillfile, "FileIO", RefusingFile)


def is_direct(file: FileIO) -> bool:
    import fcntl  # noqa: PLC0415  there is none on Windows

    return bool(fcntl.fcntl(file.fileno(), fcntl.F_GETFL) & os.O_DIRECT)


sizes = st.integers(0, 3) | st.integers(0, 2 * SLOT_BYTES)


@pytest.mark.usefixtures("any_system")
@settings(max_examples=25, deadline=None)
@given(steps=st.lists(sizes, max_size=12), reads=st.lists(st.tuples(sizes, sizes), max_size=6))
def test_it_has_what_was_appended(
    tmp_path_factory: pytest.TempPathFactory, steps: list[int], reads: list[tuple[int, int]]
) -> None:
    content = b""
    with closing(opened(tmp_path_factory.mktemp("spill"))) as file:
        for step in steps:
            piece = CONTENT[len(content) % RING_BYTES :][:step]
            file.append(piece)
            content += piece
            assert file.size == len(content)
            for back, length in reads:
                offset = max(0, len(content) - back * 3)
                assert file.read_at(offset, length) == content[offset : offset + length]
        for _ in range(2):
            file.flush()
            assert os.fstat(file.file.fileno()).st_size == len(content)
            assert file.read_at(0, len(content) + 1) == content
        assert Path(str(file._reader.name)).read_bytes() == content


def test_full_slots_go_past_the_page_cache_where_that_can_be(tmp_path: Path) -> None:
    with closing(opened(tmp_path)) as file:
        can_be = file._is_direct
        file.append(CONTENT[: SLOT_BYTES + ALIGNMENT + 1])
        assert is_direct(file.file) == can_be
        file.flush()
        # The end of it has no length that direct writes would take.
        assert not is_direct(file.file)


def test_a_write_may_take_a_part_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class ReluctantFile(FileIO):
        def write(self, data: memoryview) -> int:  # type: ignore[override]
            return super().write(data[: max(1, len(data) // 3)])

    monkeypatch.setattr(spillfile, "FileIO", ReluctantFile)
    with closing(opened(tmp_path)) as file:
        file.append(CONTENT)
        file.flush()
        assert file.read_at(0, len(CONTENT)) == CONTENT


def test_a_full_disk_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class FullFile(FileIO):
        def write(self, data: memoryview) -> int:  # type: ignore[override]
            raise OSError(errno.ENOSPC, "full")

    monkeypatch.setattr(spillfile, "FileIO", FullFile)
    with closing(opened(tmp_path)) as file, pytest.raises(OSError, match="full"):
        file.append(CONTENT)


def test_it_is_read_while_it_grows(file: SpillFile) -> None:
    """By several at once, of whom some are far behind."""
    failures = []
    there = threading.Condition()
    grown = 0

    def follow(step: int) -> None:
        offset = 0
        while offset < len(CONTENT):
            with there:
                while grown <= offset:
                    there.wait(10)
                end = grown
            piece = file.read_at(offset, min(step, end - offset))
            if piece != CONTENT[offset : offset + len(piece)] or not piece:
                failures.append(offset)
                return
            offset += len(piece)

    followers = [threading.Thread(target=follow, args=(step,)) for step in (7_001, 1 << 20, 65_536)]
    for follower in followers:
        follower.start()
    for begin in range(0, len(CONTENT), 100_003):
        file.append(CONTENT[begin : begin + 100_003])
        with there:
            grown = file.size
            there.notify_all()
    for follower in followers:
        follower.join(20)
    assert not failures


def test_rings_are_used_again_and_are_only_so_many(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(spillfile, "_rings", spillfile.Rings())
    for _ in range(2):
        files = [opened(tmp_path) for _ in range(spillfile.MAX_RINGS + 2)]
        assert [file._ring is None for file in files[-3:]] == [False, True, True]
        for file in files:
            file.append(b"x")
            file.flush()
            assert file.read_at(0, 2) == b"x"
            file.close()
    rings = [spillfile._rings.take() for _ in range(spillfile.MAX_RINGS + 1)]
    assert rings.pop() is None
    assert None not in rings


def test_a_ring_that_an_error_still_holds_can_be_given_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class FullFile(FileIO):
        def write(self, data: memoryview) -> int:  # type: ignore[override]
            raise OSError(errno.ENOSPC, "full")

    monkeypatch.setattr(spillfile, "_rings", spillfile.Rings())
    monkeypatch.setattr(spillfile, "FileIO", FullFile)
    files, errors = [opened(tmp_path) for _ in range(spillfile.MAX_RINGS)], []
    for file in files:
        try:
            file.append(CONTENT)
        except OSError as error:
            errors.append(error)
    for file in files:
        file.close()
    assert len(errors) == len(files)
    assert all(spillfile._rings.take() is not None for _ in files)
