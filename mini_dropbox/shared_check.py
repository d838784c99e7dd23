"""Checks that cost something, made seldom however often they are asked for."""

import threading
from collections.abc import Callable
from time import monotonic


class SharedCheck:
    """A check whose outcome is good for `seconds`; who asks meanwhile gets it, or waits for it."""

    def __init__(self, check: Callable[[], None], *, seconds: float) -> None:
        self._check = check
        self._seconds = seconds
        self._lock = threading.Lock()
        self._ended: float | None = None
        self._failure: Exception | None = None

    def __call__(self) -> None:
        """Raise what the check has raised."""
        with self._lock:
            if self._ended is None or monotonic() - self._ended >= self._seconds:
                self._failure = self._outcome()
                self._ended = monotonic()
            failure = self._failure
        if failure is not None:
            # Who asked before has left his own traceback.
            raise failure.with_traceback(None)

    def _outcome(self) -> Exception | None:
        try:
            self._check()
        except Exception as error:  # noqa: BLE001  raised to everybody who asks
            return error
        return None
