"""The fields of answers about blobs."""

import mimetypes
from typing import Final

from mini_dropbox.asgi_types import Headers
from node_app.compression import ENCODING
from node_app.dataplane.encodings import prefers
from node_app.dataplane.http import Request, attachment, header

COMMON: Final[Headers] = [
    (b"cache-control", b"public, max-age=31536000, immutable"),
    (b"vary", b"accept-encoding"),
    (b"x-content-type-options", b"nosniff"),
    (b"content-security-policy", b"default-src 'none'; sandbox"),
]


def blob_headers(etag: str) -> Headers:
    """Return what every answer about a blob begins with."""
    return [header(b"etag", etag), (b"accept-ranges", b"bytes"), *COMMON]


def naming(name: str) -> Headers:
    """Return the type and name to save under; never one that a browser would run in place."""
    media_type = mimetypes.guess_type(name)[0] or "application/octet-stream"
    return [
        header(b"content-type", media_type),
        header(b"content-disposition", attachment(name)),
    ]


def takes_frames(request: Request) -> bool:
    """Tell whether the client would rather have a compressed blob as it is stored."""
    return prefers(request.header(b"accept-encoding"), ENCODING)
