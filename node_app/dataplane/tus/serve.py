"""Which handler answers what at `/uploads/`, and what all answers have in common."""

from collections.abc import Awaitable, Callable, Mapping
from typing import Final

from node_app.dataplane import cors
from node_app.dataplane.http import Request, header
from node_app.dataplane.tus import headers
from node_app.dataplane.tus.creation import create
from node_app.dataplane.tus.resource import delete, head, patch
from node_app.errors import MethodNotAllowed, UnsupportedVersion, UploadNotFound
from node_app.node import Node

PATH: Final = headers.PATH

OneUpload = Callable[[Request, Node, str], Awaitable[None]]

RESOURCE: Final[Mapping[str, OneUpload]] = {"HEAD": head, "PATCH": patch, "DELETE": delete}


async def serve(request: Request, node: Node) -> None:
    """Answer a request to `/uploads/` or to an upload below it."""
    upload_id = request.path.removeprefix(headers.PATH)
    method = request.header(b"x-http-method-override") or request.method
    version = header(b"tus-version", headers.VERSION)
    request.extra_headers.append(header(b"tus-resumable", headers.VERSION))
    if method == "OPTIONS":
        request.extra_headers += [
            version,
            header(b"tus-extension", headers.EXTENSIONS),
            header(b"tus-max-size", node.settings.max_file_bytes),
            header(b"tus-checksum-algorithm", ",".join(headers.CHECKSUMS)),
        ]
        await cors.preflight(request, ["POST", *RESOURCE])
        return
    if method not in (RESOURCE if upload_id else {"POST"}):
        raise MethodNotAllowed(RESOURCE if upload_id else ["POST"])
    if request.header(b"tus-resumable") != headers.VERSION:
        request.extra_headers.append(version)
        raise UnsupportedVersion(f"Send Tus-Resumable: {headers.VERSION}, the version spoken here.")
    if not upload_id:
        await create(request, node)
    elif headers.UPLOAD_ID.fullmatch(upload_id):
        await RESOURCE[method](request, node, upload_id)
    else:
        raise UploadNotFound("There is no such upload.")
