"""The one retry: after a refusal for the rate of requests, which costs nothing.

Whatever may have been charged - a time-out, a fault of the provider - is never asked for again.
"""

from collections.abc import Callable
from typing import Final, TypeVar

from tenacity import (
    RetryCallState,
    Retrying,
    retry_if_exception,
    stop_after_attempt,
    stop_after_delay,
    wait_exponential_jitter,
)

from seedream_app.errors import RateLimited

ATTEMPTS: Final = 3
# A provider that asks for more patience than this gets it from the user.
MAX_WAIT_SECONDS: Final = 20.0
RETRY_WINDOW_SECONDS: Final = 60.0
# From the first call to the start of the last one.
MAX_RETRY_SECONDS: Final = RETRY_WINDOW_SECONDS + MAX_WAIT_SECONDS

T = TypeVar("T")

_backoff = wait_exponential_jitter(initial=1, max=MAX_WAIT_SECONDS)


def retry_rate_limits(call: Callable[[], T]) -> T:
    """Return what `call` returns, called again for a rate limit as often as `ATTEMPTS` allows."""
    return Retrying(
        retry=retry_if_exception(_is_worth_waiting),
        stop=stop_after_attempt(ATTEMPTS) | stop_after_delay(RETRY_WINDOW_SECONDS),
        wait=_wait_seconds,
        reraise=True,
    )(call)


def _is_worth_waiting(error: BaseException) -> bool:
    return (
        isinstance(error, RateLimited)
        and error.may_retry
        and (error.retry_after or 0) <= MAX_WAIT_SECONDS
    )


def _wait_seconds(state: RetryCallState) -> float:
    error = state.outcome.exception() if state.outcome else None
    if isinstance(error, RateLimited) and error.retry_after is not None:
        return error.retry_after
    return _backoff(state)
