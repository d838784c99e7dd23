"""Under which names a node answers.

A page whose own name is made to lead to this machine (DNS rebinding) counts in the browser as a
page of this node, so that `cors` cannot tell it apart; its `Host` still says the page's name.
"""

from collections.abc import Sequence
from typing import Final
from urllib.parse import urlsplit

from django.http.request import validate_host

from node_app.dataplane.http import Request
from node_app.errors import BadHost

LOOPBACK: Final = (b"localhost", b"127.0.0.1", b"[::1]")


class Hosts:
    """The names of this machine, of `node_url`, and those allowed, as in Django's ALLOWED_HOSTS."""

    def __init__(self, node_url: str, allowed: Sequence[str]) -> None:
        own = urlsplit(node_url).hostname or ""
        self._names = frozenset({*LOOPBACK, (f"[{own}]" if ":" in own else own).encode()})
        self._allowed = allowed

    def check(self, request: Request) -> None:
        """BadHost when the client asked for somebody else; HTTP/1.0 need not say whom it asks."""
        host = request.headers.get(b"host")
        if host is None and request.scope["http_version"] == "1.0":
            return
        name = _without_port((host or b"").lower())
        if name not in self._names and not validate_host(name.decode("latin-1"), self._allowed):
            raise BadHost(
                "This node is not known by that name; name it in MINI_DROPBOX_ALLOWED_HOSTS."
            )


def _without_port(host: bytes) -> bytes:
    name, _, port = host.rpartition(b":")
    return (name if port.isdigit() else host).removesuffix(b".")
