"""What can go wrong between a prompt and a stored image.

Requests that are refused here are 400; what a provider refuses is 502 with its own code and
sentence; its silence is 504. No text in here ever holds the provider's key: the client module
takes it out of everything that a provider says.
"""

from typing import Any, ClassVar, Self

from rest_framework import status

from mini_dropbox.errors import ApiError


class InvalidGenerationRequest(ApiError):
    """A request that no provider needs to see to be refused."""

    code = "invalid_generation_request"


class InvalidReferenceImage(InvalidGenerationRequest):
    """A reference image that the provider would not take."""

    code = "invalid_reference_image"


class UnknownJob(ApiError):
    """No generation has this id."""

    status = status.HTTP_404_NOT_FOUND
    code = "unknown_job"


class GenerationError(ApiError):
    """A job failed; `provider_code` is the provider's own word for it, where it said one."""

    status: int = status.HTTP_502_BAD_GATEWAY
    code = "generation_failed"
    advice: ClassVar[str] = "The provider did not produce an image."

    def __init__(self, detail: str, *, provider_code: str = "") -> None:
        super().__init__(detail)
        self.provider_code = provider_code
        self.job_id = ""

    @classmethod
    def said(cls, provider: str, code: str, sentence: str) -> Self:
        """Return the error for what `provider` answered, with what to do about it in front."""
        answer = ": ".join(part for part in (code, sentence) if part) or "no reason given"
        return cls(f"{cls.advice} {provider} answered {answer}", provider_code=code)

    def item(self) -> dict[str, str]:
        """Return the error as it stands in a list of several."""
        said = {"detail": self.detail, "code": self.code}
        return said | ({"provider_code": self.provider_code} if self.provider_code else {})

    def body(self) -> dict[str, Any]:
        return self.item() | ({"job_id": self.job_id} if self.job_id else {})


class ModerationRefused(GenerationError):
    """The provider's content rules forbid the prompt, a reference image or the result."""

    code = "moderation_refused"
    advice = "The provider's content rules forbid this; change the prompt or the images."


class BadParameters(GenerationError):
    """The provider does not understand or allow what was asked of it."""

    code = "provider_bad_parameters"
    advice = "The provider does not take these parameters."


class NoCredit(GenerationError):
    """The provider's account has no credit or has used up its quota."""

    code = "provider_no_credit"
    advice = "The account with the provider has no credit or quota left."


class RateLimited(GenerationError):
    """The provider asks to come back later.

    `may_retry` is true for the codes that mean a rate and nothing else; `retry_after` is the
    wait in seconds that the provider asked for.
    """

    code = "provider_rate_limited"
    advice = "The provider gets too many requests; try again in a minute."

    may_retry: bool = False
    retry_after: float | None = None


class ProviderDown(GenerationError):
    """The provider cannot be reached, is overloaded, or answers in no known form."""

    code = "provider_down"
    advice = "The provider cannot serve this now; try again later."


class ProviderTimeout(GenerationError):
    """The provider did not answer in time; what was asked may yet be charged."""

    status = status.HTTP_504_GATEWAY_TIMEOUT
    code = "provider_timeout"
    advice = "The provider ran out of time; the image may have been charged."


class AuthenticationRefused(GenerationError):
    """The provider does not take the key."""

    code = "provider_authentication_failed"
    advice = "The provider refused the key; check MINI_DROPBOX_SEEDREAM_API_KEY and its region."


class ProviderMisconfigured(GenerationError):
    """The provider has no such model or address for this account."""

    code = "provider_misconfigured"
    advice = (
        "The provider has no such model or address for this account; check "
        "MINI_DROPBOX_SEEDREAM_MODEL and MINI_DROPBOX_SEEDREAM_BASE_URL."
    )


class ResultRefused(GenerationError):
    """What the provider produced is not an image that may be kept."""

    code = "result_refused"


class ResultUnreachable(GenerationError):
    """The provider produced an image that its host does not deliver."""

    code = "result_unreachable"


class ResultNotStored(GenerationError):
    """The image came, and no storage node took it."""

    status = status.HTTP_503_SERVICE_UNAVAILABLE
    code = "result_not_stored"


class GenerationInterrupted(GenerationError):
    """The process that ran the job ended before the provider had answered."""

    code = "interrupted"
