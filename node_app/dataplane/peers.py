"""`/internal/blobs/<md5>`: how peers store, read and take back replicas. Signed.

`/internal/blobs/` takes many small ones at once, `/internal/receipts` what has no name yet,
`/internal/scrub` begins to read all again.
"""

import hashlib
from contextlib import ExitStack
from typing import Any

from mini_dropbox.signing import EMPTY_BODY_SHA256, SignatureError
from mini_dropbox.wire import SHA256_PATTERN, WireError, clean_file_name
from node_app.blobwriter import BlobWriter, Digests
from node_app.commits import Incoming, Outcome
from node_app.dataplane.form import media_type
from node_app.dataplane.http import Request, check_complete, error_body
from node_app.dataplane.receiving import PipedWriter, read_body
from node_app.dataplane.retrieve import serve_own
from node_app.errors import (
    BadHash,
    BadName,
    DigestMismatch,
    LengthRequired,
    NodeError,
    NothingToScrub,
    NotSigned,
    ReceiptGone,
    TooLarge,
)
from node_app.node import Node
from node_app.replica_batch import MAX_MESSAGE_BYTES, decode


async def put_replica(request: Request, node: Node, blob_hash: str) -> None:
    """Store a peer's replica; it counts only when its bytes are those that were signed."""
    announced = request.content_length()
    if announced is None:
        raise LengthRequired("Say how long the replica is: send Content-Length.")
    signed, query = signed_body(request, node), request.query()
    node.replicator.check_refusal()
    name = _file_name(query.get("name", "unnamed"))
    content_type = media_type(name, query.get("content_type"))
    with node.upload_in_flight(), _writer(node, blob_hash, query.get("receipt")) as writer:
        if "receipt" not in query:
            await read_body(request, PipedWriter(writer, node.run, announced))
        # The query is signed as well.
        _check(writer.digests(), blob_hash, query.get("sha256", signed))
        deduplicated = await node.run(
            node.store.commit, writer, name=name, content_type=content_type
        )
    await request.respond_json(200, {"success": True, "deduplicated": deduplicated})


def _writer(node: Node, blob_hash: str, receipt: str | None) -> BlobWriter:
    """Return a new writer, or one with what was sent ahead; ReceiptGone when there is none."""
    if receipt is None:
        return node.store.writer()
    writer = node.receipts.take(receipt)
    if writer is None:
        raise ReceiptGone("What was sent ahead is not here any more; send the replica.")
    # Only the content that the peer has hashed can have the SHA-256 that it signed.
    writer.tell_md5(blob_hash)
    return writer


def _check(digests: Digests, blob_hash: str, sha256: str) -> None:
    if digests.sha256 != sha256:
        raise NotSigned("The body is not the one that was signed.")
    if digests.md5 != blob_hash:
        raise DigestMismatch("The replica's bytes do not have this MD5.")


async def take_ahead(request: Request, node: Node) -> None:
    """Receive a content whose digests are not known yet, and give a receipt for it.

    What was received counts for nothing until a signed request names the digests. Its SHA-256 is
    enough to know it by then: an MD5 takes twice as long, and the peer has computed it.
    """
    check_signature(request, node)
    node.replicator.check_refusal()
    with node.upload_in_flight(), ExitStack() as stack:
        writer = stack.enter_context(node.store.writer(computes_md5=False))
        await read_body(request, PipedWriter(writer, node.run, node.settings.max_file_bytes))
        # The disk need not wait for the peer's next request.
        await node.run(writer.begin_writeback)
        stack.pop_all()
    receipt = node.receipts.give(writer)
    received = {"sha256": writer.sha256, "size": writer.size}
    await request.respond_json(200, {"success": True, "receipt": receipt, **received})


async def put_replicas(request: Request, node: Node) -> None:
    """Store many small replicas of a peer; each has its own outcome."""
    sha256 = signed_body(request, node)
    node.replicator.check_refusal()
    message = await read_into_memory(request, MAX_MESSAGE_BYTES)
    outcomes = await node.run(_store, node, message, sha256)
    await request.respond_json(200, {"success": True, "results": [_result(o) for o in outcomes]})


def _store(node: Node, message: bytes, sha256: str) -> list[Outcome]:
    """Check a message and keep its replicas. Blocks."""
    if hashlib.sha256(message).hexdigest() != sha256:
        raise NotSigned("The body is not the one that was signed.")
    replicas = decode(message)
    with ExitStack() as writers:
        incoming = []
        for head, content in replicas:
            writer = writers.enter_context(node.store.writer())
            writer.write(content)
            if writer.digests().md5 != head.hash:
                raise DigestMismatch("A replica's bytes do not have its MD5.")
            content_type = media_type(head.name, head.content_type)
            incoming.append(Incoming(writer, head.name, content_type))
        return node.store.commit_all(incoming)


def _result(outcome: Outcome) -> dict[str, Any]:
    if isinstance(outcome, NodeError):
        return error_body(outcome)
    return {"success": True, "deduplicated": outcome}


async def read_into_memory(request: Request, limit: int) -> bytes:
    """Return a whole body that has to fit into memory."""
    announced = request.content_length()
    if announced is None:
        raise LengthRequired("Say how long the message is: send Content-Length.")
    if announced > limit:
        raise TooLarge(f"Send at most {limit} bytes at once.")
    body = bytearray()
    while chunk := await request.chunk():
        body += chunk
    check_complete(len(body), announced)
    return bytes(body)


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


async def scrub(request: Request, node: Node) -> None:
    """Begin to read every blob of this node again, and tell how far that is."""
    check_signature(request, node)
    if node.scrubber is None:
        raise NothingToScrub("This node's blobs are in the care of its storage service.")
    node.scrubber.begin_now()
    await request.respond_json(200, await node.run(node.scrubber.progress))


def check_signature(request: Request, node: Node) -> None:
    """NotSigned unless a member of the cluster signed this request, which has no body."""
    if signed_body(request, node) != EMPTY_BODY_SHA256:
        raise NotSigned("The body is not the one that was signed.")


def signed_body(request: Request, node: Node) -> str:
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
