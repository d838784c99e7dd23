"""A node's only way to talk HTTP to the master."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import aiohttp

from mini_dropbox.signing import Signer
from mini_dropbox.wire import (
    HEARTBEAT_PATH,
    LOSSES_PATH,
    REGISTRATIONS_PATH,
    ClusterMap,
    Heartbeat,
    Loss,
    Registration,
    Sender,
    WireError,
)
from node_app import http_client
from node_app.errors import MasterError, MasterRefused

ANSWER_SECONDS: Final = 3.0
REGISTERED: Final = "registered"
HASH_COLLISION: Final = "hash_collision"
# The content was deleted meanwhile; nobody knows which of its copies are still there.
STORE_AGAIN: Final = "store_again"


@dataclass(frozen=True)
class Located:
    """The nodes that hold a blob, or are said to as long as no node has ever stored it."""

    node_ids: tuple[str, ...]
    is_stored: bool


class MasterClient:
    """Speaks to the first of several masters that answers. MasterError when none does."""

    def __init__(
        self,
        session: aiohttp.ClientSession,
        signer: Signer,
        urls: Sequence[str],
        sender: Sender,
    ) -> None:
        self._session = session
        self._signer = signer
        self._sender = vars(sender)
        self._urls = list(urls)

    async def heartbeat(self, heartbeat: Heartbeat) -> ClusterMap:
        """Say how this node is and return the cluster map."""
        body = await self._post(HEARTBEAT_PATH, heartbeat.to_json())
        try:
            return ClusterMap.from_json(body)
        except WireError as error:
            raise MasterError(f"POST {HEARTBEAT_PATH}: {error}") from error

    async def register(self, registrations: Sequence[Registration]) -> list[str]:
        """Record uploads in one go; return for each a word of those above."""
        entries = [entry.to_json() for entry in registrations]
        message = {"sender": self._sender, "registrations": entries}
        body = await self._post(REGISTRATIONS_PATH, message)
        results = [str(result.get("status")) for result in body.get("results", [])]
        if len(results) != len(registrations):
            raise MasterError(f"POST {REGISTRATIONS_PATH}: not one result for each registration")
        return results

    async def lose(self, losses: Sequence[Loss]) -> None:
        """Say which copies this node has no more."""
        message = {"sender": self._sender, "losses": [loss.to_json() for loss in losses]}
        await self._post(LOSSES_PATH, message)

    async def locate(self, blob_hash: str) -> Located | None:
        """Return where a blob is; None when the master knows no such blob."""
        status, body = await self._request("GET", f"/get?hash={blob_hash}", b"")
        if status == 404:
            return None
        if status != 200:
            raise _refused("GET /get", status, body)
        node_ids = tuple(str(node_id) for node_id in body.get("replicas", []))
        return Located(node_ids, is_stored=bool(body.get("verified")))

    async def _post(self, path: str, message: dict[str, Any]) -> dict[str, Any]:
        status, body = await self._request("POST", path, json.dumps(message).encode())
        if status != 200:
            raise _refused(f"POST {path}", status, body)
        return body

    async def _request(self, method: str, path: str, data: bytes) -> tuple[int, dict[str, Any]]:
        failures = []
        for base in tuple(self._urls):
            try:
                answer = await self._request_one(base + path, method, data)
            except (aiohttp.ClientError, TimeoutError) as error:
                failures.append(f"{method} {base}{path}: {error or type(error).__name__}")
                # Ask another one first from now on.
                self._urls.append(self._urls.pop(0))
            else:
                return answer
        raise MasterError("; ".join(failures))

    async def _request_one(self, url: str, method: str, data: bytes) -> tuple[int, dict[str, Any]]:
        digest = hashlib.sha256(data).hexdigest()
        headers = http_client.signed_headers(self._signer, method, url, digest)
        headers["Content-Type"] = "application/json"
        limit = http_client.time_limit(ANSWER_SECONDS)
        async with self._session.request(
            method, url, data=data, headers=headers, timeout=limit, allow_redirects=False
        ) as response:
            return response.status, await http_client.read_json(response)


def _refused(request: str, status: int, body: Mapping[str, Any]) -> MasterRefused:
    detail, code = str(body.get("detail", "")), str(body.get("code", ""))
    return MasterRefused(f"{request}: {status} {detail}", status=status, code=code, detail=detail)
