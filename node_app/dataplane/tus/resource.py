"""One upload at `/uploads/<id>`: HEAD, PATCH and DELETE."""

from dataclasses import replace

from node_app.dataplane.http import Request, header
from node_app.dataplane.tus import headers
from node_app.dataplane.tus.receiving import receive, receive_nothing
from node_app.dataplane.tus.storing import store
from node_app.errors import (
    BadHeader,
    FinalUpload,
    NodeError,
    OffsetMismatch,
    TooLarge,
    UploadLocked,
)
from node_app.node import Node
from node_app.uploads import Upload


async def head(request: Request, node: Node, upload_id: str) -> None:
    """Tell how far an upload is; one that has come in whole is stored first.

    A client takes the full offset for success. So while the file cannot be stored, the answer is
    that the upload is locked, which clients wait out; after other errors they begin anew.
    """
    async with node.turns.take(upload_id):
        upload = await node.run(node.uploads.get, upload_id)
        if upload.awaits_storing:
            try:
                upload = await store(node, upload)
            except NodeError as error:
                raise UploadLocked(f"All bytes are here, but not stored yet. {error}") from error
    await request.respond(
        200,
        b"",
        [
            *headers.progress(upload),
            *headers.description(upload),
            header(b"cache-control", "no-store"),
        ],
    )


async def patch(request: Request, node: Node, upload_id: str) -> None:
    """Append to an upload, and store it when that was the last of it.

    The bytes of an upload that cannot be stored now stay: an empty PATCH, or a HEAD, tries again.
    """
    headers.check_body_type(request)
    claimed = headers.number(request, b"upload-offset")
    if claimed is None:
        raise BadHeader("Say with Upload-Offset where the bytes belong.")
    checksum = headers.checksum(request)
    async with node.turns.take(upload_id) as turn:
        upload = await node.run(node.uploads.get, upload_id)
        if upload.concat.startswith("final"):
            raise FinalUpload("This upload is made of others; it takes no bytes.")
        if upload.offset != claimed:
            raise OffsetMismatch(
                f"The upload stands at {upload.offset}; ask with HEAD, go on there."
            )
        upload = _with_length(request, upload, node.settings.max_file_bytes)
        if upload.stored is not None:
            await receive_nothing(request, turn)
        else:
            with node.upload_in_flight():
                upload = await receive(request, node, turn, upload, checksum)
        if upload.awaits_storing:
            upload = await store(node, upload)
    await request.respond(204, b"", headers.progress(upload))


async def delete(request: Request, node: Node, upload_id: str) -> None:
    """Forget an upload and its bytes; a blob that it has become stays."""
    async with node.turns.take(upload_id):
        upload = await node.run(node.uploads.get, upload_id)
        await node.run(node.uploads.remove, upload.id)
    await request.respond(204, b"", [])


def _with_length(request: Request, upload: Upload, limit: int) -> Upload:
    """Return the upload with the length that the request tells, if that was still unknown."""
    length = headers.number(request, b"upload-length")
    if length is None or length == upload.length:
        return upload
    if upload.length is not None or length < upload.offset:
        raise BadHeader("Upload-Length contradicts what is known of the upload.")
    if length > limit:
        raise TooLarge(f"The file is over the limit of {limit} bytes.")
    return replace(upload, length=length)
