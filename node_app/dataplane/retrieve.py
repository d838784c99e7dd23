"""`GET /retrieve?hash=`: a blob from this node, or through it from a peer that has it."""

import hashlib
import logging
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Final

from mini_dropbox.asgi_types import Headers
from mini_dropbox.wire import WireError, clean_file_name, is_blob_hash
from mini_dropbox.zerocopy import FileCutShort, is_in_memory
from node_app.blobstore import CHUNK_BYTES, BlobReader
from node_app.compression import ENCODING, CompressedReader, Readable
from node_app.dataplane.blob_headers import blob_headers, naming, takes_frames
from node_app.dataplane.bodies import begun, held_to, send_pieces
from node_app.dataplane.http import Request, header
from node_app.dataplane.ranges import ByteRange, Unsatisfiable, matching_etag, parse_range
from node_app.dataplane.relay import Wanted, serve_from_peer
from node_app.errors import (
    BadHash,
    BlobDamaged,
    BlobNotFound,
    StoreFailed,
    Unavailable,
)
from node_app.local_blobstore import LocalBlobReader
from node_app.node import Node

logger = logging.getLogger(__name__)

# Up to this size a blob is read on the event loop, in one go: it costs less than a thread's turn.
INLINE_BYTES: Final = 64 * 1024


@dataclass(frozen=True)
class _Form:
    """One form that a blob can be sent in: the first `size` bytes of `source`.

    `costly` says that reading them takes more than the disk.
    """

    source: Readable
    size: int
    etag: str
    headers: Headers = field(default_factory=list)
    costly: bool = False

    @property
    def is_small(self) -> bool:
        """Whether it is a plain content that is read, and verified, at once."""
        return self.size <= INLINE_BYTES and not self.headers and not self.costly


async def retrieve(request: Request, node: Node) -> None:
    """Serve a blob by its hash, wherever in the cluster it is."""
    query = request.query()
    blob_hash = query.get("hash", "")
    if not is_blob_hash(blob_hash):
        raise BadHash("Name the blob by its MD5, 32 lower-case hex digits: /retrieve?hash=<md5>.")
    name = _download_name(query.get("name"), blob_hash)
    wanted = Wanted(blob_hash, name)
    try:
        await serve_own(request, node, blob_hash, name)
    except BlobNotFound:
        await serve_from_peer(request, node, wanted)
    except StoreFailed as failure:
        if request.started:
            raise
        if isinstance(failure, BlobDamaged):
            wanted.damaged.append(node.settings.node_id)
        try:
            await serve_from_peer(request, node, wanted)
        except BlobNotFound:
            # A copy that cannot be read now is not an unknown blob.
            raise failure from None


async def serve_own(request: Request, node: Node, blob_hash: str, name: str | None = None) -> None:
    """Serve this node's copy, with ranges and conditions; BlobNotFound when there is none.

    No byte of a copy is sent that was not verified within the period of a scrub, or as it is sent.
    BlobDamaged breaks off an answer that has begun; the copy is set aside soon, and whoever asks
    next waits for that.
    """
    try:
        reader = await _open(node, blob_hash)
        try:
            await _serve(request, node, reader, blob_hash, name or blob_hash)
        finally:
            reader.close()
    except BlobNotFound:
        node.verifier.note_absence(blob_hash)
        raise
    except BlobDamaged:
        node.verifier.doubt(blob_hash)
        raise


async def _open(node: Node, blob_hash: str) -> BlobReader:
    if node.store.opens_locally:
        return node.store.open(blob_hash)
    reader: BlobReader = await node.run(node.store.open, blob_hash)
    return reader


async def _serve(
    request: Request, node: Node, reader: BlobReader, blob_hash: str, name: str
) -> None:
    form = _form(request, reader, blob_hash)
    etag, size = form.etag, form.size
    headers = blob_headers(etag)
    condition = request.header(b"if-none-match")
    known = condition and matching_etag(condition, (etag, *_etags(blob_hash)))
    if known:
        await request.respond(304, b"", [header(b"etag", known), *headers[1:]])
        return
    wanted = ByteRange(0, size)
    status = 200
    if request.header(b"if-range") in {None, etag}:
        try:
            part = parse_range(request.header(b"range"), size)
        except Unsatisfiable:
            await request.respond(
                416, b"", [*headers, *_range_headers(f"bytes */{size}"), (b"content-length", b"0")]
            )
            return
        if part is not None:
            wanted, status = part, 206
            headers += _range_headers(f"bytes {part.start}-{part.stop - 1}/{size}")
    headers += [*naming(name), *form.headers, header(b"content-length", wanted.length)]
    as_whole = form.source is reader and status == 200
    if request.method == "HEAD":
        await request.respond(status, b"", headers)
    elif form.is_small and node.store.opens_locally:
        body = read_small(form.source, blob_hash)[wanted.start : wanted.stop]
        await request.respond(status, body, headers)
    elif node.verifier.is_verified(blob_hash, reader, as_whole=as_whole):
        await _send(request, node, form, wanted, (status, headers))
    elif as_whole and not node.verifier.is_checking(blob_hash):
        await _send_verified(request, node, reader, blob_hash, headers)
    else:
        if node.store.has_stamps:
            await node.verifier.confirm(blob_hash, reader)
        await _send(request, node, form, wanted, (status, headers))


async def _send(
    request: Request, node: Node, form: _Form, wanted: ByteRange, head: tuple[int, Headers]
) -> None:
    """Answer with a part, or all, of what is known to be good."""
    status, headers = head
    if wanted.length <= INLINE_BYTES and node.store.opens_locally and not form.costly:
        body = form.source.read_at(wanted.start, wanted.length)
        _check_whole(body, wanted.length)
        await request.respond(status, body, headers)
    elif request.can_send_files and isinstance(form.source, LocalBlobReader):
        await _check_readable(node, form.source, wanted.start)
        await request.start(status, headers)
        await _send_file(request, form.source, wanted)
    else:
        # A copy whose beginning cannot be read fails before the answer begins: a peer may have it.
        pieces = await begun(_pieces(node, form.source, wanted))
        await request.start(status, headers)
        await send_pieces(request, pieces)


async def _send_verified(
    request: Request, node: Node, reader: BlobReader, blob_hash: str, headers: Headers
) -> None:
    """Send a whole content that is verified on the way, and remember it if it is good."""
    hashing = hashlib.md5(usedforsecurity=False)
    pieces = _pieces(node, reader, ByteRange(0, reader.size))
    # What is found damaged before the answer begins, a peer can serve.
    pieces = await begun(held_to(blob_hash, pieces, hashing, node.run))
    await request.start(200, headers)
    await send_pieces(request, pieces)
    await node.verifier.note(blob_hash, reader.stamp)


def _form(request: Request, reader: BlobReader, blob_hash: str) -> _Form:
    """Choose between the content and its stored frames; a range is always one of the content."""
    plain, encoded = _etags(blob_hash)
    if not isinstance(reader, CompressedReader):
        return _Form(reader, reader.size, plain)
    if request.header(b"range") is None and takes_frames(request):
        named = [header(b"content-encoding", ENCODING)]
        return _Form(reader.file, reader.frames_size, encoded, named)
    return _Form(reader, reader.size, plain, costly=True)


def _etags(blob_hash: str) -> tuple[str, str]:
    """Return the ETags of a blob's content and of its frames."""
    return f'"{blob_hash}"', f'"{blob_hash}-{ENCODING}"'


def read_small(source: Readable, blob_hash: str) -> bytes:
    """Return a small blob, of which no byte has changed; BlobDamaged otherwise."""
    content = source.read_at(0, source.size)
    if hashlib.md5(content, usedforsecurity=False).hexdigest() != blob_hash:
        logger.error("The copy of %s is damaged", blob_hash)
        raise BlobDamaged("This node's copy of the blob is damaged.")
    return content


async def _check_readable(node: Node, source: LocalBlobReader, offset: int) -> None:
    """StoreFailed if the disk gives nothing, as long as nothing is out: a peer may have it."""
    if not is_in_memory(source.fileno(), offset, 1):
        await node.run(source.read_at, offset, 1)


async def _send_file(request: Request, source: LocalBlobReader, wanted: ByteRange) -> None:
    try:
        await request.send_file(source.fileno(), wanted.start, wanted.length)
    except FileCutShort:
        raise Unavailable("The blob has become shorter while it was read.") from None


async def _pieces(node: Node, source: Readable, wanted: ByteRange) -> AsyncIterator[bytes]:
    for offset in range(wanted.start, wanted.stop, CHUNK_BYTES):
        length = min(CHUNK_BYTES, wanted.stop - offset)
        piece = await node.run(source.read_at, offset, length)
        _check_whole(piece, length)
        yield piece


def _check_whole(piece: bytes, length: int) -> None:
    """Break the connection rather than end a body early: the client must see the difference."""
    if len(piece) != length:
        raise Unavailable("The blob has become shorter while it was read.")


def _range_headers(content_range: str) -> Headers:
    return [header(b"content-range", content_range)]


def _download_name(value: str | None, blob_hash: str) -> str:
    if value is None:
        return blob_hash
    try:
        return clean_file_name(value)
    except WireError:
        return blob_hash
