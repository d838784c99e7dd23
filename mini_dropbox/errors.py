"""The errors that a request can end with; their HTTP status is decided here, once.

`exception_handler` renders them, Django's and the REST framework's as
`{"detail": "<sentence>", "code": "<machine_code>"}`, plus `errors` per field.
"""

import logging
import sqlite3
from typing import Any, Final, TypeGuard

from django.core.exceptions import RequestDataTooBig
from django.db import DatabaseError, InternalError, OperationalError
from rest_framework import exceptions, status
from rest_framework.response import Response
from rest_framework.views import exception_handler as framework_handler

from mini_dropbox.metrics import Events

logger = logging.getLogger(__name__)

DATABASE_UNAVAILABLE: Final = "The database cannot take this request now; try again in a moment."
RETRY_SECONDS: Final = "2"

_KINDS: Final = {
    sqlite3.SQLITE_BUSY: "locked",
    sqlite3.SQLITE_LOCKED: "locked",
    sqlite3.SQLITE_READONLY: "read_only",
    sqlite3.SQLITE_FULL: "full",
}
# Of this process; the master's `/metrics` shows it.
DATABASE_ERRORS: Final = Events(
    "database_errors",
    "Requests that the database did not take, by what kept it from that.",
    label="kind",
    values={*_KINDS.values(), "failed"},
)


def database_error_kind(error: DatabaseError) -> str:
    """Return what is wrong: `locked`, `read_only`, `full`, or `failed` for anything else."""
    # Its lowest byte is the kind, the others say where in SQLite (https://sqlite.org/rescode.html).
    return _KINDS.get(getattr(error.__cause__, "sqlite_errorcode", 0) & 0xFF, "failed")


def is_database_failure(error: Exception) -> TypeGuard[DatabaseError]:
    """Tell whether the database failed, and not what it was asked to do.

    SQLite says with OperationalError that it is locked or its disk full, and with a plain
    DatabaseError that it cannot make sense of what its disk gives: all of it may pass.
    """
    return isinstance(error, OperationalError | InternalError) or type(error) is DatabaseError


def note_database_failure(error: DatabaseError) -> None:
    """Count it, and say it in the log."""
    DATABASE_ERRORS.add(database_error_kind(error))
    logger.error("The database does not answer: %s", error)


class ApiError(Exception):
    """A request that cannot be carried out; the text says what the client can do."""

    status: int = status.HTTP_400_BAD_REQUEST
    code: str = "bad_request"

    def __init__(self, detail: str, *, code: str | None = None) -> None:
        super().__init__(detail)
        self.detail = detail
        if code is not None:
            self.code = code

    def body(self) -> dict[str, Any]:
        """Return what the client is told."""
        return {"detail": self.detail, "code": self.code}


def exception_handler(error: Exception, context: dict[str, Any]) -> Response | None:
    """Turn what a view raised into a response; None lets Django answer 500."""
    if isinstance(error, ApiError):
        return Response(error.body(), status=error.status)
    if is_database_failure(error):
        note_database_failure(error)
        response = _response(503, DATABASE_UNAVAILABLE, "database_unavailable")
        response["Retry-After"] = RETRY_SECONDS
        return response
    if isinstance(error, RequestDataTooBig):
        detail = "The body is too large for this address."
        return _response(status.HTTP_413_REQUEST_ENTITY_TOO_LARGE, detail, "too_large")
    answer = framework_handler(error, context)
    if answer is None:
        return None
    if isinstance(error, exceptions.ValidationError):
        answer.data = _validation_body(error)
    elif isinstance(error, exceptions.APIException):
        answer.data = {"detail": str(error.detail), "code": error.get_codes()}
    else:
        answer.data = {"detail": str(answer.data["detail"]), "code": "not_found"}
    return answer


def _response(status_code: int, detail: str, code: str) -> Response:
    return Response({"detail": detail, "code": code}, status=status_code)


def _validation_body(error: exceptions.ValidationError) -> dict[str, Any]:
    if not isinstance(error.detail, dict):
        return {"detail": str(error.detail[0]), "code": "invalid"}
    errors = {field: _messages(messages) for field, messages in error.detail.items()}
    field, messages = next(iter(errors.items()))
    return {"detail": f"{field}: {messages[0]}", "code": "invalid", "errors": errors}


def _messages(value: Any) -> list[str]:
    """Flatten the framework's nested messages of one field into sentences."""
    if isinstance(value, dict):
        return [f"{key}: {text}" for key, nested in value.items() for text in _messages(nested)]
    if isinstance(value, list):
        return [text for nested in value for text in _messages(nested)]
    return [str(value)]
