"""What a client takes a body in (RFC 9110, section 12.5.3)."""

import re
from typing import Final

_CODING: Final = re.compile(
    r"[ \t]*([!#$%&'*+.^_`|~\w-]+)[ \t]*(?:;[ \t]*q=(0(?:\.\d{0,3})?|1(?:\.0{0,3})?)[ \t]*)?",
    re.ASCII | re.IGNORECASE,
)


def prefers(accepted: str | None, encoding: str) -> bool:
    """Tell whether an Accept-Encoding names `encoding`, and rates `identity` no higher.

    `*` alone is not taken as a name: those who send it often know none.
    """
    weights = {}
    for part in (accepted or "").split(","):
        if match := _CODING.fullmatch(part):
            weights[match[1].lower()] = float(match[2] or 1)
    weight = weights.get(encoding, 0.0)
    return weight > 0 and weight >= weights.get("identity", 0.0)
