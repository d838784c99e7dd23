"""A storage node that takes uploads and keeps them in memory."""

import hashlib
import io

from multipart import MultipartParser, parse_options_header

from tests.seedream_app.fakes.server import Behaviour, FakeServer, Reply, Request


class FakeNode(FakeServer):
    """Answers `POST /upload` as node `node_id` would with the master away."""

    def __init__(self, node_id: str) -> None:
        super().__init__()
        self.node_id = node_id
        self.blobs: dict[str, bytes] = {}
        self.names: list[str] = []

    def answer(self, request: Request) -> Behaviour:
        if (request.method, request.path) != ("POST", "/upload"):
            return Reply(status=404)
        options = parse_options_header(request.headers["Content-Type"])[1]
        form = MultipartParser(io.BytesIO(request.body), options["boundary"])
        part = form.get("file")
        assert part is not None
        content = part.file.read()
        part.close()
        digest = hashlib.md5(content).hexdigest()
        self.blobs[digest] = content
        self.names.append(part.filename)
        return Reply.json(
            {
                "success": True,
                "hash": digest,
                "message": "File Upload Successful",
                "size": len(content),
                "sha256": hashlib.sha256(content).hexdigest(),
                "replicas": [self.node_id],
                "registered": False,
                "deduplicated": False,
            }
        )
