"""Reads a group of registrations: `{"registrations": [...]}`, each of them a `wire.Registration`.

Every upload's registration passes here, many in a request. A serializer would spend more time on
making its fields for each request than the database on all of a group.
"""

import re
from collections.abc import Callable, Mapping
from typing import Any, Final

from rest_framework.exceptions import ValidationError

from mini_dropbox import env
from mini_dropbox.wire import (
    BLOB_HASH_PATTERN,
    IDENTITY_PATTERN,
    MAX_MOMENT,
    MAX_SIZE,
    SHA256_PATTERN,
    Registration,
    Sender,
    WireError,
    clean_file_name,
)

MAX_REPLICAS: Final = 1000
MAX_CONTENT_TYPE_CHARACTERS: Final = 127


class _FieldError(ValueError):
    """A field has a value that it cannot have."""


def parse_registrations(message: Any) -> list[Registration]:
    """Return the registrations; ValidationError, by registration and field, when one is not right.

    Its form is that of the framework's serializers: a dictionary of messages for each entry, empty
    where there is nothing to say.
    """
    entries = message.get("registrations") if isinstance(message, dict) else None
    if not isinstance(entries, list):
        raise ValidationError({"registrations": ["Send a list of registrations."]})
    parsed = [_parse(entry) for entry in entries]
    if any(errors for _, errors in parsed):
        raise ValidationError({"registrations": [errors for _, errors in parsed]})
    return [Registration(**fields) for fields, _ in parsed]


def parse_sender(message: Mapping[str, Any]) -> Sender | None:
    """Return who sends a group of registrations; None where a node of an earlier version does."""
    said = message.get("sender")
    if said is None:
        return None
    try:
        return Sender(node_id=_node_id(said["node_id"]), store_id=_identity(said["store_id"]))
    except (KeyError, TypeError, _FieldError) as error:
        raise ValidationError({"sender": ["Send node_id and store_id."]}) from error


def _parse(entry: Any) -> tuple[dict[str, Any], dict[str, list[str]]]:
    if not isinstance(entry, dict):
        return {}, {"registration": ["Send an object."]}
    fields: dict[str, Any] = {}
    errors: dict[str, list[str]] = {}
    for name, read in _FIELDS.items():
        try:
            fields[name] = read(entry[name])
        except KeyError:
            errors[name] = ["This field is required."]
        except (_FieldError, WireError) as error:
            errors[name] = [str(error)]
    return fields, errors


def _token(pattern: re.Pattern[str]) -> Callable[[Any], str]:
    def read(value: Any) -> str:
        if not isinstance(value, str) or pattern.fullmatch(value) is None:
            raise _FieldError(f"Send a text of the form {pattern.pattern}.")
        return value

    return read


def _size(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= MAX_SIZE:
        raise _FieldError(f"Send a whole number of bytes from 0 to {MAX_SIZE}.")
    return value


def _name(value: Any) -> str:
    if not isinstance(value, str):
        raise _FieldError("Send a text.")
    return clean_file_name(value)


def _content_type(value: Any) -> str:
    # A NUL is what PostgreSQL cannot hold, a lone surrogate what no UTF-8 can.
    if (
        not isinstance(value, str)
        or len(value) > MAX_CONTENT_TYPE_CHARACTERS
        or "\0" in value
        or any("\ud800" <= character <= "\udfff" for character in value)
    ):
        raise _FieldError(f"Send a text of at most {MAX_CONTENT_TYPE_CHARACTERS} characters.")
    return value.strip()


def _replicas(value: Any) -> tuple[str, ...]:
    if not isinstance(value, list) or len(value) > MAX_REPLICAS:
        raise _FieldError(f"Send a list of at most {MAX_REPLICAS} node ids.")
    return tuple(map(_node_id, value))


def _uploaded_at(value: Any) -> float:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if not is_number or not 0 <= value <= MAX_MOMENT:
        raise _FieldError(f"Send seconds since 1970, from 0 to {MAX_MOMENT}.")
    return float(value)


_node_id = _token(env.NODE_ID_PATTERN)
_identity = _token(IDENTITY_PATTERN)
_FIELDS: Final[Mapping[str, Callable[[Any], Any]]] = {
    "hash": _token(BLOB_HASH_PATTERN),
    "sha256": _token(SHA256_PATTERN),
    "size": _size,
    "name": _name,
    "content_type": _content_type,
    "replicas": _replicas,
    "uploaded_at": _uploaded_at,
}
