"""Pooled HTTP sessions that tell nobody more than they were told, and bounded reading."""

import time
from http.cookiejar import DefaultCookiePolicy
from typing import Final

import requests
from requests.adapters import HTTPAdapter
from urllib3.exceptions import HTTPError, NewConnectionError
from urllib3.exceptions import TimeoutError as UrllibTimeoutError

CHUNK_BYTES: Final = 64 * 1024


class BodyTooLarge(Exception):
    """A body has more bytes than the caller takes."""


def build_session(adapter: HTTPAdapter | None = None) -> requests.Session:
    """Return a session that reads no environment (proxies, .netrc) and keeps no cookies."""
    session = requests.Session()
    session.trust_env = False
    session.cookies.set_policy(DefaultCookiePolicy(allowed_domains=[]))
    transport = adapter or HTTPAdapter(pool_connections=4, pool_maxsize=16)
    session.mount("http://", transport)
    session.mount("https://", transport)
    return session


def is_timeout(error: BaseException) -> bool:
    """Tell whether a time limit is what lies under `error`; `requests` hides some of them."""
    # urllib3 derives a refused connection from a timed-out one.
    is_refusal = isinstance(error, NewConnectionError)
    if isinstance(error, requests.Timeout | UrllibTimeoutError | TimeoutError) and not is_refusal:
        return True
    inner = next((part for part in error.args if isinstance(part, BaseException)), None)
    cause = inner or error.__cause__ or error.__context__
    return cause is not None and is_timeout(cause)


def read_body(response: requests.Response, *, max_bytes: int, seconds: float) -> bytes:
    """Return the body, decompressed step by step; BodyTooLarge beyond `max_bytes`.

    `requests.Timeout` when it takes longer than `seconds` in all, however steadily it drips.
    """
    deadline = time.monotonic() + seconds
    if (response.raw.length_remaining or 0) > max_bytes:
        raise BodyTooLarge
    chunks = bytearray()
    try:
        while chunk := response.raw.read1(CHUNK_BYTES, decode_content=True):
            chunks += chunk
            if len(chunks) > max_bytes:
                raise BodyTooLarge
            if time.monotonic() > deadline:
                raise requests.ReadTimeout("The body took too long.")
    except HTTPError as error:
        if is_timeout(error):
            raise requests.ReadTimeout("The body stopped coming.") from error
        raise requests.ConnectionError("The body was broken off.") from error
    return bytes(chunks)
