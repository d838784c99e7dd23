"""`POST /uploads/`: begins an upload, takes its first bytes, or joins others into one."""

from node_app.dataplane.http import Request, header
from node_app.dataplane.tus import headers
from node_app.dataplane.tus.receiving import receive
from node_app.dataplane.tus.storing import store
from node_app.errors import BadHeader, IncompletePart, TooLarge
from node_app.node import Node
from node_app.uploads import Upload


async def create(request: Request, node: Node) -> None:
    """Begin an upload. Until the client has its address nothing of it is kept: it begins anew."""
    node.replicator.check_quorum()
    concat = headers.concat_kind(request.header(b"upload-concat") or "")
    is_final = concat.startswith("final")
    parts = await _parts(node, concat) if is_final else []
    limit = node.settings.max_file_bytes
    length = sum(part.offset for part in parts) if is_final else _length(request)
    if length is not None and length > limit:
        raise TooLarge(f"The file is over the limit of {limit} bytes.")
    has_body = not is_final and _has_body(request)
    checksum = headers.checksum(request) if has_body else None
    upload = await _begin(request, node, length, concat)
    try:
        if is_final:
            upload = await _join(node, upload, parts)
        elif has_body:
            with node.upload_in_flight():
                async with node.turns.take(upload.id) as turn:
                    upload = await receive(request, node, turn, upload, checksum)
        if upload.awaits_storing:
            upload = await store(node, upload)
    except BaseException:
        await node.run(node.uploads.remove, upload.id)
        raise
    location = header(b"location", headers.PATH + upload.id)
    no_body = header(b"content-length", 0)
    await request.respond(201, b"", [location, no_body, *headers.progress(upload)])


async def _join(node: Node, upload: Upload, parts: list[Upload]) -> Upload:
    """Put the parts' bytes into the upload; who gives up closes the file, which ends the copying.

    UploadNotFound, StoreFull or StoreFailed.
    """
    with node.upload_in_flight(), await node.run(node.uploads.open, upload) as file:
        joined: Upload = await node.run(node.uploads.concatenate, upload, file, parts)
        return joined


async def _begin(request: Request, node: Node, length: int | None, concat: str) -> Upload:
    metadata = request.header(b"upload-metadata") or ""
    words = headers.file_words(metadata)
    upload: Upload = await node.run(
        node.uploads.create,
        length=length,
        name=words.name,
        content_type=words.content_type,
        metadata=metadata,
        concat=concat,
    )
    return upload


def _length(request: Request) -> int | None:
    """Return the announced length, or None for one that the client will tell later."""
    length = headers.number(request, b"upload-length")
    deferred = request.header(b"upload-defer-length")
    if deferred not in {None, "1"} or (length is None) == (deferred is None):
        raise BadHeader("Send either Upload-Length, a number of bytes, or Upload-Defer-Length: 1.")
    return length


def _has_body(request: Request) -> bool:
    """Tell whether first bytes come along; UnsupportedMediaType when they are something else."""
    if not request.content_length() and b"transfer-encoding" not in request.headers:
        return False
    headers.check_body_type(request)
    return True


async def _parts(node: Node, concat: str) -> list[Upload]:
    """Return the parts that a final upload names; UploadNotFound or IncompletePart if one lacks."""
    parts: list[Upload] = [
        await node.run(node.uploads.get, each) for each in headers.part_ids(concat)
    ]
    if not all(part.is_partial and part.is_complete for part in parts):
        raise IncompletePart("Upload-Concat names an upload that is no part, or is not complete.")
    return parts
