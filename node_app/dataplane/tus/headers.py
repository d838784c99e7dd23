"""What the headers of tus 1.0 say, read and written."""

import base64
import binascii
import re
import time
from dataclasses import dataclass
from email.utils import formatdate
from typing import Final

from mini_dropbox.asgi_types import Headers
from mini_dropbox.wire import MAX_SIZE, WireError, clean_file_name
from node_app.dataplane.form import MAX_CONTENT_TYPE
from node_app.dataplane.http import Request, header
from node_app.errors import BadHeader, BadName, UnsupportedMediaType
from node_app.uploads import EXPIRY_SECONDS, PARTIAL, Upload

VERSION: Final = "1.0.0"
PATH: Final = "/uploads/"
BODY_TYPE: Final = "application/offset+octet-stream"
EXTENSIONS: Final = (
    "creation,creation-with-upload,creation-defer-length,termination,expiration,checksum,"
    "concatenation"
)
CHECKSUMS: Final = ("md5", "sha1", "sha256")

UPLOAD_ID: Final = re.compile(r"[0-9a-f]{40}")
_NUMBER: Final = re.compile(r"[0-9]+")
_KEY: Final = re.compile(r"[!-+\--~]+")
# More digits than the largest size has.
_MANY_DIGITS: Final = 19
# The words that clients use for a file's name and type; the first that is there counts.
_NAME_KEYS: Final = ("filename", "name")
_TYPE_KEYS: Final = ("filetype", "type", "contentType")


@dataclass(frozen=True)
class Checksum:
    """What the bytes of one request must hash to."""

    algorithm: str
    digest: bytes


@dataclass(frozen=True)
class FileWords:
    """What the metadata say of the file; empty where they say nothing."""

    name: str
    content_type: str


def number(request: Request, name: bytes) -> int | None:
    """Return a header's number of bytes, or None without the header; BadHeader for anything else.

    What is beyond every size comes as one that is over every limit.
    """
    value = request.header(name)
    if value is None:
        return None
    if not _NUMBER.fullmatch(value):
        raise BadHeader(f"{_spelled(name)} takes a number of bytes, 0 or more.")
    digits = value.lstrip("0") or "0"
    return min(int(digits), MAX_SIZE) if len(digits) <= _MANY_DIGITS else MAX_SIZE


def check_body_type(request: Request) -> None:
    """UnsupportedMediaType unless the body is declared as an upload's bytes."""
    if request.header(b"content-type") != BODY_TYPE:
        raise UnsupportedMediaType(f"Send the bytes with Content-Type: {BODY_TYPE}.")


def file_words(metadata: str) -> FileWords:
    """Return the file's name and type out of an Upload-Metadata header.

    BadHeader when the header is not as the protocol says, BadName for a name that cannot be used.
    """
    pairs = _pairs(metadata)
    name = next((pairs[key] for key in _NAME_KEYS if pairs.get(key)), b"")
    content_type = next((pairs[key] for key in _TYPE_KEYS if pairs.get(key)), b"")
    return FileWords(
        name=_file_name(name) if name else "",
        content_type=content_type[: MAX_CONTENT_TYPE + 1].decode("latin-1"),
    )


def checksum(request: Request) -> Checksum | None:
    """Return what the request's bytes should hash to; BadHeader when that cannot be told."""
    value = request.header(b"upload-checksum")
    if value is None:
        return None
    algorithm, _, text = value.partition(" ")
    if algorithm not in CHECKSUMS:
        raise BadHeader(f"Upload-Checksum takes one of {', '.join(CHECKSUMS)}, and the digest.")
    return Checksum(algorithm, _base64(text, "Upload-Checksum"))


def part_ids(concat: str) -> list[str]:
    """Return the ids of a final upload's parts, from `final;/uploads/a /uploads/b`."""
    ids = [url.rpartition(PATH)[2] for url in concat.partition(";")[2].split()]
    if not ids or not all(UPLOAD_ID.fullmatch(each) for each in ids):
        raise BadHeader("Upload-Concat takes 'final;' and the addresses of the parts.")
    return ids


def progress(upload: Upload) -> Headers:
    """Return how far an upload is, when it would be forgotten, and what has become of it."""
    remaining = max(0.0, EXPIRY_SECONDS - upload.idle_seconds)
    return [
        header(b"upload-offset", upload.offset),
        header(b"upload-expires", formatdate(time.time() + remaining, usegmt=True)),
        *_stored(upload),
    ]


def description(upload: Upload) -> Headers:
    """Return what the client itself has said of an upload."""
    headers = []
    if upload.length is None:
        headers.append(header(b"upload-defer-length", 1))
    else:
        headers.append(header(b"upload-length", upload.length))
    if upload.metadata:
        headers.append(header(b"upload-metadata", upload.metadata))
    if upload.concat:
        headers.append(header(b"upload-concat", upload.concat))
    return headers


def concat_kind(value: str) -> str:
    """Return `value` of an Upload-Concat header if it can be understood, else BadHeader."""
    if value not in {"", PARTIAL} and not value.startswith("final;"):
        raise BadHeader("Upload-Concat takes 'partial', or 'final;' and the parts' addresses.")
    return value


def _stored(upload: Upload) -> Headers:
    if upload.stored is None:
        return []
    stored = upload.stored
    return [
        header(b"x-blob-hash", stored["hash"]),
        header(b"x-blob-sha256", stored["sha256"]),
        header(b"x-blob-replicas", ",".join(stored["replicas"])),
        header(b"x-blob-registered", _yes_no(stored["registered"])),
        header(b"x-blob-deduplicated", _yes_no(stored["deduplicated"])),
    ]


def _yes_no(value: object) -> str:
    return "true" if value else "false"


def _pairs(metadata: str) -> dict[str, bytes]:
    pairs: dict[str, bytes] = {}
    for text in metadata.split(",") if metadata.strip() else ():
        key, _, value = text.strip().partition(" ")
        if not _KEY.fullmatch(key) or key in pairs:
            raise BadHeader("Upload-Metadata takes pairs 'key base64', with commas, each key once.")
        pairs[key] = _base64(value.strip(), "Upload-Metadata")
    return pairs


def _base64(text: str, name: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise BadHeader(f"{name} has a value that is not base64.") from error


def _file_name(value: bytes) -> str:
    try:
        return clean_file_name(value.decode())
    except UnicodeDecodeError as error:
        raise BadName("The file's name is not UTF-8; send its UTF-8 bytes in base64.") from error
    except WireError as error:
        raise BadName(str(error)) from error


def _spelled(name: bytes) -> str:
    return name.decode().title()
