"""Contents as zstd frames: any range is that of the content, and damage is never served."""

import random
import struct
from concurrent.futures import ThreadPoolExecutor

import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from node_app.compression import (
    BLOCK_BYTES,
    FRAME_BYTES,
    SAMPLE_BYTES,
    CompressedReader,
    FrameEncoder,
    is_worth_while,
    may_gain,
    sample_shrinks,
)
from node_app.errors import BlobDamaged, StoreFailed

FOOTER_BYTES = 9
ENTRY_BYTES = 8


class Bytes:
    """Bytes in memory, as an open file of the store."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.size = len(data)
        self.closed = False
        self.reads: list[tuple[int, int]] = []

    def read_at(self, offset: int, length: int) -> bytes:
        self.reads.append((offset, length))
        return self.data[offset : offset + length]

    def close(self) -> None:
        self.closed = True


def content_of(size: int, *, variety: int = 4, seed: int = 1) -> bytes:
    """Return bytes of `variety` values: 256 do not compress, one does to almost nothing."""
    numbers = random.Random(seed).randbytes(size)
    return numbers.translate(bytes(value % variety for value in range(256)))


def stored(content: bytes) -> bytes:
    encoder = FrameEncoder()
    steps = range(0, len(content), FRAME_BYTES)
    frames = [encoder.frame(content[offset : offset + FRAME_BYTES]) for offset in steps]
    return b"".join([*frames, encoder.table()])


def around_frames() -> st.SearchStrategy[int]:
    """Return sizes near the ends of frames."""
    return st.builds(
        lambda frames, difference: max(1, frames * FRAME_BYTES + difference),
        st.integers(0, 3),
        st.integers(-3, 3) | st.integers(-FRAME_BYTES // 2, FRAME_BYTES // 2),
    )


@settings(max_examples=60, deadline=None)
@given(
    size=around_frames(),
    variety=st.sampled_from([1, 4, 256]),
    reads=st.lists(st.tuples(around_frames(), around_frames()), min_size=1, max_size=6),
)
def test_any_range_is_that_of_the_content(
    size: int, variety: int, reads: list[tuple[int, int]]
) -> None:
    content = content_of(size, variety=variety)
    reader = CompressedReader(Bytes(stored(content)))

    assert reader.size == size
    for offset, length in [(0, size), (size - 1, 2), (size, 1), (0, 0), *reads]:
        assert reader.read_at(offset, length) == content[offset : offset + length]


@pytest.mark.parametrize("size", [1, FRAME_BYTES, FRAME_BYTES + 1, 3 * FRAME_BYTES])
def test_any_zstd_decoder_gives_the_content_back(size: int) -> None:
    content = content_of(size)
    file = Bytes(stored(content))
    frames_size = CompressedReader(file).frames_size

    whole = zstandard.ZstdDecompressor().stream_reader(file.data, read_across_frames=True)
    assert whole.read() == content
    without_table = file.data[:frames_size]
    part = zstandard.ZstdDecompressor().stream_reader(without_table, read_across_frames=True)
    assert part.read() == content


def test_the_table_is_that_of_the_seekable_format() -> None:
    data = stored(content_of(FRAME_BYTES + 5))

    count, descriptor, magic = struct.unpack("<IBI", data[-FOOTER_BYTES:])
    assert (count, descriptor, magic) == (2, 0, 0x8F92EAB1)
    table = data[-FOOTER_BYTES - 2 * ENTRY_BYTES - 8 :]
    kind, length, first, first_size, second, second_size = struct.unpack_from("<6I", table)
    assert (kind, length) == (0x184D2A5E, len(table) - 8)
    assert (first_size, second_size) == (FRAME_BYTES, 5)
    assert first + second + len(table) == len(data)


def test_a_stream_decompresses_each_frame_once_and_a_range_only_its_own() -> None:
    content = content_of(5 * FRAME_BYTES)
    file = Bytes(stored(content))
    reader = CompressedReader(file)
    assert sum(length for _, length in file.reads) < 100, "opening looks at both ends alone"
    reader.read_at(0, 1)
    file.reads.clear()

    for offset in range(0, len(content), 1000):
        reader.read_at(offset, 1000)
    assert len(file.reads) == 4

    file.reads.clear()
    reader.read_at(2 * FRAME_BYTES + 7, 100)
    assert len(file.reads) == 1


def test_many_threads_read_at_once() -> None:
    content = content_of(4 * FRAME_BYTES + 17, variety=64)
    reader = CompressedReader(Bytes(stored(content)))
    offsets = [random.Random(2).randrange(len(content)) for _ in range(200)]

    def read(offset: int) -> bool:
        return reader.read_at(offset, 70_000) == content[offset : offset + 70_000]

    with ThreadPoolExecutor(8) as threads:
        assert all(threads.map(read, offsets))


DAMAGED = content_of(2 * FRAME_BYTES + 1000, variety=8)
DAMAGED_STORED = stored(DAMAGED)


@settings(max_examples=300, deadline=None)
@given(
    position=st.integers(0, len(DAMAGED_STORED) - 1)
    | st.integers(len(DAMAGED_STORED) - 60, len(DAMAGED_STORED) - 1),
    flip=st.integers(1, 255),
)
def test_a_changed_byte_is_never_served(position: int, flip: int) -> None:
    data = bytearray(DAMAGED_STORED)
    data[position] ^= flip

    assert read_or_refused(bytes(data)) in {DAMAGED, None}


@settings(max_examples=100, deadline=None)
@given(length=st.integers(0, len(DAMAGED_STORED) - 1))
def test_a_file_that_is_too_short_is_refused(length: int) -> None:
    assert read_or_refused(DAMAGED_STORED[:length]) is None


@pytest.mark.parametrize("rubbish", [b"", b"x", bytes(100), b"PK\x03\x04" * 1000])
def test_what_are_no_frames_is_refused_and_closed(rubbish: bytes) -> None:
    file = Bytes(rubbish)

    with pytest.raises(BlobDamaged):
        CompressedReader(file)

    assert file.closed


def test_a_frame_that_claims_to_be_huge_takes_no_memory() -> None:
    header = struct.pack("<IBQ", 0xFD2FB528, 0b1110_0000, 2**50)
    encoder = FrameEncoder()
    frame = encoder.frame(bytes(1000))
    data = header.ljust(len(frame), b"\0") + encoder.table()

    with pytest.raises(BlobDamaged):
        CompressedReader(Bytes(data)).read_at(0, 10)


def test_damage_is_a_failure_of_the_store() -> None:
    assert issubclass(BlobDamaged, StoreFailed)


def read_or_refused(data: bytes) -> bytes | None:
    try:
        reader = CompressedReader(Bytes(data))
        return reader.read_at(0, reader.size)
    except BlobDamaged:
        return None


@pytest.mark.parametrize(
    ("size", "content_type", "expected"),
    [
        (BLOCK_BYTES, "text/plain", False),
        (BLOCK_BYTES + 1, "text/plain", True),
        (10**6, "", True),
        (10**6, "application/octet-stream", True),
        (10**6, "image/svg+xml", True),
        (10**6, "image/bmp", True),
        (10**6, "image/jpeg", False),
        (10**6, "video/anything", False),
        (10**6, "application/zip", False),
        (10**6, "application/epub+zip", False),
        (
            10**6,
            "application/vnd.openxmlformats-officedocument.wordprocessingml.document",
            False,
        ),
    ],
)
def test_small_contents_and_compressed_types_are_left_alone(
    size: int, content_type: str, *, expected: bool
) -> None:
    assert may_gain(size, content_type) is expected


@pytest.mark.parametrize("size", [5000, SAMPLE_BYTES, SAMPLE_BYTES + 1, 10 * SAMPLE_BYTES])
def test_a_sample_tells_what_shrinks(size: int) -> None:
    assert sample_shrinks(Bytes(content_of(size)))
    assert not sample_shrinks(Bytes(content_of(size, variety=256)))


def test_the_sample_is_taken_from_the_middle_too() -> None:
    dense = content_of(SAMPLE_BYTES, variety=256)

    assert sample_shrinks(Bytes(dense + bytes(9 * SAMPLE_BYTES)))


@pytest.mark.parametrize(
    ("size", "stored_size", "expected"),
    [
        (100_000, 90_000, True),
        (100_000, 90_001, False),
        (BLOCK_BYTES + 1, BLOCK_BYTES, False),
        # A tenth less, and as many blocks as before.
        (2 * BLOCK_BYTES, 2 * BLOCK_BYTES - 900, False),
        (BLOCK_BYTES + 1, 3000, True),
    ],
)
def test_a_tenth_and_a_block_have_to_be_saved(
    size: int, stored_size: int, *, expected: bool
) -> None:
    assert is_worth_while(size, stored_size) is expected
