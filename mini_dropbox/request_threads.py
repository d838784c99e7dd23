"""Threads that requests run in, one each, kept with their database connection for the next.

Django would start a thread and connect for every request. The last connection to a SQLite database
that closes also copies the log of writes into the database, with several syncs of the disk.
"""

from concurrent.futures import Executor, Future, ThreadPoolExecutor
from typing import Any, Final

from django.db import connections

# More run when more requests are at work; each that is kept may hold some MiB of database pages.
KEPT_THREADS: Final = 16


class RequestThreads:
    """Threads that nobody uses now, the one that was used last on top. Used by one event loop."""

    def __init__(self, kept: int = KEPT_THREADS) -> None:
        self._idle: list[ThreadPoolExecutor] = []
        self._kept = kept

    def take(self) -> ThreadPoolExecutor:
        if self._idle:
            return self._idle.pop()
        return ThreadPoolExecutor(max_workers=1, thread_name_prefix="request")

    def give_back(self, thread: ThreadPoolExecutor) -> None:
        if len(self._idle) < self._kept:
            self._idle.append(thread)
        else:
            _end(thread, wait=False)

    def close(self) -> None:
        """End the threads that nobody uses; the last connection to close tidies the database."""
        while self._idle:
            _end(self._idle.pop(), wait=True)


def _end(thread: ThreadPoolExecutor, *, wait: bool) -> None:
    thread.submit(connections.close_all)
    thread.shutdown(wait=wait)


class LentThread(Executor):
    """One request's thread, taken when there is something to run: slow senders hold none."""

    def __init__(self, threads: RequestThreads) -> None:
        self._threads = threads
        self._thread: ThreadPoolExecutor | None = None

    def submit(self, function: Any, /, *arguments: Any, **options: Any) -> "Future[Any]":
        if self._thread is None:
            self._thread = self._threads.take()
        return self._thread.submit(function, *arguments, **options)

    def give_back(self) -> None:
        """Let the next request have the thread; nothing may be submitted any more."""
        if self._thread is not None:
            self._threads.give_back(self._thread)
            self._thread = None


# Those of this process.
REQUEST_THREADS: Final = RequestThreads()
