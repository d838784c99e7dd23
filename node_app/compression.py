"""Contents at rest as zstd frames: the "zstd seekable format".

Each FRAME_BYTES of a content are one zstd frame with a checksum of its own; behind the last one, a
table in a frame that decoders skip tells how long each is. So `zstd -d` gives the content back
without this program, and a range costs no more than the frames that it touches.
Source of the format: facebook/zstd, contrib/seekable_format/zstd_seekable_compression_format.md
"""

import struct
from functools import cached_property
from itertools import accumulate
from typing import Final, Protocol

import zstandard

from node_app.errors import BlobDamaged, NodeError

# The name of the form, in the index and on the wire.
ENCODING: Final = "zstd"
# What is read and sent in one go: a stream decompresses each frame once, and holds one.
FRAME_BYTES: Final = 256 * 1024
# Blobs are compressed once and kept, so a better ratio is worth a slower level.
LEVEL: Final = 6
# A disk gives out blocks of this size: a blob that takes one takes no less when compressed.
BLOCK_BYTES: Final = 4096
SAMPLE_BYTES: Final = 64 * 1024
SAMPLE_LEVEL: Final = 1
MAX_STORED_SHARE: Final = 0.9
# A table that claims more is damaged; reading a frame must not take all memory.
MAX_FRAME_BYTES: Final = 8 * 1024 * 1024

SKIPPABLE_MAGIC: Final = 0x184D2A5E
SEEKABLE_MAGIC: Final = 0x8F92EAB1
_HEADER: Final = struct.Struct("<II")
_ENTRY: Final = struct.Struct("<II")
_FOOTER: Final = struct.Struct("<IBI")
# The table's first and last entries with what stands beside them.
_BEGINNING: Final = struct.Struct("<IIII")
_ENDING: Final = struct.Struct("<IIIBI")

DAMAGED: Final = "This node's copy of the blob is damaged."

# What is compressed already, as far as the type tells; the sample finds the others.
_DENSE_KINDS: Final = ("video/",)
_DENSE_SUFFIXES: Final = ("+zip", "+gzip", "+zstd")
_DENSE_PREFIXES: Final = (
    "application/vnd.openxmlformats-officedocument.",
    "application/vnd.oasis.opendocument.",
)
_DENSE_TYPES: Final = frozenset(
    {
        "image/jpeg",
        "image/png",
        "image/gif",
        "image/webp",
        "image/avif",
        "image/heic",
        "image/heif",
        "image/jxl",
        "audio/mpeg",
        "audio/mp4",
        "audio/aac",
        "audio/ogg",
        "audio/opus",
        "audio/flac",
        "audio/webm",
        "font/woff",
        "font/woff2",
        "application/zip",
        "application/x-zip-compressed",
        "application/gzip",
        "application/x-gzip",
        "application/zstd",
        "application/x-bzip",
        "application/x-bzip2",
        "application/x-xz",
        "application/x-7z-compressed",
        "application/x-rar-compressed",
        "application/vnd.rar",
        "application/java-archive",
        "application/vnd.android.package-archive",
    }
)


class Readable(Protocol):
    """Bytes that can be read at any offset; `size` is their number."""

    size: int

    def read_at(self, offset: int, length: int) -> bytes: ...


class StoredFile(Readable, Protocol):
    """An open file of the store, and what it looks like (`BlobReader.stamp`)."""

    @property
    def stamp(self) -> str: ...

    def close(self) -> None: ...


def may_gain(size: int, content_type: str) -> bool:
    """Tell whether a content of this size and media type is worth a try."""
    if size <= BLOCK_BYTES or content_type in _DENSE_TYPES:
        return False
    return not (
        content_type.startswith(_DENSE_KINDS + _DENSE_PREFIXES)
        or content_type.endswith(_DENSE_SUFFIXES)
    )


def sample_shrinks(content: Readable) -> bool:
    """Tell whether the beginning and the middle of a content promise to make it worth while."""
    middle = max(SAMPLE_BYTES, content.size // 2)
    sample = content.read_at(0, SAMPLE_BYTES) + content.read_at(middle, SAMPLE_BYTES)
    compressed = zstandard.ZstdCompressor(level=SAMPLE_LEVEL).compress(sample)
    return len(compressed) <= MAX_STORED_SHARE * len(sample)


def is_worth_while(size: int, stored_size: int) -> bool:
    """Tell whether a tenth is saved, and at least one block of the disk."""
    blocks, stored_blocks = -(-size // BLOCK_BYTES), -(-stored_size // BLOCK_BYTES)
    return stored_size <= MAX_STORED_SHARE * size and stored_blocks < blocks


class FrameEncoder:
    """Makes the frames of one content, in order, and then their table."""

    def __init__(self) -> None:
        self._compressor = zstandard.ZstdCompressor(level=LEVEL, write_checksum=True)
        self._entries = bytearray()

    def frame(self, content: bytes) -> bytes:
        """Return the frame of the next FRAME_BYTES; only the last may have fewer."""
        frame = self._compressor.compress(content)
        self._entries += _ENTRY.pack(len(frame), len(content))
        return frame

    def table(self) -> bytes:
        """Return what stands behind the last frame."""
        count = len(self._entries) // _ENTRY.size
        length = len(self._entries) + _FOOTER.size
        head, foot = _HEADER.pack(SKIPPABLE_MAGIC, length), _FOOTER.pack(count, 0, SEEKABLE_MAGIC)
        return head + self._entries + foot


class _SeekTable:
    """What stands behind the frames; `frames_size` is theirs together, sizes are bytes.

    Opening looks at both ends alone, so that it costs the same for any blob. All frames but the
    last are as long as the first.
    """

    def __init__(self, file: Readable) -> None:
        self._file = file
        ending = file.read_at(max(0, file.size - _ENDING.size), _ENDING.size)
        if len(ending) != _ENDING.size:
            raise BlobDamaged(DAMAGED)
        _, last, self._count, descriptor, magic = _ENDING.unpack(ending)
        self._size = _HEADER.size + self._count * _ENTRY.size + _FOOTER.size
        self.frames_size = file.size - self._size
        if not self._count or magic != SEEKABLE_MAGIC or descriptor or self.frames_size <= 0:
            raise BlobDamaged(DAMAGED)
        beginning = file.read_at(self.frames_size, _BEGINNING.size)
        kind, length, _, self.frame_bytes = _BEGINNING.unpack(beginning)
        if (kind, length) != (SKIPPABLE_MAGIC, self._size - _HEADER.size):
            raise BlobDamaged(DAMAGED)
        if not 0 < last <= self.frame_bytes <= MAX_FRAME_BYTES:
            raise BlobDamaged(DAMAGED)
        self.content_size = (self._count - 1) * self.frame_bytes + last

    @cached_property
    def starts(self) -> list[int]:
        """Where each frame begins in the file, and where the last one ends."""
        length = self._count * _ENTRY.size
        table = self._file.read_at(self.frames_size + _HEADER.size, length)
        if len(table) != length:
            raise BlobDamaged(DAMAGED)
        numbers = struct.unpack(f"<{2 * self._count}I", table)
        starts = list(accumulate(numbers[0::2], initial=0))
        if (
            starts[-1] != self.frames_size
            or max(numbers[0::2]) > 2 * self.frame_bytes + BLOCK_BYTES
            or sum(numbers[1::2]) != self.content_size
        ):
            raise BlobDamaged(DAMAGED)
        return starts


class CompressedReader:
    """Reads a content out of its frames; from any thread. It owns `file` from then on.

    Frames are checked as they are decompressed: BlobDamaged (a StoreFailed), never other bytes.
    The first `frames_size` bytes of `file` are what any zstd decoder takes.
    """

    def __init__(self, file: StoredFile) -> None:
        self.file = file
        try:
            self._table = _SeekTable(file)
        except NodeError:
            file.close()
            raise
        self.size = self._table.content_size
        self.frames_size = self._table.frames_size
        # Reads mostly go on where the last one ended.
        self._latest: tuple[int, bytes] = (-1, b"")

    def read_at(self, offset: int, length: int) -> bytes:
        stop = min(offset + length, self.size)
        pieces = []
        while offset < stop:
            number, begin = divmod(offset, self._table.frame_bytes)
            piece = self._frame(number)[begin : begin + stop - offset]
            pieces.append(piece)
            offset += len(piece)
        return b"".join(pieces)

    @property
    def stamp(self) -> str:
        return self.file.stamp

    def close(self) -> None:
        self.file.close()

    def _frame(self, number: int) -> bytes:
        latest, content = self._latest
        if latest != number:
            content = self._decompressed(number)
            self._latest = (number, content)
        return content

    def _decompressed(self, number: int) -> bytes:
        table = self._table
        start, stop = table.starts[number], table.starts[number + 1]
        size = min(table.frame_bytes, self.size - number * table.frame_bytes)
        data = self.file.read_at(start, stop - start)
        try:
            # Before so much memory is taken as a damaged frame might claim.
            if zstandard.frame_content_size(data) != size:
                raise BlobDamaged(DAMAGED)
            decompressor = zstandard.ZstdDecompressor()
            content = decompressor.decompress(data, allow_extra_data=False)
        except zstandard.ZstdError as error:
            raise BlobDamaged(DAMAGED) from error
        if len(content) != size:
            raise BlobDamaged(DAMAGED)
        return content
