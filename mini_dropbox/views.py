"""The answers that belong to no application: JSON for programs, a page for browsers."""

from collections.abc import Callable

from django.core.exceptions import DisallowedHost
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.shortcuts import render

from mini_dropbox.errors import (
    DATABASE_UNAVAILABLE,
    RETRY_SECONDS,
    is_database_failure,
    note_database_failure,
)


def bad_request(request: HttpRequest, exception: Exception) -> HttpResponse:
    """Answer a request that Django itself refuses (a foreign Host, too many fields)."""
    detail = "This request cannot be understood."
    if isinstance(exception, DisallowedHost):
        detail = "This server has another name; MINI_DROPBOX_ALLOWED_HOSTS can list further ones."
    return _answer(request, 400, "bad_request", detail)


def not_found(request: HttpRequest, exception: Exception) -> HttpResponse:  # noqa: ARG001
    """Answer for a path that does not exist."""
    return _answer(request, 404, "not_found", "There is nothing at this address.")


def server_error(request: HttpRequest) -> HttpResponse:
    """Answer for a fault of ours; the log has the traceback."""
    return _answer(request, 500, "server_error", "Something went wrong here; the log says what.")


class DatabaseFailures:
    """Answers 503 for a view whose database fails; a middleware."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self._get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        return self._get_response(request)

    def process_exception(self, request: HttpRequest, exception: Exception) -> HttpResponse | None:
        if not is_database_failure(exception):
            return None
        note_database_failure(exception)
        response = _answer(request, 503, "database_unavailable", DATABASE_UNAVAILABLE)
        response["Retry-After"] = RETRY_SECONDS
        return response


def _answer(request: HttpRequest, status: int, code: str, detail: str) -> HttpResponse:
    if "text/html" in request.headers.get("Accept", ""):
        context = {"status": status, "detail": detail}
        return render(request, "error.html", context, status=status)
    return JsonResponse({"detail": detail, "code": code}, status=status)
