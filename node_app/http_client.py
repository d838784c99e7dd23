"""What the clients of the master and of the peers share: one pooled, signed HTTP session."""

import json
from typing import Any, Final

import aiohttp
from yarl import URL

from mini_dropbox.signing import Signer

CONNECT_SECONDS: Final = 1.0


def new_session() -> aiohttp.ClientSession:
    """Return the session of this process; it follows no proxy from the environment."""
    return aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=30),
        # A blob is asked for as its hash describes it, unless who asks says otherwise.
        headers={"Accept-Encoding": "identity"},
        auto_decompress=False,
        trust_env=False,
    )


def time_limit(quiet: float | None) -> aiohttp.ClientTimeout:
    """Return limits on connecting and on each wait for bytes, not on the whole exchange."""
    return aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_SECONDS, sock_read=quiet)


def signed_headers(signer: Signer, method: str, url: str, body_sha256: str) -> dict[str, str]:
    return {"Authorization": signer.sign(method, URL(url).raw_path_qs, body_sha256)}


async def read_json(response: aiohttp.ClientResponse) -> dict[str, Any]:
    """Return the answer's JSON object, or an empty one for anything else."""
    try:
        body = json.loads(await response.read())
    except ValueError:
        return {}
    return body if isinstance(body, dict) else {}
