"""Tells real images from other bytes, by decoding them within bounds."""

import base64
import enum
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from io import BytesIO
from typing import Final

from PIL import Image

# What Seedream takes as a reference; the largest result has less than half of it.
MAX_PIXELS: Final = 36_000_000


class ImageFormat(enum.StrEnum):
    """The image types that Seedream takes and makes."""

    JPEG = "jpeg"
    PNG = "png"
    WEBP = "webp"
    BMP = "bmp"
    TIFF = "tiff"
    GIF = "gif"

    @property
    def content_type(self) -> str:
        return f"image/{self.value}"

    @property
    def extension(self) -> str:
        return "jpg" if self is ImageFormat.JPEG else self.value


ALL_FORMATS: Final = frozenset(ImageFormat)
# Cameras append further pictures to a JPEG, and Pillow then calls the file MPO.
_FORMATS_OF_PILLOW: Final = {"MPO": ImageFormat.JPEG} | {kind.name: kind for kind in ImageFormat}


class ImageRefused(Exception):
    """Bytes that are not an image within the bounds; the text says why."""


@dataclass(frozen=True, kw_only=True)
class CheckedImage:
    """An image that was decoded whole; sides in pixels."""

    content: bytes = field(repr=False)
    format: ImageFormat
    width: int
    height: int

    def data_uri(self) -> str:
        """Return an address that holds the image itself, with the type that the bytes have."""
        encoded = base64.b64encode(self.content).decode()
        return f"data:{self.format.content_type};base64,{encoded}"


def check_image(content: bytes, *, formats: AbstractSet[ImageFormat]) -> CheckedImage:
    """Return what `content` is; ImageRefused unless it is a whole image of one of `formats`.

    The type is what the bytes say, whatever a name or a header claims.
    """
    wanted = ", ".join(sorted(formats))
    try:
        image = _decode(content)
    except ImageRefused:
        raise
    # Decoders fed with hostile bytes raise about anything, and each of it means the same.
    except Exception as error:
        message = f"it is not a whole image of a known type ({wanted})"
        raise ImageRefused(message) from error
    if image.format not in formats:
        raise ImageRefused(f"it is {image.format}, and only {wanted} will do")
    return image


def _decode(content: bytes) -> CheckedImage:
    names = [kind.name for kind in ImageFormat]
    with Image.open(BytesIO(content), formats=names) as image:
        width, height = image.size
        # The header is all that has been read so far: a bomb goes off when it is decoded.
        if width * height > MAX_PIXELS:
            raise ImageRefused(
                f"it has {width}x{height} pixels, and at most {MAX_PIXELS // 10**6} million will do"
            )
        kind = _FORMATS_OF_PILLOW[image.format or ""]
        image.verify()
    # `verify` checks sums and leaves the image used up; only decoding finds a cut-off end.
    with Image.open(BytesIO(content), formats=names) as image:
        image.load()
    return CheckedImage(content=content, format=kind, width=width, height=height)
