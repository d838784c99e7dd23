"""The only way to a provider's host: pooled, with time limits, and with a key that stays here."""

import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from typing import Any, Final

import requests

from seedream_app.errors import ProviderDown, ProviderTimeout
from seedream_app.http_session import BodyTooLarge, build_session, is_timeout, read_body

logger = logging.getLogger(__name__)

CONNECT_SECONDS: Final = 5.0
BODY_SECONDS: Final = 60.0
# Six images of 32 MiB in Base64.
MAX_ANSWER_BYTES: Final = 256 * 1024 * 1024
MAX_SENTENCE_CHARACTERS: Final = 500
HIDDEN_KEY: Final = "[key]"


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What a provider said; `retry_after` in seconds. A body in no known form is empty."""

    status: int
    body: Mapping[str, Any] = field(repr=False)
    retry_after: float | None


class ProviderClient:
    """Calls one host of one provider."""

    def __init__(self, *, provider: str, base_url: str, api_key: str, read_seconds: float) -> None:
        self._provider = provider
        self._base_url = base_url
        self._api_key = api_key
        self._read_seconds = read_seconds
        self._body_seconds = min(read_seconds, BODY_SECONDS)
        self._http = build_session()

    @property
    def call_seconds(self) -> float:
        """The longest that one call takes."""
        return CONNECT_SECONDS + self._read_seconds + self._body_seconds

    def call(
        self,
        method: str,
        path: str,
        *,
        body: Mapping[str, Any] | None = None,
        params: Mapping[str, str] | None = None,
    ) -> Answer:
        """Send one request, once; ProviderTimeout for silence, ProviderDown for a broken answer."""
        where = f"{method} {self._base_url}{path}"
        try:
            with self._http.request(
                method,
                self._base_url + path,
                json=body,
                params=params,
                headers={"Authorization": f"Bearer {self._api_key}"},
                timeout=(CONNECT_SECONDS, self._read_seconds),
                allow_redirects=False,
                stream=True,
            ) as response:
                content = read_body(
                    response, max_bytes=MAX_ANSWER_BYTES, seconds=self._body_seconds
                )
        except requests.RequestException as error:
            # The reason goes to the log alone: it speaks of sockets, not to users.
            logger.warning("%s: %s", where, redact(str(error), self._api_key))
            if is_timeout(error):
                raise ProviderTimeout.said(
                    self._provider, "", f"nothing within {self._read_seconds:g} s"
                ) from error
            raise ProviderDown.said(
                self._provider, "", "nothing: the connection failed or was broken off"
            ) from error
        except BodyTooLarge as error:
            raise ProviderDown.said(self._provider, "", "with far too many bytes") from error
        return Answer(
            status=response.status_code,
            body=self._parse(content, response.status_code),
            retry_after=_seconds_to_wait(response.headers.get("Retry-After")),
        )

    def _parse(self, content: bytes, status: int) -> dict[str, Any]:
        try:
            parsed = json.loads(content)
        except ValueError as error:
            if status == HTTPStatus.OK:
                raise ProviderDown.said(self._provider, "", "in no readable form") from error
            return {}
        # A provider may quote a key in its complaint about it.
        return redact(parsed, self._api_key) if isinstance(parsed, dict) else {}


def redact(value: Any, key: str) -> Any:
    """Return JSON data without `key` in any of its strings."""
    if isinstance(value, str):
        return value.replace(key, HIDDEN_KEY)
    if isinstance(value, dict):
        return {redact(name, key): redact(inner, key) for name, inner in value.items()}
    if isinstance(value, list):
        return [redact(inner, key) for inner in value]
    return value


def sentence(value: object) -> str:
    """Return what a provider said as one line of bounded length; empty for no text."""
    text = "" if value is None else str(value)
    return " ".join("".join(filter(_is_printable, text)).split())[:MAX_SENTENCE_CHARACTERS]


def _is_printable(character: str) -> bool:
    return character.isprintable() or character.isspace()


def _seconds_to_wait(value: str | None) -> float | None:
    """Return what a `Retry-After` header asks for, in seconds; it may be a date."""
    if not value:
        return None
    if value.strip().isdigit():
        return float(value)
    try:
        moment = parsedate_to_datetime(value)
    except ValueError:
        return None
    aware = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    return max(0.0, (aware - datetime.now(UTC)).total_seconds())
