"""A storage node for browser tests: real HTTP with CORS, and answers that a test can steer."""

import contextlib
import hashlib
import io
import json
import threading
import time
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

import requests
from multipart import MultipartParser, parse_options_header

from mini_dropbox.signing import Signer
from mini_dropbox.wire import HEARTBEAT_PATH, REGISTRATIONS_PATH, Heartbeat, Registration

HEARTBEAT_SECONDS = 0.5
CHUNK_BYTES = 64 * 1024
GIB = 2**30


@dataclass(frozen=True)
class Upload:
    """One file that the node has taken in full."""

    name: str
    content_type: str
    content: bytes

    @property
    def hash(self) -> str:
        return hashlib.md5(self.content).hexdigest()


@dataclass(frozen=True)
class Refusal:
    """What the node answers instead of taking an upload."""

    status: int
    message: str
    code: str


@dataclass
class MasterAccess:
    """How the node reaches the master."""

    url: str
    secret: str
    http: requests.Session = field(default_factory=requests.Session)

    def post(self, path: str, body: dict[str, Any], node_id: str) -> None:
        content = json.dumps(body).encode()
        signer = Signer(self.secret, node_id)
        headers = {
            "Authorization": signer.sign("POST", path, hashlib.sha256(content).hexdigest()),
            "Content-Type": "application/json",
        }
        self.http.trust_env = False
        with self.http.post(self.url + path, content, headers=headers, timeout=10) as response:
            response.raise_for_status()


class FakeNode:
    """Listens on a free port of loopback, keeps what it gets in memory, and tells the master.

    A test sets `refusal` to have uploads refused, and clears `open_gate` to have them stop in the
    middle of the body until it is set again.
    """

    def __init__(self, master: MasterAccess, node_id: str, origins: tuple[str, ...]) -> None:
        self.node_id = node_id
        self.origins = origins
        self.uploads: list[Upload] = []
        self.requests: list[str] = []
        self.refusal: Refusal | None = None
        self.open_gate = threading.Event()
        self.open_gate.set()
        self.writable = True
        self.busy = 0
        self.most_at_once = 0
        self.lock = threading.Lock()
        self._master = master
        self._stopped = threading.Event()
        self._server = _Server(self)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        self._threads = [
            threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True),
            threading.Thread(target=self._beat, daemon=True),
        ]

    def start(self) -> None:
        self._heartbeat()
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        self.open_gate.set()
        self._stopped.set()
        self.stop_listening()
        self._threads[1].join()

    def stop_listening(self) -> None:
        """Refuse connections from here on; heartbeats go on, so the master still counts on it."""
        self._server.shutdown()
        self._server.server_close()

    def stop_heartbeats(self) -> None:
        self._stopped.set()

    def register(self, upload: Upload) -> None:
        registration = Registration(
            hash=upload.hash,
            sha256=hashlib.sha256(upload.content).hexdigest(),
            size=len(upload.content),
            name=upload.name,
            content_type=upload.content_type,
            replicas=(self.node_id,),
            uploaded_at=time.time(),
        )
        body = {"registrations": [registration.to_json()]}
        self._master.post(REGISTRATIONS_PATH, body, self.node_id)

    def blob(self, blob_hash: str) -> bytes | None:
        return next((each.content for each in self.uploads if each.hash == blob_hash), None)

    def _heartbeat(self) -> None:
        heartbeat = Heartbeat(
            node_id=self.node_id,
            url=self.url,
            version="test",
            capacity_bytes=500 * GIB,
            free_bytes=310 * GIB,
            used_bytes=sum(len(upload.content) for upload in self.uploads),
            blob_count=len(self.uploads),
            writable=self.writable,
        )
        self._master.post(HEARTBEAT_PATH, heartbeat.to_json(), self.node_id)

    def _beat(self) -> None:
        while not self._stopped.wait(HEARTBEAT_SECONDS):
            # The master may be gone at the end of a test before the node is.
            with contextlib.suppress(requests.RequestException):
                self._heartbeat()


class _Server(ThreadingHTTPServer):
    """The listener of one node."""

    daemon_threads = True

    def __init__(self, node: FakeNode) -> None:
        self.node = node
        super().__init__(("127.0.0.1", 0), _Handler)


class _Handler(BaseHTTPRequestHandler):
    """What a node answers."""

    protocol_version = "HTTP/1.1"
    server: _Server

    @property
    def node(self) -> FakeNode:
        return self.server.node

    def do_OPTIONS(self) -> None:
        self.node.requests.append(f"OPTIONS {self.path}")
        self._answer(204, b"", "text/plain")

    def do_POST(self) -> None:
        self.node.requests.append(f"POST {self.path}")
        with self.node.lock:
            self.node.busy += 1
            self.node.most_at_once = max(self.node.most_at_once, self.node.busy)
        try:
            body = self._read_body()
        finally:
            with self.node.lock:
                self.node.busy -= 1
        if self.node.refusal:
            self._answer_json(
                self.node.refusal.status,
                {
                    "success": False,
                    "message": self.node.refusal.message,
                    "code": self.node.refusal.code,
                },
            )
            return
        if body is not None:
            self._take(body)

    def do_GET(self) -> None:
        self.node.requests.append(f"GET {self.path}")
        blob_hash = parse_qs(urlsplit(self.path).query).get("hash", [""])[0]
        content = self.node.blob(blob_hash)
        self._answer(404 if content is None else 200, content or b"", "application/octet-stream")

    def _read_body(self) -> bytes | None:
        """Return the whole body, or None when the client went away in the middle."""
        left = int(self.headers["Content-Length"])
        chunks = []
        while left:
            chunk = self.rfile.read(min(CHUNK_BYTES, left))
            if not chunk:
                return None
            chunks.append(chunk)
            left -= len(chunk)
            self.node.open_gate.wait()
        return b"".join(chunks)

    def _take(self, body: bytes) -> None:
        _, options = parse_options_header(self.headers["Content-Type"])
        part = MultipartParser(io.BytesIO(body), options["boundary"]).get("file")
        upload = Upload(part.filename, part.content_type, part.raw)
        part.close()
        known = self.node.blob(upload.hash) is not None
        self.node.uploads.append(upload)
        self.node.register(upload)
        self._answer_json(
            200,
            {
                "success": True,
                "hash": upload.hash,
                "message": "File Upload Successful",
                "size": len(upload.content),
                "sha256": hashlib.sha256(upload.content).hexdigest(),
                "replicas": [self.node.node_id],
                "registered": True,
                "deduplicated": known,
            },
        )

    def _answer_json(self, status: int, body: dict[str, Any]) -> None:
        self._answer(status, json.dumps(body).encode(), "application/json")

    def _answer(self, status: int, body: bytes, content_type: str) -> None:
        self.send_response(status)
        origin = self.headers.get("Origin")
        if origin in self.node.origins:
            self.send_header("Access-Control-Allow-Origin", origin)
            self.send_header("Access-Control-Allow-Methods", "GET, HEAD, POST, PUT")
            self.send_header("Access-Control-Allow-Headers", "Content-Type")
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Keep pytest's output for failures."""
