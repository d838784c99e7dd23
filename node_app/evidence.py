"""What is written down beside a copy that is set aside."""

import json
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from node_app.blobwriter import Digests

# The name of the bytes with this behind it.
SUFFIX: Final = ".json"


@dataclass(frozen=True)
class Evidence:
    """Why a copy was set aside. `at` is in unix seconds, sizes are bytes.

    `expected` is None for a copy that the index did not know; `found` for one that could not be
    read or decompressed.
    """

    hash: str
    reason: str
    found_by: str
    at: float
    expected: Digests | None
    found: Digests | None

    def text(self, **file: Any) -> str:
        """Return it as JSON; `file` is what the back end knows of the file itself."""
        fields = {
            "hash": self.hash,
            "reason": self.reason,
            "found_by": self.found_by,
            "at": datetime.fromtimestamp(self.at, UTC).isoformat(),
            "expected": _fields(self.expected),
            "found": _fields(self.found),
            "file": file,
        }
        return json.dumps(fields, indent=2) + "\n"


def _fields(digests: Digests | None) -> dict[str, Any] | None:
    return None if digests is None else dict(vars(digests))
