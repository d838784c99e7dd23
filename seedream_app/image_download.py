"""Fetches what a provider produced, trusting neither the address nor the bytes behind it.

The address comes from outside, so it could name a host that only this machine can reach: every
host is resolved here, its address checked, and the connection made to that very address, so
that no second resolution can answer otherwise.
"""

import ipaddress
import logging
import socket
from collections.abc import Set as AbstractSet
from typing import Any, Final
from urllib.parse import urljoin

import requests
from requests.adapters import HTTPAdapter
from urllib3 import HTTPConnectionPool, HTTPSConnectionPool, PoolManager
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.exceptions import ConnectTimeoutError, NewConnectionError
from urllib3.util.connection import create_connection

from seedream_app.errors import ProviderTimeout, ResultRefused, ResultUnreachable
from seedream_app.http_session import BodyTooLarge, build_session, is_timeout, read_body
from seedream_app.images import ALL_FORMATS, CheckedImage, ImageRefused, check_image
from seedream_app.origins import origin

logger = logging.getLogger(__name__)

MAX_RESULT_BYTES: Final = 32 * 1024 * 1024
MAX_REDIRECTS: Final = 3
CONNECT_SECONDS: Final = 5.0
READ_SECONDS: Final = 30.0
BODY_SECONDS: Final = 120.0
# The longest that one image takes, whatever its host does.
DOWNLOAD_SECONDS: Final = (MAX_REDIRECTS + 1) * (CONNECT_SECONDS + READ_SECONDS) + BODY_SECONDS

_REDIRECTS: Final = frozenset({301, 302, 303, 307, 308})
_NAT64: Final = ipaddress.ip_network("64:ff9b::/96")
_OK: Final = 200

Address = ipaddress.IPv4Address | ipaddress.IPv6Address


class PrivateAddress(Exception):
    """A host's address is one that the public internet does not have."""


def fetch_image(url: str, *, trusted_origins: AbstractSet[tuple[str, int]]) -> CheckedImage:
    """Return the image at `url`; private addresses are for hosts of `trusted_origins` alone.

    ResultRefused for what may not be fetched or kept, ResultUnreachable or ProviderTimeout when
    the host does not deliver.
    """
    return check_result(_download(url, trusted_origins))


def check_result(content: bytes) -> CheckedImage:
    """Return the image that `content` is; ResultRefused when it is none that may be kept."""
    if len(content) > MAX_RESULT_BYTES:
        raise ResultRefused(f"The image has more than {MAX_RESULT_BYTES:,} bytes.")
    try:
        return check_image(content, formats=ALL_FORMATS)
    except ImageRefused as error:
        raise ResultRefused(f"The provider's result cannot be kept: {error}.") from error


def _download(url: str, trusted_origins: AbstractSet[tuple[str, int]]) -> bytes:
    came_from: tuple[str, int] | None = None
    for _ in range(MAX_REDIRECTS + 1):
        try:
            host = origin(url)
        except ValueError as error:
            raise ResultRefused("The image's address is not an http:// or https:// one.") from error
        # A public host may not point at a private one, not even at a trusted one.
        trusted = host in trusted_origins and came_from in {None, host}
        body, location = _get(url, _trusting_http if trusted else _checking_http)
        if location is None:
            return body
        url, came_from = urljoin(url, location), host
    raise ResultRefused(f"The image's host redirects more than {MAX_REDIRECTS} times.")


def _get(url: str, http: requests.Session) -> tuple[bytes, str | None]:
    """Return the body, or where a redirect points. No header of ours says who asks."""
    try:
        with http.get(
            url,
            timeout=(CONNECT_SECONDS, READ_SECONDS),
            allow_redirects=False,
            stream=True,
            headers={"Accept": "image/*", "Accept-Encoding": "identity"},
        ) as response:
            if response.status_code in _REDIRECTS and "Location" in response.headers:
                return b"", response.headers["Location"]
            if response.status_code != _OK:
                raise ResultUnreachable(
                    f"The image's host answered with status {response.status_code}."
                )
            return read_body(response, max_bytes=MAX_RESULT_BYTES, seconds=BODY_SECONDS), None
    except PrivateAddress as error:
        raise ResultRefused(f"The image's address is refused: {error}.") from error
    except BodyTooLarge as error:
        raise ResultRefused(f"The image has more than {MAX_RESULT_BYTES:,} bytes.") from error
    # Some addresses are so malformed that they fail below `requests`, as ValueError.
    except (requests.RequestException, ValueError) as error:
        logger.warning("Fetching a result failed: %s", type(error).__name__)
        if is_timeout(error):
            raise ProviderTimeout("The image's host did not deliver it in time.") from error
        raise ResultUnreachable("The image's host did not deliver it whole.") from error


def public_addresses(host: str, port: int) -> list[str]:
    """Return the addresses of `host`; PrivateAddress when any of them is not public."""
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    addresses = [str(entry[4][0]) for entry in found]
    for address in addresses:
        if not _is_public(ipaddress.ip_address(address.partition("%")[0])):
            raise PrivateAddress(f"{host} is not on the public internet")
    return addresses


def _is_public(address: Address) -> bool:
    """Tell whether `address`, or the IPv4 address within it, belongs to the public internet."""
    if isinstance(address, ipaddress.IPv6Address):
        inner = address.ipv4_mapped or address.sixtofour
        if inner is None and address in _NAT64:
            inner = ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
        if inner is not None:
            return _is_public(inner)
    return address.is_global and not address.is_multicast and not address.is_reserved


def _connect(connection: HTTPConnection) -> socket.socket:
    """Return a socket to an address of the connection's host that has been checked."""
    failure: OSError | None = None
    try:
        for address in public_addresses(connection.host, connection.port):
            try:
                return create_connection(
                    (address, connection.port),
                    connection.timeout,
                    socket_options=connection.socket_options,
                )
            except OSError as error:
                failure = error
    except OSError as error:
        failure = error
    if isinstance(failure, TimeoutError):
        raise ConnectTimeoutError(connection, "The host does not answer.") from failure
    raise NewConnectionError(connection, "The host cannot be reached.") from failure


class _CheckedHTTPConnection(HTTPConnection):
    def _new_conn(self) -> socket.socket:
        return _connect(self)


class _CheckedHTTPSConnection(HTTPSConnection):
    # The host's name stays what the certificate is checked against.
    def _new_conn(self) -> socket.socket:
        return _connect(self)


class _CheckedHTTPPool(HTTPConnectionPool):
    ConnectionCls = _CheckedHTTPConnection


class _CheckedHTTPSPool(HTTPSConnectionPool):
    ConnectionCls = _CheckedHTTPSConnection


class _CheckingAdapter(HTTPAdapter):
    """Connects to public addresses only."""

    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        super().init_poolmanager(*args, **kwargs)
        manager: PoolManager = self.poolmanager
        manager.pool_classes_by_scheme = {"http": _CheckedHTTPPool, "https": _CheckedHTTPSPool}


_checking_http = build_session(_CheckingAdapter(pool_connections=4, pool_maxsize=16))
_trusting_http = build_session()
