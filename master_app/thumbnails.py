"""Small pictures of stored images: made once, kept under the master's folder, served for ever.

A blob never changes, so neither does its thumbnail. The sources are strangers' bytes: they are
bounded in bytes and in pixels before they are decoded, and only formats of pixels are opened.
"""

import contextlib
import hashlib
import io
import logging
import os
import secrets
import struct
import threading
import zlib
from functools import reduce
from operator import or_
from pathlib import Path
from typing import Final

from django.conf import settings
from django.db.models import Q
from django.urls import reverse
from PIL import Image, ImageOps

from master_app import node_client, selectors
from master_app.errors import (
    BlobUnavailable,
    ImageTooLarge,
    NoHealthyNode,
    NotAnImage,
    UnknownImage,
)
from master_app.models import Blob, File
from mini_dropbox.wire import is_blob_hash

logger = logging.getLogger(__name__)

MAX_SOURCE_BYTES: Final = 20 * 2**20
MAX_SOURCE_PIXELS: Final = 50_000_000
# What Pillow's decoders raise at bytes that break the rules of their format.
DECODER_ERRORS: Final = (
    OSError,
    SyntaxError,
    ValueError,
    LookupError,
    TypeError,
    ArithmeticError,
    EOFError,
    struct.error,
    zlib.error,
)

SIDE_PIXELS: Final = 320
WEBP_QUALITY: Final = 80

# Pillow opens many more; every one left out is a decoder that strangers cannot reach.
FORMATS: Final = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF")
CONTENT_TYPES: Final = frozenset(
    {"image/jpeg", "image/png", "image/webp", "image/gif", "image/bmp", "image/tiff"}
)
NAME_SUFFIXES: Final = (".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff")

# Requests come in as many threads as there are clients; memory has room for this many
# sources, of 20 MB at most, and for this many decoded pictures, of 200 MB at most.
_fetching = threading.BoundedSemaphore(8)
_decoding = threading.BoundedSemaphore(2)


# The same as `looks_like_image`, for the database.
IMAGE_NAMES: Final = reduce(
    or_,
    (Q(name__iendswith=suffix) for suffix in NAME_SUFFIXES),
    Q(content_type__in=CONTENT_TYPES),
)


def looks_like_image(file: File) -> bool:
    """Tell whether type or name of a file promise one of the formats that are opened here."""
    return file.content_type in CONTENT_TYPES or file.name.lower().endswith(NAME_SUFFIXES)


def thumbnail_url(file: File) -> str | None:
    """Return where the thumbnail of a file is; None when there cannot be one."""
    blob = file.blob
    if not _is_servable(blob) or not looks_like_image(file):
        return None
    return reverse("thumbnail", args=(blob.hash,))


def thumbnail_of(*, blob_hash: str) -> bytes:
    """Return the thumbnail of a blob as WebP, made on first demand.

    UnknownImage unless a file with this hash is called an image, NotAnImage or ImageTooLarge
    when its bytes can never have one, BlobUnavailable when no node gives them now.
    """
    if not is_blob_hash(blob_hash):
        raise UnknownImage("A thumbnail's address ends in an MD5: 32 lower-case hex digits.")
    path = _path(blob_hash)
    with contextlib.suppress(OSError):
        return path.read_bytes()
    with _fetching:
        thumbnail = make_thumbnail(_source(blob_hash))
    try:
        _keep(path, thumbnail)
    except OSError as error:
        # What is kept only saves work; it is made anew the next time.
        logger.warning("The thumbnail of %s cannot be kept: %s", blob_hash, error)
    return thumbnail


def make_thumbnail(source: bytes) -> bytes:
    """Return `source`, an image file, as WebP of at most 320 by 320 pixels, upright.

    NotAnImage unless it is a whole image of a known format, ImageTooLarge when its header
    announces more pixels than are decoded here.
    """
    try:
        with Image.open(io.BytesIO(source), formats=FORMATS) as image:
            if image.width * image.height > MAX_SOURCE_PIXELS:
                raise ImageTooLarge(f"The image has more than {MAX_SOURCE_PIXELS:,} pixels.")
            with _decoding:
                return _shrink(image)
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise ImageTooLarge(f"The image has more than {MAX_SOURCE_PIXELS:,} pixels.") from error
    except DECODER_ERRORS as error:
        raise NotAnImage("These bytes are not an image that can be shown.") from error


def _shrink(image: Image.Image) -> bytes:
    if image.mode in {"1", "P"}:
        # Colours of a palette cannot be mixed, so shrinking would only drop pixels.
        image = _in_true_colour(image)
    # Shrinking before turning lets the JPEG decoder skip most of the work and of the memory.
    image.thumbnail((SIDE_PIXELS, SIDE_PIXELS), reducing_gap=2.0)
    upright = _in_true_colour(ImageOps.exif_transpose(image))
    out = io.BytesIO()
    upright.save(out, "WEBP", quality=WEBP_QUALITY, exif=b"", icc_profile=None)
    return out.getvalue()


def _in_true_colour(image: Image.Image) -> Image.Image:
    if image.mode in {"RGB", "RGBA"}:
        return image
    return image.convert("RGBA" if image.has_transparency_data else "RGB")


def _source(blob_hash: str) -> bytes:
    """Return the bytes of a blob that some file calls an image, checked against its hash."""
    blob = selectors.blob_named_by(blob_hash=blob_hash, names=IMAGE_NAMES)
    if blob is None:
        raise UnknownImage("No file with this hash is called an image.")
    if blob.size > MAX_SOURCE_BYTES:
        raise ImageTooLarge(f"The file has more than {MAX_SOURCE_BYTES:,} bytes.")
    if not blob.verified:
        raise BlobUnavailable("No node has confirmed these bytes.")
    try:
        content = node_client.fetch(
            nodes=blob.holders(), blob_hash=blob_hash, max_bytes=MAX_SOURCE_BYTES
        )
    except (node_client.NodeRequestError, NoHealthyNode) as error:
        raise BlobUnavailable("No node gives these bytes now; try again in a moment.") from error
    if hashlib.md5(content, usedforsecurity=False).hexdigest() != blob_hash:
        logger.error("A node answered other bytes than those of %s", blob_hash)
        raise BlobUnavailable("A node answered other bytes; try again in a moment.")
    return content


def _is_servable(blob: Blob) -> bool:
    return blob.verified and blob.size <= MAX_SOURCE_BYTES and is_blob_hash(blob.hash)


def _path(blob_hash: str) -> Path:
    directory: Path = settings.MASTER_DIR / "thumbnails"
    return directory / blob_hash[:2] / f"{blob_hash}.webp"


def _keep(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix(f".{secrets.token_hex(8)}.tmp")
    try:
        with temporary.open("xb") as file:
            file.write(content)
            file.flush()
            # Without this a power cut can leave an empty file, which would be served for ever.
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
