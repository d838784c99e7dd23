"""`/internal/blobs/<md5>`: how peers store, read and take back replicas. Signed."""

from mini_dropbox.signing import EMPTY_BODY_SHA256, SignatureError
from mini_dropbox.wire import SHA256_PATTERN, WireError, clean_file_name
from node_app.dataplane.form import PipedWriter, media_type
from node_app.dataplane.http import Request, check_complete
from node_app.dataplane.retrieve import serve_own
from node_app.errors import BadHash, BadName, DigestMismatch, LengthRequired, NotSigned
from node_app.node import Node


async def put_replica(request: Request, node: Node, blob_hash: str) -> None:
    """Store a peer's replica; it counts only when its bytes are those that were signed."""
    announced = request.content_length()
    if announced is None:
        raise LengthRequired("Say how long the replica is: send Content-Length.")
    sha256 = _signed_body(request, node)
    query = request.query()
    name = _file_name(query.get("name", "unnamed"))
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
        if digests.sha256 != sha256:
            raise NotSigned("The body is not the one that was signed.")
        if digests.md5 != blob_hash:
            raise DigestMismatch("The replica's bytes do not have this MD5.")
        content_type = media_type(name, query.get("content_type"))
        deduplicated = await node.run(
            node.store.commit, writer, name=name, content_type=content_type
        )
    await request.respond_json(200, {"success": True, "deduplicated": deduplicated})


async def get_replica(request: Request, node: Node, blob_hash: str) -> None:
    """Serve this node's own copy, or say that it has none."""
    check_signature(request, node)
    await serve_own(request, node, blob_hash)


async def delete_replica(request: Request, node: Node, blob_hash: str) -> None:
    """Take back a copy that was stored for an upload that failed."""
    check_signature(request, node)
    sha256 = request.query().get("sha256", "")
    if not SHA256_PATTERN.fullmatch(sha256):
        raise BadHash("Name the content to remove by its SHA-256.")
    removed = await node.run(node.store.delete, blob_hash, sha256=sha256)
    await request.respond_json(200, {"success": True, "removed": removed})


def check_signature(request: Request, node: Node) -> None:
    """NotSigned unless a member of the cluster signed this request, which has no body."""
    if _signed_body(request, node) != EMPTY_BODY_SHA256:
        raise NotSigned("The body is not the one that was signed.")


def _signed_body(request: Request, node: Node) -> str:
    """Return the SHA-256 that the body must have; NotSigned unless a member signed the request."""
    try:
        signed = node.signer.verify(
            request.header(b"authorization"), request.method, request.target
        )
    except SignatureError as error:
        raise NotSigned(str(error)) from error
    return signed.body_sha256


def _file_name(value: str) -> str:
    try:
        return clean_file_name(value)
    except WireError as error:
        raise BadName(str(error)) from error
