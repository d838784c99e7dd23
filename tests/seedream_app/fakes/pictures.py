"""Images to send and to receive in tests."""

from io import BytesIO

from PIL import Image


def picture(width: int = 64, height: int = 48, kind: str = "PNG", colour: str = "teal") -> bytes:
    """Return a whole image file of one colour."""
    buffer = BytesIO()
    Image.new("RGB", (width, height), colour).save(buffer, kind)
    return buffer.getvalue()
