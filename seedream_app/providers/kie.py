"""The gateway kie.ai: creates a task, asks how it does until it is done, answers addresses.

It reports its errors with status 200 and a `code` in the body.
"""

import hashlib
import json
import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from http import HTTPStatus
from typing import Any, Final

from django.utils import timezone

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
from seedream_app.images import CheckedImage, ImageFormat
from seedream_app.origins import origin
from seedream_app.providers.base import GenerationRequest, Outcome, Provider, ResultUrl, Task
from seedream_app.providers.client import Answer, ProviderClient, sentence
from seedream_app.providers.retry import MAX_RETRY_SECONDS, retry_rate_limits

DEFAULT_BASE_URL: Final = "https://api.kie.ai"
DEFAULT_UPLOAD_URL: Final = "https://kieai.redpandaai.co"
DEFAULT_MODEL: Final = "bytedance/seedream-v4-text-to-image"
UPLOAD_PATH: Final = "mini-dropbox"
READ_SECONDS: Final = 60.0
# Whoever asks how a task does holds its job for as long as the answer may take: a restart waits
# that long before it takes the job up.
POLL_READ_SECONDS: Final = 10.0

RESOLUTIONS: Final = ("1K", "2K", "4K")
SHAPES: Final = (
    "square",
    "square_hd",
    "portrait_4_3",
    "portrait_3_2",
    "portrait_16_9",
    "landscape_4_3",
    "landscape_3_2",
    "landscape_16_9",
    "landscape_21_9",
)
DEFAULT_RESOLUTION: Final = "2K"
DEFAULT_SHAPE: Final = "square_hd"

_KINDS_OF_CODES: Final[dict[int, type[GenerationError]]] = {
    400: BadParameters,
    401: AuthenticationRefused,
    402: NoCredit,
    403: AuthenticationRefused,
    404: ProviderMisconfigured,
    408: ProviderTimeout,
    422: BadParameters,
    429: RateLimited,
    # A limit on what the key may spend, not on how often it may be used.
    433: NoCredit,
    455: ProviderDown,
    500: ProviderDown,
    501: GenerationError,
    504: ProviderTimeout,
    505: ProviderMisconfigured,
}
# There is no code for moderation: it comes as bad parameters or a failure, with these words.
_MODERATION_CODES: Final = frozenset({0, 400, 422, 500, 501})
_MODERATION_WORDS: Final = re.compile(
    r"sensitive|moderation|nsfw|flagged|prohibited|content polic|violat|inappropriate",
    re.IGNORECASE,
)


@dataclass(frozen=True, kw_only=True)
class PollTimes:
    """How a task is waited for, in seconds."""

    first: float = 2.0
    growth: float = 1.5
    longest: float = 15.0
    total: float = 15 * 60.0


class KieProvider(Provider):
    """Draws with a Seedream model through kie.ai."""

    name = SeedreamProvider.KIE
    reference_formats = frozenset({ImageFormat.JPEG, ImageFormat.PNG, ImageFormat.WEBP})

    def __init__(
        self,
        *,
        api_key: str,
        base_url: str | None = None,
        upload_url: str | None = None,
        model: str | None = None,
        read_seconds: float = READ_SECONDS,
        poll_times: PollTimes | None = None,
    ) -> None:
        # The key of another gateway is nothing for kie's own upload host.
        upload_url = upload_url or base_url or DEFAULT_UPLOAD_URL
        base_url = base_url or DEFAULT_BASE_URL
        self._model = model or DEFAULT_MODEL
        self._times = poll_times or PollTimes()
        self._client, self._uploads, self._polls = (
            ProviderClient(provider=self.name, base_url=url, api_key=api_key, read_seconds=seconds)
            for url, seconds in (
                (base_url, read_seconds),
                (upload_url, read_seconds),
                (base_url, min(read_seconds, POLL_READ_SECONDS)),
            )
        )
        self.trusted_origins = frozenset({origin(base_url)})
        # Two references to upload, and the task to create.
        self.submit_seconds = 3 * (MAX_RETRY_SECONDS + self._client.call_seconds)

    def model_for(self, request: GenerationRequest) -> str:
        if not request.references:
            return self._model
        return re.sub(r"-text-to-image$", "-edit", self._model)

    def check(self, request: GenerationRequest) -> None:
        if request.size not in {None, *RESOLUTIONS, *SHAPES}:
            takes = ", ".join(RESOLUTIONS + SHAPES)
            raise InvalidGenerationRequest(f"size: {self._model} takes {takes}.")

    def submit(self, request: GenerationRequest) -> Task:
        wanted: dict[str, Any] = {
            "prompt": request.prompt,
            "image_size": request.size if request.size in SHAPES else DEFAULT_SHAPE,
            "image_resolution": (
                request.size if request.size in RESOLUTIONS else DEFAULT_RESOLUTION
            ),
            "max_images": request.max_images,
        }
        if request.references:
            wanted["image_urls"] = [self._upload(image) for image in request.references]
        body = {"model": self.model_for(request), "input": wanted}
        data = self._ask(self._client, "/api/v1/jobs/createTask", body)
        task_id = data.get("taskId")
        if not isinstance(task_id, str) or not task_id:
            raise ProviderDown.said(self.name, "", "without a task id")
        return Task(task_id)

    def collect(
        self, task: Task, *, submitted_at: datetime, before_poll: Callable[[float], None]
    ) -> Outcome:
        deadline = submitted_at + timedelta(seconds=self._times.total)
        wait = self._times.first
        while True:
            before_poll(wait + self._polls.call_seconds)
            time.sleep(wait)
            trouble: GenerationError | None = None
            try:
                outcome = self._poll(task)
            # Asking how a task does costs nothing, and the task goes on while nobody hears of it.
            except (ProviderDown, ProviderTimeout, RateLimited) as error:
                outcome, trouble = None, error
            if outcome is not None:
                return outcome
            if timezone.now() >= deadline:
                raise trouble or ProviderTimeout.said(
                    self.name, "", f"nothing final within {self._times.total:g} s"
                )
            wait = min(wait * self._times.growth, self._times.longest)

    def _upload(self, image: CheckedImage) -> str:
        """Lay a reference image where the provider can fetch it, and return its address."""
        digest = hashlib.sha256(image.content).hexdigest()
        body = {
            "base64Data": image.data_uri(),
            "uploadPath": UPLOAD_PATH,
            "fileName": f"{digest}.{image.format.extension}",
        }
        data = self._ask(self._uploads, "/api/file-base64-upload", body)
        url = data.get("downloadUrl")
        if not isinstance(url, str) or not url:
            raise ProviderDown.said(self.name, "", "without the address of the upload")
        return url

    def _ask(self, client: ProviderClient, path: str, body: Mapping[str, Any]) -> Mapping[str, Any]:
        def call() -> Mapping[str, Any]:
            answer = client.call("POST", path, body=body)
            data = answer.body.get("data")
            if _code(answer) != HTTPStatus.OK or not isinstance(data, dict):
                raise _refusal(answer)
            return data

        return retry_rate_limits(call)

    def _poll(self, task: Task) -> Outcome | None:
        """Return how `task` ended, None while it goes on."""
        answer = self._polls.call("GET", "/api/v1/jobs/recordInfo", params={"taskId": task.task_id})
        data = answer.body.get("data")
        # The state is the task's; the code may be that of something the gateway did around it.
        state = data.get("state") if isinstance(data, dict) else None
        if not isinstance(data, dict) or not state:
            raise _refusal(answer)
        if state == "fail":
            return Outcome((_error(_number(data.get("failCode")), data.get("failMsg")),))
        return _results(data.get("resultJson")) if state == "success" else None


def _results(result_json: Any) -> Outcome:
    """Return the addresses from `resultJson`, which is JSON within a string."""
    try:
        urls = json.loads(result_json)["resultUrls"]
    except (TypeError, ValueError, KeyError):
        urls = None
    if not isinstance(urls, list) or not urls:
        error = GenerationError.said(SeedreamProvider.KIE, "", "success with no readable result")
        return Outcome((error,))
    return Outcome(tuple(ResultUrl(str(url)) for url in urls))


def _code(answer: Answer) -> int:
    """Return the code of the body, or the status of an answer from something in between."""
    return _number(answer.body.get("code")) or answer.status


def _number(value: Any) -> int:
    return int(value) if str(value).isascii() and str(value).isdigit() else 0


def _refusal(answer: Answer) -> GenerationError:
    said = answer.body.get("msg") or answer.body.get("message")
    error = _error(_code(answer), said)
    if isinstance(error, RateLimited):
        # Only the body's code says that it is a matter of rate.
        error.may_retry = _number(answer.body.get("code")) == HTTPStatus.TOO_MANY_REQUESTS
        error.retry_after = answer.retry_after
    return error


def _error(code: int, said: Any) -> GenerationError:
    text = sentence(said)
    redirected = HTTPStatus.MULTIPLE_CHOICES <= code < HTTPStatus.BAD_REQUEST
    fallback = GenerationError if code == 0 else ProviderDown
    kind = _KINDS_OF_CODES.get(code, ProviderMisconfigured if redirected else fallback)
    if code in _MODERATION_CODES and _MODERATION_WORDS.search(text):
        kind = ModerationRefused
    return kind.said(SeedreamProvider.KIE, str(code) if code else "", text)
