"""Which web pages may make the master do something: its own, and no others.

No client has to sign in, so a browser on this machine would otherwise let any page it visits
send forms here in its user's name.
"""

from collections.abc import Callable
from typing import Final
from urllib.parse import SplitResult, urlsplit

from django.http import HttpRequest, HttpResponse, JsonResponse

from mini_dropbox.startup import is_loopback

SAFE_METHODS: Final = frozenset({"GET", "HEAD", "OPTIONS", "TRACE"})
DEFAULT_PORTS: Final = {"http": 80, "https": 443}


def refuse_foreign_origins(
    get_response: Callable[[HttpRequest], HttpResponse],
) -> Callable[[HttpRequest], HttpResponse]:
    """Answer 403 to what a page of another site sends; a middleware. Programs are let through."""

    def middleware(request: HttpRequest) -> HttpResponse:
        if request.method in SAFE_METHODS or not _is_foreign(request):
            return get_response(request)
        detail = "Pages of other sites may not do this; send it from the master's own pages."
        return JsonResponse({"detail": detail, "code": "foreign_origin"}, status=403)

    return middleware


def _is_foreign(request: HttpRequest) -> bool:
    origin = request.headers.get("Origin")
    if origin is None:
        # To a browser `localhost` and `127.0.0.1` are two sites, so where there is an origin
        # this header would refuse our own pages.
        return request.headers.get("Sec-Fetch-Site") == "cross-site"
    own = f"{request.scheme}://{request.get_host()}"
    return origin != own and not _are_one_server(origin, own)


def _are_one_server(origin: str, own: str) -> bool:
    """Tell whether two origins are one server of this machine under two of its names."""
    try:
        theirs, ours = urlsplit(origin), urlsplit(own)
        return (
            (theirs.scheme, _port(theirs)) == (ours.scheme, _port(ours))
            and is_loopback(theirs.hostname or "")
            and is_loopback(ours.hostname or "")
        )
    except ValueError:
        return False


def _port(address: SplitResult) -> int | None:
    return address.port or DEFAULT_PORTS.get(address.scheme)
