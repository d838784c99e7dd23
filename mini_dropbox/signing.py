"""Signed requests between the parts of a cluster: HMAC-SHA256 over what is asked and of what.

The `Authorization` header reads
`MiniDropbox-HMAC node=<id>,time=<unix seconds>,nonce=<hex>,body=<sha256 hex>,signature=<hex>`;
the signature covers method, path with query, and every field before it. `body` is the SHA-256 of
the request's body, which the receiver compares with what it has read. No other header is covered:
what matters stands in the query. A request is good once; what forgets that is a restart of the
receiver, or its clock when it is set back by more than clocks may differ.
"""

import hashlib
import hmac
import secrets
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

SCHEME: Final = "MiniDropbox-HMAC"
# Clocks of one cluster may differ by this much; a captured request is of no use after it.
MAX_CLOCK_SKEW_SECONDS: Final = 300
# About 10 MB. Beyond it the oldest are forgotten early, and what is as old as they is refused.
MAX_REMEMBERED: Final = 100_000
EMPTY_BODY_SHA256: Final = hashlib.sha256(b"").hexdigest()


class SignatureError(Exception):
    """A request is not signed by a member of this cluster; the text says why."""


@dataclass(frozen=True)
class SignedRequest:
    """A verified request: who asks, and the SHA-256 that its body must have."""

    node_id: str
    body_sha256: str


class ReplayGuard:
    """Remembers, for each second, the nonces of the requests that were signed in it.

    Whatever is forgotten is older than everything that is still let in. Safe for threads.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._nonces: dict[int, set[str]] = {}
        self._count = 0
        self._forgotten_until = 0
        self._latest = 0

    def check(self, signed_at: int, nonce: str, *, now: int) -> None:
        """Raise SignatureError for a nonce that has come before, or that may have."""
        with self._lock:
            if now < self._latest - MAX_CLOCK_SKEW_SECONDS:
                self._go_back(now)
            self._latest = max(self._latest, now)
            if signed_at <= self._forgotten_until:
                raise SignatureError("The request is too old: check the clocks.")
            nonces = self._nonces.get(signed_at)
            if nonces is None:
                nonces = self._nonces[signed_at] = set()
                expired_at = now - MAX_CLOCK_SKEW_SECONDS - 1
                for second in [second for second in self._nonces if second <= expired_at]:
                    self._forget(second)
            if nonce in nonces:
                raise SignatureError("The request has come before: sign each one anew.")
            nonces.add(nonce)
            self._count += 1
            while self._count > MAX_REMEMBERED and len(self._nonces) > 1:
                self._forget(min(self._nonces))

    def _go_back(self, now: int) -> None:
        """Follow a clock that was set back; all would count as too old until it has caught up."""
        for second in [s for s in self._nonces if s > now + MAX_CLOCK_SKEW_SECONDS]:
            self._forget(second)
        self._forgotten_until = 0
        self._latest = now

    def _forget(self, second: int) -> None:
        self._count -= len(self._nonces.pop(second))
        self._forgotten_until = max(self._forgotten_until, second)


class Signer:
    """Signs and verifies with one cluster secret; `clock` gives unix seconds."""

    def __init__(
        self, secret: str, node_id: str, *, clock: Callable[[], float] = time.time
    ) -> None:
        self._key = secret.encode()
        self._node_id = node_id
        self._clock = clock
        self._replays = ReplayGuard()

    def sign(self, method: str, target: str, body_sha256: str = EMPTY_BODY_SHA256) -> str:
        """Return the `Authorization` header for `method` on `target` (path and query)."""
        fields = (
            f"node={self._node_id},time={int(self._clock())},"
            f"nonce={secrets.token_hex(12)},body={body_sha256}"
        )
        return f"{SCHEME} {fields},signature={self._signature(method, target, fields)}"

    def verify(self, header: str | None, method: str, target: str) -> SignedRequest:
        """Return who signed this request; SignatureError when nobody of this cluster did."""
        if not header:
            raise SignatureError("This path is for the cluster's own nodes: sign the request.")
        scheme, _, rest = header.partition(" ")
        fields, found, signature = rest.rpartition(",signature=")
        if scheme != SCHEME or not found:
            raise SignatureError(f"The Authorization header is not of the form {SCHEME}.")
        expected = self._signature(method, target, fields)
        if not hmac.compare_digest(expected.encode(), signature.encode()):
            raise SignatureError("The signature does not fit: check the cluster secret.")
        values = dict(field.partition("=")[::2] for field in fields.split(","))
        # The fields are genuine from here on: only a holder of the secret can have written them.
        now, signed_at = int(self._clock()), int(values["time"])
        if abs(now - signed_at) > MAX_CLOCK_SKEW_SECONDS:
            raise SignatureError("The request is too old or from the future: check the clocks.")
        self._replays.check(signed_at, values["nonce"], now=now)
        return SignedRequest(values["node"], values["body"])

    def _signature(self, method: str, target: str, fields: str) -> str:
        message = f"{method}\n{target}\n{fields}".encode()
        return hmac.new(self._key, message, hashlib.sha256).hexdigest()
