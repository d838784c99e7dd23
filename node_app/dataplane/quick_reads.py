"""Downloads of small blobs that the server answers without calling the application.

Each answer is, byte for byte, the one of `retrieve`. Whatever is out of the ordinary is left to it.
"""

from contextlib import closing
from typing import Final

from mini_dropbox.asgi_types import Headers, Message, Scope
from mini_dropbox.request_stats import Served
from mini_dropbox.wire import is_blob_hash
from node_app.compression import ENCODING
from node_app.dataplane import cors
from node_app.dataplane.blob_headers import blob_headers, naming
from node_app.dataplane.encodings import prefers
from node_app.dataplane.hosts import Hosts
from node_app.dataplane.http import Request, header
from node_app.dataplane.retrieve import INLINE_BYTES, read_small
from node_app.errors import BadHost, NodeError
from node_app.local_blobstore import LocalBlobStore
from node_app.node import Node
from node_app.small_blobs import SmallBlobs

# Some 20,000 blobs of 1 KiB, or 500 of the largest: little beside the process itself. What does
# not fit costs a read more, mostly from the system's own memory.
MEMORY_BYTES: Final = 32 * 1024 * 1024

# What browsers and programs send of which no answer depends, whatever it says.
INDIFFERENT: Final = frozenset(
    {
        b"accept",
        b"accept-language",
        b"cache-control",
        b"dnt",
        b"pragma",
        b"priority",
        b"referer",
        b"sec-fetch-dest",
        b"sec-fetch-mode",
        b"sec-fetch-site",
        b"sec-fetch-user",
        b"sec-gpc",
        b"upgrade-insecure-requests",
        b"user-agent",
    }
)
USUAL: Final = INDIFFERENT | {b"host", b"connection", b"accept-encoding"}

_PREFIX: Final = b"GET /retrieve?hash="
_REQUEST_BYTES: Final = len(_PREFIX) + 32
_ANY_HASH: Final = "0" * 32
_ANY_LENGTH: Final = "<length>"
_END_OF_HEAD: Final = b"\r\n\r\n"


class QuickReads:
    """Whole small blobs of this node's disk, in their plain form, under their own names.

    A copy that does not hash to its name is never kept, nor served: `retrieve` looks elsewhere.
    Answers are counted in `served`, but for how long they took, which costs more than to answer.
    """

    prefix = _PREFIX

    def __init__(self, node: Node, hosts: Hosts, served: Served | None = None) -> None:
        self._node = node
        self._hosts = hosts
        self._texts = SmallBlobs(MEMORY_BYTES)
        self._head = _head_of_any(node)
        # No head ends before this.
        self._shortest = len(self._head) - len(_ANY_LENGTH) - len(_END_OF_HEAD)
        self._served = served or Served()
        self._store: LocalBlobStore | None = None

    def start(self) -> None:
        """Begin to answer, once the node has its store; of an object store only `retrieve` does."""
        store = self._node.store
        self._texts = SmallBlobs(MEMORY_BYTES)
        if isinstance(store, LocalBlobStore):
            store.on_removal = lambda blob_hash: self._texts.forget(blob_hash.encode())
            self._store = store

    def stop(self) -> None:
        """Answer nothing until the next start."""
        self._store = None
        self._texts = SmallBlobs(0)

    def takes(self, scope: Scope) -> bool:
        names = [name for name, _ in scope["headers"]]
        if scope["http_version"] != "1.1" or not USUAL.issuperset(names):
            return False
        request = Request(scope, _receive_nothing, _send_nothing)
        try:
            self._hosts.check(request)
        except BadHost:
            return False
        return (
            len(set(names)) == len(names)
            and request.headers.get(b"connection", b"keep-alive").lower() == b"keep-alive"
            and not prefers(request.header(b"accept-encoding"), ENCODING)
        )

    def answer(self, request: bytes) -> bytes | None:
        """Return the answer without its status and the server's fields."""
        if len(request) != _REQUEST_BYTES or not request.startswith(_PREFIX):
            return None
        key = request[len(_PREFIX) :]
        text = self._texts.get(key) or self._read(key)
        if text is not None:
            served = self._served
            served.answers[2] += 1
            served.sent += len(text) - text.index(_END_OF_HEAD, self._shortest) - 4
        return text

    def _read(self, key: bytes) -> bytes | None:
        blob_hash = key.decode("latin-1")
        if self._store is None or not is_blob_hash(blob_hash):
            return None
        moment = self._texts.moment
        try:
            with closing(self._store.open(blob_hash)) as reader:
                if reader.size > INLINE_BYTES:
                    return None
                content = read_small(reader, blob_hash)
        except NodeError:
            return None
        head = self._head.replace(_ANY_HASH.encode(), key)
        text = head.replace(_ANY_LENGTH.encode(), b"%d" % len(content)) + content
        self._texts.keep(key, text, moment=moment)
        return text


def _head_of_any(node: Node) -> bytes:
    """Return the fields of an answer whose blob and length are to be filled in."""
    request = Request(
        {"method": "GET", "path": "/retrieve", "headers": []}, _receive_nothing, _send_nothing
    )
    cors.check(request, node)
    fields: Headers = [
        *blob_headers(f'"{_ANY_HASH}"'),
        *naming(_ANY_HASH),
        header(b"content-length", _ANY_LENGTH),
        *request.extra_headers,
    ]
    return b"".join(b"%b: %b\r\n" % field for field in fields) + b"\r\n"


# `Request` is asked for its headers here, and never for a body or an answer: a call of these two
# would be a fault of this module.
async def _receive_nothing() -> Message:
    raise NotImplementedError


async def _send_nothing(_: Message) -> None:
    raise NotImplementedError
