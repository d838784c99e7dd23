"""Which web pages may talk to a node: the master's own, and no others."""

from collections.abc import Iterable

from node_app.dataplane.http import Request, header
from node_app.errors import ForeignOrigin
from node_app.node import Node

PREFLIGHT_SECONDS = 600
# What pages may read of an answer, and send with a request.
EXPOSED = (
    "ETag, Content-Range, Content-Disposition, Location, Tus-Resumable, Tus-Version, "
    "Tus-Extension, Tus-Max-Size, Tus-Checksum-Algorithm, Upload-Offset, Upload-Length, "
    "Upload-Defer-Length, Upload-Metadata, Upload-Concat, Upload-Expires, X-Blob-Hash, "
    "X-Blob-Sha256, X-Blob-Replicas, X-Blob-Registered, X-Blob-Deduplicated"
)
TAKEN = (
    "Content-Type, Range, Tus-Resumable, Upload-Offset, Upload-Length, Upload-Defer-Length, "
    "Upload-Metadata, Upload-Concat, Upload-Checksum, X-HTTP-Method-Override, X-File-Name"
)


def check(request: Request, node: Node) -> None:
    """Let the master's pages read the answer; ForeignOrigin for a page of anybody else.

    Programs send no `Origin`. A browser does for a page of another site, which must not be able
    to upload to a node on its visitor's own machine.
    """
    # Also without an origin: a cache must not give that answer, which no page may read, to a page.
    request.extra_headers.append(header(b"vary", "Origin"))
    origin = request.header(b"origin")
    if origin is None:
        return
    if origin not in node.allowed_origins and origin != node.settings.node_url:
        raise ForeignOrigin("Pages of other sites may not use this node.")
    request.extra_headers += [
        header(b"access-control-allow-origin", origin),
        header(b"access-control-expose-headers", EXPOSED),
    ]


async def preflight(request: Request, methods: Iterable[str]) -> None:
    """Answer a browser's question whether a page may send what it wants to send."""
    await request.respond(
        204,
        b"",
        [
            header(b"access-control-allow-methods", ", ".join(methods)),
            header(b"access-control-allow-headers", TAKEN),
            header(b"access-control-max-age", PREFLIGHT_SECONDS),
        ],
    )
