"""Byte ranges and conditions of a request (RFC 9110, sections 13 and 14)."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

# One range; several, or another unit, are answered with the whole, as the RFC allows.
_RANGE: Final = re.compile(r"bytes=[ \t]*(\d{0,19})-(\d{0,19})[ \t]*", re.IGNORECASE)


@dataclass(frozen=True)
class ByteRange:
    """The bytes from `start` up to, but without, `stop`."""

    start: int
    stop: int

    @property
    def length(self) -> int:
        return self.stop - self.start


class Unsatisfiable(Exception):
    """The range begins beyond the end."""


def parse_range(value: str | None, size: int) -> ByteRange | None:
    """Return the asked-for part of `size` bytes, or None for the whole."""
    match = _RANGE.fullmatch(value) if value else None
    if match is None or match.groups() == ("", ""):
        return None
    first, last = match.groups()
    if not first:
        length = min(int(last), size)
        if length == 0:
            raise Unsatisfiable
        return ByteRange(size - length, size)
    start = int(first)
    if last and int(last) < start:
        return None
    if start >= size:
        raise Unsatisfiable
    return ByteRange(start, min(int(last) + 1, size) if last else size)


def matching_etag(value: str, etags: Sequence[str]) -> str | None:
    """Return the first of `etags` (quoted) that an If-None-Match names; weak comparison."""
    named = {part.strip().removeprefix("W/") for part in value.split(",")}
    return next((etag for etag in etags if named & {"*", etag}), None)
