"""The master's only way to talk HTTP to nodes."""

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode, urlsplit

import requests
from requests.adapters import HTTPAdapter

from master_app.cluster_signer import cluster_signer
from master_app.errors import NoHealthyNode
from master_app.models import Node
from mini_dropbox.wire import (
    COPIES_PATH,
    INVENTORY_NAMES_PATH,
    INVENTORY_PATH,
    MAX_INVENTORY_PAGE,
    REMOVALS_PATH,
    CopyOrder,
    CopyResult,
    Holding,
    RemovalOrder,
    RemovalResult,
    WireError,
)

CONNECT_SECONDS = 2.0
READ_SECONDS = 30.0
CHUNK_BYTES = 64 * 1024
# What is copied may have to come over a slow network; a node that hangs is found out by then.
SLOWEST_COPY_BYTES = 4 * 1024 * 1024


class NodeRequestError(Exception):
    """A node did not do what it was asked; the text names host, method and what it said."""


class TooLarge(NodeRequestError):
    """A blob has more bytes than the caller takes."""


@dataclass(frozen=True)
class StoredBlob:
    """What a node answered to an upload; `size` in bytes."""

    hash: str
    sha256: str
    size: int
    replicas: tuple[str, ...]


@dataclass(frozen=True)
class Inventory:
    """A node's answer about all that it has; `total` is the number of its blobs.

    `cluster_id` is empty while no master has let the node in.
    """

    node_id: str
    store_id: str
    cluster_id: str
    total: int
    holdings: tuple[Holding, ...]
    following: str | None


def _session() -> requests.Session:
    session = requests.Session()
    # Nodes are named by the cluster map; a proxy from the environment would be a stranger.
    session.trust_env = False
    session.mount("http://", HTTPAdapter(pool_connections=16, pool_maxsize=16))
    return session


_http = _session()


def upload(*, nodes: Sequence[Node], content: bytes, name: str, content_type: str) -> StoredBlob:
    """Store `content` like a client's upload on the first of `nodes` that takes it.

    NoHealthyNode when there is no node to ask, NodeRequestError when none of them took it.
    """
    failure: Exception = NoHealthyNode("No storage node is up; start one and try again.")
    for node in nodes:
        try:
            return _upload_to(node.url, content, name, content_type)
        except NodeRequestError as error:
            failure = error
    raise failure


def _upload_to(base_url: str, content: bytes, name: str, content_type: str) -> StoredBlob:
    url = f"{base_url}/upload"
    with _send("POST", url, files={"file": (name, content, content_type)}) as response:
        body = _json(response)
        if response.status_code != 200:
            reason = body.get("message", "no reason given")
            raise NodeRequestError(f"POST {url}: {response.status_code}, {reason}")
    try:
        return StoredBlob(body["hash"], body["sha256"], body["size"], tuple(body["replicas"]))
    except (KeyError, TypeError) as error:
        raise NodeRequestError(f"POST {url}: 200 without {error}") from error


def fetch(*, nodes: Sequence[Node], blob_hash: str, max_bytes: int) -> bytes:
    """Return a blob's bytes from the first of `nodes` that serves it whole.

    TooLarge when it has more than `max_bytes`, NodeRequestError when no node served it.
    """
    failure: Exception = NoHealthyNode("No storage node is up; start one and try again.")
    for node in nodes:
        try:
            return b"".join(_fetch_from(node.url, blob_hash, max_bytes))
        except TooLarge:
            raise
        except NodeRequestError as error:
            failure = error
    raise failure


def _fetch_from(base_url: str, blob_hash: str, max_bytes: int) -> Iterator[bytes]:
    url = f"{base_url}/retrieve"
    with _send("GET", url, params={"hash": blob_hash}, stream=True) as response:
        if response.status_code != 200:
            raise NodeRequestError(f"GET {url}: {response.status_code} for {blob_hash}")
        if int(response.headers.get("Content-Length", 0)) > max_bytes:
            raise TooLarge(f"{blob_hash} has more than {max_bytes} bytes")
        received = 0
        try:
            for chunk in response.iter_content(CHUNK_BYTES):
                # Counted as well as announced: an encoded answer may grow while it is read.
                received += len(chunk)
                if received > max_bytes:
                    raise TooLarge(f"{blob_hash} has more than {max_bytes} bytes")
                yield chunk
        except requests.RequestException as error:
            raise NodeRequestError(f"GET {url}: broken off, {error}") from error


def order_copies(*, base_url: str, orders: Sequence[CopyOrder]) -> list[CopyResult]:
    """Let a node make replicas from those of its peers; return what became of each order.

    NodeRequestError when the node does not answer, or has refused all of them.
    """
    url = f"{base_url}{COPIES_PATH}"
    message = json.dumps({"copies": [order.to_json() for order in orders]}).encode()
    seconds = READ_SECONDS + sum(order.size for order in orders) / SLOWEST_COPY_BYTES
    body = _post_signed(url, message, seconds)
    try:
        return [CopyResult.from_json(result) for result in body["results"]]
    except (KeyError, TypeError, WireError) as error:
        raise NodeRequestError(f"POST {url}: 200 without usable results, {error}") from error


def order_removals(*, base_url: str, orders: Sequence[RemovalOrder]) -> list[RemovalResult]:
    """Let a node remove blobs; return what became of each order.

    NodeRequestError when the node does not answer, or has refused all of them.
    """
    url = f"{base_url}{REMOVALS_PATH}"
    message = json.dumps({"removals": [order.to_json() for order in orders]}).encode()
    body = _post_signed(url, message, READ_SECONDS)
    try:
        return [RemovalResult.from_json(result) for result in body["results"]]
    except (KeyError, TypeError, WireError) as error:
        raise NodeRequestError(f"POST {url}: 200 without usable results, {error}") from error


def inventory(*, base_url: str, after: str = "", limit: int = MAX_INVENTORY_PAGE) -> Inventory:
    """Return a page of what a node has, in the order of the hashes, from behind `after`.

    NodeRequestError when the node does not answer, or not with an inventory.
    """
    url = f"{base_url}{INVENTORY_PATH}?{urlencode({'after': after, 'limit': limit})}"
    body = _signed("GET", url)
    try:
        following = body["next"]
        return Inventory(
            node_id=str(body["node_id"]),
            store_id=str(body["store_id"]),
            cluster_id=str(body["cluster_id"]),
            total=int(body["total"]),
            holdings=tuple(Holding.from_json(blob) for blob in body["blobs"]),
            following=None if following is None else str(following),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise NodeRequestError(f"GET {url}: 200 without an inventory, {error}") from error


def further_names(*, base_url: str, limit: int = MAX_INVENTORY_PAGE) -> Iterator[Holding]:
    """Yield a node's blobs under the names that they came under later, by hash and name.

    They come in pages of `limit`. NodeRequestError as with `inventory`.
    """
    following: Mapping[str, str] | None = {}
    while following is not None:
        query = {"limit": limit, **following}
        url = f"{base_url}{INVENTORY_NAMES_PATH}?{urlencode(query)}"
        body = _signed("GET", url)
        try:
            yield from [Holding.from_json(blob) for blob in body["blobs"]]
            following = body["next"] and {
                name: str(body["next"][name]) for name in ("after", "after_name")
            }
        except (KeyError, TypeError, WireError) as error:
            raise NodeRequestError(f"GET {url}: 200 without names, {error}") from error


def held(*, base_url: str, hashes: Sequence[str]) -> dict[str, tuple[str, int]]:
    """Return SHA-256 and size of those of up to MAX_INVENTORY_PAGE blobs that a node has.

    NodeRequestError when the node does not answer: nothing is known of its blobs then.
    """
    url = f"{base_url}{INVENTORY_PATH}"
    body = _signed("POST", url, json.dumps({"hashes": list(hashes)}).encode())
    try:
        return {
            str(blob["hash"]): (str(blob["sha256"]), int(blob["size"])) for blob in body["blobs"]
        }
    except (KeyError, TypeError, ValueError) as error:
        raise NodeRequestError(f"POST {url}: 200 without blobs, {error}") from error


def _post_signed(url: str, message: bytes, seconds: float) -> dict[str, Any]:
    return _signed("POST", url, message, seconds)


def _signed(
    method: str, url: str, message: bytes = b"", seconds: float = READ_SECONDS
) -> dict[str, Any]:
    """Return a node's answer to a request that the master signs."""
    parts = urlsplit(url)
    target = f"{parts.path}?{parts.query}" if parts.query else parts.path
    signature = cluster_signer().sign(method, target, hashlib.sha256(message).hexdigest())
    headers = {"Authorization": signature, "Content-Type": "application/json"}
    with _send(method, url, data=message, headers=headers, seconds=seconds) as response:
        body = _json(response)
        if response.status_code != 200:
            reason = body.get("message", "no reason given")
            raise NodeRequestError(f"{method} {url}: {response.status_code}, {reason}")
    return body


def _send(
    method: str, url: str, *, seconds: float = READ_SECONDS, **options: Any
) -> requests.Response:
    try:
        return _http.request(
            method, url, timeout=(CONNECT_SECONDS, seconds), allow_redirects=False, **options
        )
    except requests.RequestException as error:
        raise NodeRequestError(f"{method} {url}: {error}") from error


def _json(response: requests.Response) -> dict[str, Any]:
    try:
        body = response.json()
    except ValueError:
        return {}
    return body if isinstance(body, dict) else {}
