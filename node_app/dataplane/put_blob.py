"""`PUT /blobs/<md5>`: the plain way to send a file of any size whose MD5 is known."""

from typing import Final
from urllib.parse import unquote_to_bytes

from mini_dropbox.wire import WireError, clean_file_name, is_blob_hash
from node_app.dataplane.form import media_type
from node_app.dataplane.http import Request
from node_app.dataplane.receiving import PipedWriter, read_body
from node_app.errors import BadHash, BadName, DigestMismatch, LengthRequired, TooLarge
from node_app.node import Node, StoredUpload

PATH: Final = "/blobs/"


async def put_blob(request: Request, node: Node) -> None:
    """Receive the body, store R durable replicas if it has this MD5, register it, and answer."""
    blob_hash = request.path.removeprefix(PATH)
    if not is_blob_hash(blob_hash):
        raise BadHash("A blob's address is its MD5, 32 lower-case hex digits.")
    name = _file_name(request, blob_hash)
    announced = request.content_length()
    if announced is None:
        raise LengthRequired("Say how long the body is: send Content-Length.")
    limit = node.settings.max_file_bytes
    if announced > limit:
        raise TooLarge(f"The file is over the limit of {limit} bytes.")
    node.replicator.check_quorum()
    with node.upload_in_flight():
        stored = await _receive_and_store(request, node, blob_hash, name)
    answer = {"success": True, "message": "File Upload Successful", **stored.to_json()}
    await request.respond_json(200, answer)


async def _receive_and_store(
    request: Request, node: Node, blob_hash: str, name: str
) -> StoredUpload:
    with node.store.writer() as writer:
        output = PipedWriter(writer, node.run, node.settings.max_file_bytes)
        announced = output.growth.total = request.content_length()
        async with node.replicator.send_ahead(writer, output.growth, announced, blob_hash) as early:
            await read_body(request, output)
            if writer.digests().md5 != blob_hash:
                raise DigestMismatch("The bytes do not have this MD5; nothing of them is kept.")
            content_type = media_type(name, request.header(b"content-type"))
            return await node.store_upload(
                writer, name=name, content_type=content_type, early=early
            )


def _file_name(request: Request, blob_hash: str) -> str:
    """Return the name in `X-File-Name`, percent-encoded UTF-8; a file without one has its hash."""
    value = request.headers.get(b"x-file-name")
    if value is None:
        return blob_hash
    try:
        return clean_file_name(unquote_to_bytes(value).decode())
    except UnicodeDecodeError as error:
        raise BadName("X-File-Name is not UTF-8; send it percent-encoded.") from error
    except WireError as error:
        raise BadName(str(error)) from error
