"""Who an address belongs to."""

from typing import Final
from urllib.parse import urlsplit

DEFAULT_PORTS: Final = {"http": 80, "https": 443}


def origin(url: str) -> tuple[str, int]:
    """Return host and port of an http(s) address; ValueError when it has none."""
    parts = urlsplit(url)
    if parts.scheme not in DEFAULT_PORTS or not parts.hostname:
        raise ValueError(url)
    return parts.hostname, parts.port or DEFAULT_PORTS[parts.scheme]
