"""What the S3 back end of django-storages needs beside Django's interface: ranges and patience.

Its files are seekable only after a full download into memory (`S3File.file`), and its client
waits ten minutes for a service that is away.
"""

import threading
from typing import Any, Final

from boto3.s3.transfer import S3Transfer
from botocore.config import Config
from storages.backends.s3 import S3File, S3Storage

from node_app.errors import StoreFailed

# A reader that goes on where it stopped gets more at a time, up to this much, because each
# request costs a round trip.
MAX_WINDOW_BYTES: Final = 4 * 1024 * 1024

CLIENT_CONFIG: Final = Config(
    connect_timeout=2,
    read_timeout=10,
    retries={"total_max_attempts": 2, "mode": "standard"},
    # As many as a node has threads; each upload in parts has a few of its own.
    max_pool_connections=64,
)


def prepare(storage: S3Storage) -> None:
    """Bound the client's patience, and make the client, which finds most mistakes in options."""
    # What the back end was told explicitly stays as it is.
    storage.client_config = CLIENT_CONFIG.merge(storage.client_config)
    # The client is safe to share between threads; making it is not.
    _ = storage.bucket


class S3Reader:
    """Reads an object by ranges; at most two windows of it are in memory at a time."""

    # Nothing that the service tells without being asked shows that the object is unchanged.
    stamp = ""

    def __init__(self, file: S3File, storage: S3Storage) -> None:
        self.size: int = file.size
        self._object: Any = file.obj
        # Kept here, because boto3 forgets an object's attributes with each request.
        self._etag: str = file.obj.e_tag
        parameters = storage.get_object_parameters(file.name)
        # Keys of customers' own encryption are among them.
        allowed = S3Transfer.ALLOWED_DOWNLOAD_ARGS
        self._parameters = {key: parameters[key] for key in parameters.keys() & set(allowed)}
        self._reading = threading.Lock()
        self._window = b""
        self._start = 0

    def read_at(self, offset: int, length: int) -> bytes:
        with self._reading:
            stop = min(offset + length, self.size)
            if stop <= offset:
                return b""
            if not self._start <= offset <= stop <= self._start + len(self._window):
                self._window = self._fetch(offset, self._window_stop(offset, stop))
                self._start = offset
            return self._window[offset - self._start : stop - self._start]

    def close(self) -> None:
        self._window = b""

    def _window_stop(self, offset: int, stop: int) -> int:
        """Return where to stop fetching: further on if this read follows the one before."""
        follows = self._start < offset <= self._start + len(self._window)
        ahead = min(2 * len(self._window), MAX_WINDOW_BYTES) if follows else 0
        return min(max(stop, offset + ahead), self.size)

    def _fetch(self, start: int, stop: int) -> bytes:
        # The condition keeps the bytes of two objects apart when one replaces the other meanwhile.
        answer = self._object.get(
            Range=f"bytes={start}-{stop - 1}", IfMatch=self._etag, **self._parameters
        )
        if answer.get("ContentRange") != f"bytes {start}-{stop - 1}/{self.size}":
            answer["Body"].close()
            raise StoreFailed("The storage service does not serve byte ranges.")
        return bytes(answer["Body"].read())
