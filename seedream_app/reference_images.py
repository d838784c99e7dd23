"""Checks the images that a user sends along, before a provider sees them."""

from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from typing import Final

from seedream_app.errors import InvalidReferenceImage
from seedream_app.images import CheckedImage, ImageFormat, ImageRefused, check_image

MAX_REFERENCE_BYTES: Final = 10 * 1024 * 1024
MIN_SIDE_PIXELS: Final = 15
MAX_ASPECT: Final = 16


def check_references(
    references: Mapping[str, bytes], *, formats: AbstractSet[ImageFormat]
) -> tuple[CheckedImage, ...]:
    """Return the images by order of their fields; InvalidReferenceImage names the field."""
    return tuple(_check(field, content, formats) for field, content in references.items())


def _check(field: str, content: bytes, formats: AbstractSet[ImageFormat]) -> CheckedImage:
    if len(content) > MAX_REFERENCE_BYTES:
        raise InvalidReferenceImage(f"{field} is too large: send an image of at most 10 MB.")
    try:
        image = check_image(content, formats=formats)
    except ImageRefused as error:
        raise InvalidReferenceImage(f"{field} cannot be used: {error}.") from error
    short, long = sorted((image.width, image.height))
    if short < MIN_SIDE_PIXELS:
        raise InvalidReferenceImage(
            f"{field} has {image.width}x{image.height} pixels: send at least "
            f"{MIN_SIDE_PIXELS} on each side."
        )
    if long > short * MAX_ASPECT:
        raise InvalidReferenceImage(
            f"{field} has {image.width}x{image.height} pixels: send an image whose long side "
            f"is at most {MAX_ASPECT} times the short one."
        )
    return image
