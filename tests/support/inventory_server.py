"""A node as far as its inventory goes, over real HTTP on loopback; it checks signatures."""

import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

from mini_dropbox.signing import Signer
from mini_dropbox.wire import INVENTORY_NAMES_PATH, Holding

SECRET = "the secret of the tests"


@dataclass
class InventoryServer:
    """What it has, who it is, and how many more answers it gives before it fails."""

    identity: dict[str, str]
    holdings: list[Holding] = field(default_factory=list)
    further: list[Holding] = field(default_factory=list)
    answers_left: int | None = None
    url: str = ""

    def page(self, query: dict[str, str]) -> dict[str, Any]:
        limit = int(query["limit"])
        ordered = sorted(self.holdings, key=lambda each: each.hash)
        page = [each for each in ordered if each.hash > query.get("after", "")][:limit]
        following = page[-1].hash if len(page) == limit else None
        return {**self.identity, "total": len(ordered), "blobs": _json(page), "next": following}

    def names(self, query: dict[str, str]) -> dict[str, Any]:
        limit, last = int(query["limit"]), (query.get("after", ""), query.get("after_name", ""))
        ordered = sorted(self.further, key=lambda each: (each.hash, each.name))
        page = [each for each in ordered if (each.hash, each.name) > last][:limit]
        following = None
        if len(page) == limit:
            following = {"after": page[-1].hash, "after_name": page[-1].name}
        return {"blobs": _json(page), "next": following}

    def found(self, message: bytes) -> dict[str, Any]:
        hashes = json.loads(message)["hashes"]
        return {"blobs": _json([each for each in self.holdings if each.hash in hashes])}


def _json(page: list[Holding]) -> list[dict[str, Any]]:
    return [each.to_json() for each in page]


@contextmanager
def serve_inventory(**identity: str) -> Iterator[InventoryServer]:
    state = InventoryServer(identity)
    signer = Signer(SECRET, "node")

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            self._check(b"")
            parts = urlsplit(self.path)
            query = {name: values[0] for name, values in parse_qs(parts.query).items()}
            answer = state.names if parts.path == INVENTORY_NAMES_PATH else state.page
            self._answer(answer(query))

        def do_POST(self) -> None:
            message = self.rfile.read(int(self.headers["Content-Length"]))
            self._check(message)
            self._answer(state.found(message))

        def _check(self, message: bytes) -> None:
            signed = signer.verify(self.headers["Authorization"], self.command, self.path)
            assert signed.body_sha256 == hashlib.sha256(message).hexdigest()

        def _answer(self, answer: dict[str, Any]) -> None:
            status = 200
            if state.answers_left is not None:
                state.answers_left -= 1
                status = 200 if state.answers_left >= 0 else 503
            body = json.dumps(answer).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Say nothing: pytest shows what the server answered."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        state.url = f"http://127.0.0.1:{server.server_port}"
        thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
        thread.start()
        try:
            yield state
        finally:
            server.shutdown()
            thread.join()
