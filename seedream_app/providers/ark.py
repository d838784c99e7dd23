"""The official provider: BytePlus ModelArk and Volcengine Ark, one synchronous call."""

import base64
import binascii
import re
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any, Final
from urllib.parse import urlsplit

from mini_dropbox.env import SeedreamProvider
from seedream_app.errors import (
    AuthenticationRefused,
    BadParameters,
    GenerationError,
    InvalidGenerationRequest,
    ModerationRefused,
    NoCredit,
    ProviderDown,
    ProviderMisconfigured,
    ProviderTimeout,
    RateLimited,
)
from seedream_app.origins import origin
from seedream_app.providers.base import (
    GenerationRequest,
    Outcome,
    Provider,
    ResultBytes,
    ResultItem,
    ResultUrl,
)
from seedream_app.providers.client import Answer, ProviderClient, sentence
from seedream_app.providers.retry import MAX_RETRY_SECONDS, retry_rate_limits

DEFAULT_BASE_URL: Final = "https://ark.ap-southeast.bytepluses.com/api/v3"
DEFAULT_MODEL: Final = "seedream-4-0-250828"
VOLCENGINE_DOMAIN: Final = ".volces.com"
VOLCENGINE_PREFIX: Final = "doubao-"
DEFAULT_SIZE: Final = "2K"
READ_SECONDS: Final = 300.0
MAX_REFERENCES_AND_OUTPUTS: Final = 15
MAX_ASPECT: Final = 16

_SIZE_PATTERN: Final = re.compile(r"(\d{2,5})x(\d{2,5})")
_MAX_PIXELS: Final = 16_777_216
# By the start of the model's name: the words for sizes, and the least pixels of WxH, if any.
_SIZES_OF_MODELS: Final[dict[str, tuple[tuple[str, ...], int | None]]] = {
    "seedream-4-0": (("1K", "2K", "4K"), 921_600),
    "seedream-4-5": (("2K", "4K"), 3_686_400),
    "seedream-5": (("2K", "3K", "4K"), None),
}
# An endpoint (`ep-...`) does not tell its model, so the widest range applies.
_SIZES_OF_UNKNOWN_MODEL: Final = (("1K", "2K", "3K", "4K"), 921_600)

# Codes may carry a suffix, as in `InputTextSensitiveContentDetected.PolicyViolation`.
_KINDS_OF_CODES: Final[dict[str, type[GenerationError]]] = {
    "InputTextSensitiveContentDetected": ModerationRefused,
    "InputImageSensitiveContentDetected": ModerationRefused,
    "OutputImageSensitiveContentDetected": ModerationRefused,
    "InvalidParameter": BadParameters,
    "MissingParameter": BadParameters,
    "AuthenticationError": AuthenticationRefused,
    "AccountOverdueError": NoCredit,
    "QuotaExceeded": NoCredit,
    "SetLimitExceeded": NoCredit,
    "InvalidEndpointOrModel": ProviderMisconfigured,
    "ModelNotOpen": ProviderMisconfigured,
    "ServerOverloaded": ProviderDown,
    "InternalServiceError": ProviderDown,
}
_RATE_LIMIT_SUFFIX: Final = "RateLimitExceeded"
_KINDS_OF_STATUSES: Final[dict[int, type[GenerationError]]] = {
    200: GenerationError,
    400: BadParameters,
    401: AuthenticationRefused,
    402: NoCredit,
    403: AuthenticationRefused,
    404: ProviderMisconfigured,
    408: ProviderTimeout,
    413: BadParameters,
    422: BadParameters,
    429: RateLimited,
    504: ProviderTimeout,
}


class ArkProvider(Provider):
    """Draws with a Seedream model of ModelArk."""

    name = SeedreamProvider.ARK

    def __init__(
        self,
        *,
        api_key: str,
        base_url: str | None = None,
        model: str | None = None,
        read_seconds: float = READ_SECONDS,
    ) -> None:
        base_url = base_url or DEFAULT_BASE_URL
        self._model = model or _default_model(base_url)
        self._client = ProviderClient(
            provider=self.name, base_url=base_url, api_key=api_key, read_seconds=read_seconds
        )
        self.trusted_origins = frozenset({origin(base_url)})
        self.submit_seconds = MAX_RETRY_SECONDS + self._client.call_seconds

    def model_for(self, request: GenerationRequest) -> str:
        return self._model

    def check(self, request: GenerationRequest) -> None:
        if request.size is not None:
            _check_size(request.size, self._model)
        if len(request.references) + request.max_images > MAX_REFERENCES_AND_OUTPUTS:
            raise InvalidGenerationRequest(
                f"Reference images and results may be {MAX_REFERENCES_AND_OUTPUTS} in all."
            )

    def submit(self, request: GenerationRequest) -> Outcome:
        body = self._body(request)
        answer = retry_rate_limits(lambda: self._generate(body))
        data = answer.body.get("data")
        if not isinstance(data, list) or not data:
            raise GenerationError.said(self.name, "", "with no image")
        return Outcome(tuple(_item(entry) for entry in data))

    def _body(self, request: GenerationRequest) -> dict[str, Any]:
        body: dict[str, Any] = {
            "model": self._model,
            "prompt": request.prompt,
            "size": request.size or DEFAULT_SIZE,
            "sequential_image_generation": "disabled",
            "stream": False,
            "response_format": "url",
            # Left out, it would be true.
            "watermark": False,
        }
        if request.max_images > 1:
            body["sequential_image_generation"] = "auto"
            body["sequential_image_generation_options"] = {"max_images": request.max_images}
        if request.references:
            uris = [image.data_uri() for image in request.references]
            body["image"] = uris[0] if len(uris) == 1 else uris
        return body

    def _generate(self, body: Mapping[str, Any]) -> Answer:
        answer = self._client.call("POST", "/images/generations", body=body)
        is_error = bool(answer.body.get("error")) and not answer.body.get("data")
        if answer.status != HTTPStatus.OK or is_error:
            raise _refusal(answer)
        return answer


def _default_model(base_url: str) -> str:
    host = urlsplit(base_url).hostname or ""
    return (VOLCENGINE_PREFIX if host.endswith(VOLCENGINE_DOMAIN) else "") + DEFAULT_MODEL


def _check_size(size: str, model: str) -> None:
    family = model.removeprefix(VOLCENGINE_PREFIX)
    words, least = next(
        (sizes for start, sizes in _SIZES_OF_MODELS.items() if family.startswith(start)),
        _SIZES_OF_UNKNOWN_MODEL,
    )
    if size in words:
        return
    takes = f"size: {model} takes {', '.join(words)}"
    if least is None:
        raise InvalidGenerationRequest(f"{takes}.")
    takes += f", or WIDTHxHEIGHT of {least:,} to {_MAX_PIXELS:,} pixels, sides within 1 to 16."
    found = _SIZE_PATTERN.fullmatch(size)
    if not found:
        raise InvalidGenerationRequest(takes)
    short, long = sorted(map(int, found.groups()))
    if not least <= short * long <= _MAX_PIXELS or long > short * MAX_ASPECT:
        raise InvalidGenerationRequest(takes)


def _item(entry: Any) -> ResultItem:
    """Return what one entry of `data` holds: an address, bytes, or an error of its own."""
    entry = entry if isinstance(entry, dict) else {}
    error, url, encoded = entry.get("error"), entry.get("url"), entry.get("b64_json")
    if error:
        return _error(HTTPStatus.OK, error)
    if isinstance(url, str) and url:
        return ResultUrl(url)
    if isinstance(encoded, str) and encoded:
        try:
            return ResultBytes(base64.b64decode(encoded, validate=True))
        except binascii.Error:
            return GenerationError.said(SeedreamProvider.ARK, "", "with an unreadable image")
    return GenerationError.said(SeedreamProvider.ARK, "", "with an entry that holds no image")


def _refusal(answer: Answer) -> GenerationError:
    error = _error(answer.status, answer.body.get("error"))
    if isinstance(error, RateLimited):
        error.retry_after = answer.retry_after
    return error


def _error(status: int, error: Any) -> GenerationError:
    """Return the error by its code, or by the status where the code says nothing known."""
    said = error if isinstance(error, dict) else {"message": error}
    code = sentence(said.get("code"))
    # No text at all: the status is what is left to show.
    text = sentence(said.get("message")) or ("" if code else f"HTTP status {status}")
    is_rate_limit = code.split(".")[0].endswith(_RATE_LIMIT_SUFFIX)
    kind = RateLimited if is_rate_limit else _kind(code, status)
    result = kind.said(SeedreamProvider.ARK, code, text)
    if isinstance(result, RateLimited):
        result.may_retry = is_rate_limit
    return result


def _kind(code: str, status: int) -> type[GenerationError]:
    for start, kind in _KINDS_OF_CODES.items():
        if code.startswith(start):
            return kind
    redirected = HTTPStatus.MULTIPLE_CHOICES <= status < HTTPStatus.BAD_REQUEST
    return _KINDS_OF_STATUSES.get(status, ProviderMisconfigured if redirected else ProviderDown)
