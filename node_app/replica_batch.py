"""Many small replicas in one message: how peers tell one another of what came at the same time.

The message is the length of a JSON list, four bytes, big-endian; the list, which says of each
replica its hash, size, name and media type; and the replicas' bytes, one after another.
"""

import json
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from mini_dropbox.wire import WireError, clean_file_name, is_blob_hash
from node_app.batching import MAX_ITEMS
from node_app.errors import BadForm

# A larger replica streams in a message of its own.
SMALL_BYTES: Final = 64 * 1024
MAX_HEAD_BYTES: Final = MAX_ITEMS * 4 * 1024
MAX_MESSAGE_BYTES: Final = 4 + MAX_HEAD_BYTES + MAX_ITEMS * SMALL_BYTES

_LENGTH: Final = struct.Struct(">I")


@dataclass(frozen=True)
class ReplicaHead:
    """What is said of one replica; `size` in bytes."""

    hash: str
    size: int
    name: str
    content_type: str


def encode(replicas: Sequence[tuple[ReplicaHead, bytes]]) -> bytes:
    """Return the message that carries these replicas."""
    head = json.dumps([vars(head) for head, _ in replicas]).encode()
    return b"".join([_LENGTH.pack(len(head)), head, *(content for _, content in replicas)])


def decode(message: bytes) -> list[tuple[ReplicaHead, memoryview]]:
    """Return the replicas of a message; BadForm when it is none."""
    heads, start = _heads(message)
    if sum(head.size for head in heads) != len(message) - start:
        raise BadForm("The replicas are not as long as the message's head says.")
    replicas, view = [], memoryview(message)
    for head in heads:
        replicas.append((head, view[start : start + head.size]))
        start += head.size
    return replicas


def _heads(message: bytes) -> tuple[list[ReplicaHead], int]:
    if len(message) < _LENGTH.size:
        raise BadForm("The message is shorter than its own head.")
    start = _LENGTH.size + _LENGTH.unpack_from(message)[0]
    try:
        said = json.loads(message[_LENGTH.size : start])
        return [_head(fields) for fields in said], start
    except (ValueError, TypeError, WireError, RecursionError) as error:
        raise BadForm(f"The message's head says nothing usable: {error}.") from error


def _head(fields: Any) -> ReplicaHead:
    head = ReplicaHead(**fields)
    if not is_blob_hash(head.hash) or type(head.size) is not int or head.size < 0:
        raise BadForm("A replica is named by its MD5, and has a size.")
    if not isinstance(head.name, str) or not isinstance(head.content_type, str):
        raise BadForm("A replica's name and media type are texts.")
    return ReplicaHead(head.hash, head.size, clean_file_name(head.name), head.content_type)
