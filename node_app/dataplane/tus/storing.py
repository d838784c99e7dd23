"""Makes a blob of an upload that has come in whole."""

from node_app.dataplane.form import media_type
from node_app.node import Node
from node_app.uploads import Upload


async def store(node: Node, upload: Upload) -> Upload:
    """Replicate and register the upload as any other; whatever fails, it can be tried again."""
    with node.upload_in_flight():
        with await node.run(node.uploads.open, upload) as file:
            await node.run(file.catch_up)
            name = upload.name or file.digests().md5
            content_type = media_type(name, upload.content_type)
            stored = await node.store_upload(file, name=name, content_type=content_type)
        finished: Upload = await node.run(node.uploads.finish, upload, stored.to_json())
        # The upload's own name for the bytes has gone.
        await node.run(node.store.follow_stamp, stored.hash)
        return finished
