"""`/internal/blobs/<md5>`: how peers store, read and take back replicas. Signed."""

from urllib.parse import unquote

from mini_dropbox.signing import EMPTY_BODY_SHA256, SignatureError
from mini_dropbox.wire import HEADER_NAME, HEADER_SHA256, SHA256_PATTERN, WireError, clean_file_name
from node_app.dataplane.form import PipedWriter, media_type
from node_app.dataplane.http import Request, check_complete
from node_app.dataplane.retrieve import serve_own
from node_app.errors import BadHash, BadName, DigestMismatch, LengthRequired, NotSigned
from node_app.node import Node


async def put_replica(request: Request, node: Node, blob_hash: str) -> None:
    """Store a peer's replica; it counts only when both digests are those announced."""
    announced = request.content_length()
    if announced is None:
        raise LengthRequired("Say how long the replica is: send Content-Length.")
    sha256 = request.header(HEADER_SHA256.lower().encode()) or ""
    check_signature(request, node, body_sha256=sha256)
    name = _file_name(request)
    with node.upload_in_flight(), node.store.writer() as writer:
        output = PipedWriter(writer, node.run, announced)
        try:
            while chunk := await request.chunk():
                await output.write(chunk)
            check_complete(output.size, announced)
            await output.finish()
        finally:
            await output.settle()
        digests = writer.digests()
        if (digests.md5, digests.sha256) != (blob_hash, sha256):
            raise DigestMismatch("The replica's bytes are not those that were announced.")
        content_type = media_type(name, request.header(b"content-type"))
        deduplicated = await node.run(
            node.store.commit, writer, name=name, content_type=content_type
        )
    await request.respond_json(200, {"success": True, "deduplicated": deduplicated})


async def get_replica(request: Request, node: Node, blob_hash: str) -> None:
    """Serve this node's own copy, or say that it has none."""
    check_signature(request, node, body_sha256=EMPTY_BODY_SHA256)
    await serve_own(request, node, blob_hash)


async def delete_replica(request: Request, node: Node, blob_hash: str) -> None:
    """Take back a copy that was stored for an upload that failed."""
    check_signature(request, node, body_sha256=EMPTY_BODY_SHA256)
    sha256 = request.header(HEADER_SHA256.lower().encode()) or ""
    if not SHA256_PATTERN.fullmatch(sha256):
        raise BadHash("Name the content to remove by its SHA-256.")
    removed = await node.run(node.store.delete, blob_hash, sha256=sha256)
    await request.respond_json(200, {"success": True, "removed": removed})


def check_signature(request: Request, node: Node, *, body_sha256: str) -> None:
    """NotSigned unless a member of the cluster signed this request with this body."""
    try:
        signed = node.signer.verify(
            request.header(b"authorization"), request.method, request.target
        )
    except SignatureError as error:
        raise NotSigned(str(error)) from error
    if signed.body_sha256 != body_sha256:
        raise NotSigned("The body is not the one that was signed.")


def _file_name(request: Request) -> str:
    try:
        return clean_file_name(unquote(request.header(HEADER_NAME.lower().encode()) or "unnamed"))
    except WireError as error:
        raise BadName(str(error)) from error
