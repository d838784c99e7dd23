"""`POST /upload`: from the client's bytes to replicas, a row and an answer."""

from node_app.dataplane.form import read_form
from node_app.dataplane.http import Request
from node_app.dataplane.receiving import PipedWriter
from node_app.node import Node, StoredUpload


async def upload(request: Request, node: Node) -> None:
    """Receive a form's file, store R durable replicas, register it, and answer."""
    node.replicator.check_quorum()
    with node.upload_in_flight():
        stored = await _receive_and_store(request, node)
    answer = {"success": True, "message": "File Upload Successful", **stored.to_json()}
    await request.respond_json(200, answer)


async def _receive_and_store(request: Request, node: Node) -> StoredUpload:
    limit = node.settings.max_upload_bytes
    with node.store.writer() as writer:
        output = PipedWriter(writer, node.run, limit)
        announced = request.content_length()
        async with node.replicator.send_ahead(writer, output.growth, announced) as early:
            try:
                file = await read_form(request, output, limit)
            finally:
                await output.settle()
            return await node.store_upload(
                writer, name=file.name, content_type=file.content_type, early=early
            )
