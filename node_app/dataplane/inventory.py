"""`/internal/inventory`: what this node has, page by page, for masters that want to know. Signed.

A blob is told of while its record is there and its bytes seem to be; nothing is read for it.
"""

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import Any, Final

from mini_dropbox.wire import MAX_INVENTORY_PAGE, Holding, WireError, clean_file_name, is_blob_hash
from node_app.blobindex import BlobRecord
from node_app.dataplane.http import Request, json_headers
from node_app.dataplane.peers import check_signature, read_into_memory, signed_body
from node_app.errors import BadHash, BadName, BadQuery, NotSigned
from node_app.node import Node

MAX_MESSAGE_BYTES: Final = 64 * 1024
FOUND_FIELDS: Final = ("hash", "sha256", "size")


async def list_blobs(request: Request, node: Node) -> None:
    """Answer with the blobs that follow the hash `after`, in order, and where the next page is."""
    check_signature(request, node)
    query = request.query()
    after, limit = _hash(query.get("after", "")), _limit(query.get("limit"))

    def page() -> dict[str, Any]:
        records = node.store.page(after, limit)
        return {
            **asdict(node.identity),
            "total": node.store.totals().count,
            "blobs": _holdings(node, records),
            "next": records[-1].hash if len(records) == limit else None,
        }

    await _answer(request, node, page)


async def list_further_names(request: Request, node: Node) -> None:
    """Answer with the same blobs under the names that they came under later.

    In the order of hash and name, from behind `after` and `after_name`.
    """
    check_signature(request, node)
    query = request.query()
    after = (_hash(query.get("after", "")), _name(query.get("after_name", "")))
    limit = _limit(query.get("limit"))

    def page() -> dict[str, Any]:
        records = node.store.further_names(after, limit)
        following = None
        if len(records) == limit:
            following = {"after": records[-1].hash, "after_name": records[-1].name}
        return {"blobs": _holdings(node, records), "next": following}

    await _answer(request, node, page)


async def find_blobs(request: Request, node: Node) -> None:
    """Answer which of the blobs in `{"hashes": [...]}` this node has."""
    sha256 = signed_body(request, node)
    message = await read_into_memory(request, MAX_MESSAGE_BYTES)
    if hashlib.sha256(message).hexdigest() != sha256:
        raise NotSigned("The body is not the one that was signed.")
    hashes = _hashes(message)

    def found() -> dict[str, Any]:
        holdings = _holdings(node, node.store.some(hashes))
        return {"blobs": [{key: each[key] for key in FOUND_FIELDS} for each in holdings]}

    await _answer(request, node, found)


async def _answer(request: Request, node: Node, make: Callable[[], dict[str, Any]]) -> None:
    """Answer with what `make` returns; both run off the event loop."""
    data = await node.run(lambda: json.dumps(make()).encode())
    await request.respond(200, data, json_headers(data))


def _holdings(node: Node, records: Sequence[BlobRecord]) -> list[dict[str, Any]]:
    """Return what is said of the blobs that are there. Blocks on the disk."""
    return [
        Holding(
            hash=record.hash,
            sha256=record.sha256,
            size=record.size,
            name=record.name,
            content_type=record.content_type,
            stored_at=record.stored_at,
        ).to_json()
        for record in records
        if node.store.has(record)
    ]


def _hashes(message: bytes) -> list[str]:
    try:
        hashes = json.loads(message)["hashes"]
    except (ValueError, KeyError, TypeError, RecursionError):
        hashes = None
    if not isinstance(hashes, list) or len(hashes) > MAX_INVENTORY_PAGE:
        raise BadQuery(f'Send {{"hashes": [...]}}, at most {MAX_INVENTORY_PAGE} of them.')
    if not all(isinstance(blob_hash, str) and is_blob_hash(blob_hash) for blob_hash in hashes):
        raise BadHash("A blob's address is its MD5, 32 lower-case hex digits.")
    return hashes


def _hash(value: str) -> str:
    if value and not is_blob_hash(value):
        raise BadHash("Begin after an MD5, 32 lower-case hex digits, or leave `after` out.")
    return value


def _name(value: str) -> str:
    try:
        return value and clean_file_name(value)
    except WireError as error:
        raise BadName(str(error)) from error


def _limit(value: str | None) -> int:
    if value is None:
        return MAX_INVENTORY_PAGE
    if not (value.isascii() and value.isdigit() and 0 < int(value) <= MAX_INVENTORY_PAGE):
        raise BadQuery(f"`limit` takes a number from 1 to {MAX_INVENTORY_PAGE}.")
    return int(value)
