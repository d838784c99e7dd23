"""Which series a PromQL expression asks for, by name and label; enough of the language for ours."""

import re
from typing import Final

_IDENTIFIER: Final = re.compile(r"[a-zA-Z_:][a-zA-Z0-9_:]*")
_SELECTOR: Final = re.compile(r"([a-zA-Z_:][a-zA-Z0-9_:]*)\s*\{([^}]*)\}")
_GROUPING: Final = re.compile(r"\b(?:by|without|on|ignoring|group_left|group_right)\s*\(([^)]*)\)")
_WORDS: Final = frozenset({"and", "or", "unless", "bool", "offset"})


def metrics_of(expression: str) -> set[str]:
    """Return the names of the metrics: what is no function, no word, no label and no text."""
    bare = re.sub(r"\{[^}]*\}|\[[^\]]*\]|\"[^\"]*\"", " ", expression)
    bare = _GROUPING.sub(" ", bare)
    # Numbers with an exponent or a unit have letters as well.
    bare = re.sub(r"\b[0-9][0-9a-zA-Z.]*", " ", bare)
    # A function is followed by a bracket, as is an aggregation whose grouping is gone.
    bare = re.sub(r"[a-zA-Z_:][a-zA-Z0-9_:]*\s*\(", "(", bare)
    return set(_IDENTIFIER.findall(bare)) - _WORDS


def labels_of(expression: str) -> dict[str, set[str]]:
    """Return the labels that selectors name, by metric."""
    found: dict[str, set[str]] = {}
    for name, matchers in _SELECTOR.findall(expression):
        labels = re.findall(r"([a-zA-Z_]\w*)\s*(?:=~|!~|!=|=)", matchers)
        found.setdefault(name, set()).update(labels)
    return found


def grouped_labels_of(expression: str) -> set[str]:
    """Return the labels that aggregations and matchings name."""
    return {
        label.strip() for inside in _GROUPING.findall(expression) for label in inside.split(",")
    }
