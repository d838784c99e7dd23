"""Counts requests: hot paths add to plain numbers, which `/metrics` reads."""

import threading
from bisect import bisect_left
from collections.abc import Awaitable, Iterator, Sequence
from itertools import accumulate
from time import perf_counter
from typing import Final

from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
)
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from mini_dropbox.asgi_types import Application, Message, Receive, Scope, Send
from mini_dropbox.metrics import PREFIX

# Upper bounds of the histogram of latencies, in seconds; what takes longer has no bound.
BOUNDS: Final = (0.001, 0.005, 0.025, 0.1, 0.5, 2.5, 10.0)
# By the first digit of a status. Without one, the client had gone before there was an answer.
STATUS_CLASSES: Final = ("none", "1xx", "2xx", "3xx", "4xx", "5xx")
METHODS: Final = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
OTHER: Final = "other"


class Served:
    """What requests of one method to one route came to. Bytes are those of bodies.

    Added to by the event loop alone, but for `receive_in_thread`; read by any thread.
    """

    __slots__ = (
        "_guard",
        "_received_in_threads",
        "answers",
        "buckets",
        "in_flight",
        "received_on_loop",
        "seconds",
        "sent",
    )

    def __init__(self) -> None:
        self._guard = threading.Lock()
        self.in_flight = 0
        self.answers = [0] * len(STATUS_CLASSES)
        self.buckets = [0] * (len(BOUNDS) + 1)
        self.seconds = 0.0
        self.received_on_loop = 0
        self._received_in_threads = 0
        self.sent = 0

    @property
    def received(self) -> int:
        return self.received_on_loop + self._received_in_threads

    def receive_in_thread(self, count: int) -> None:
        """Count bytes in the thread that has received them."""
        with self._guard:
            self._received_in_threads += count

    def send(self, count: int) -> None:
        """Count bytes that have been sent."""
        self.sent += count

    def end(self, status: int, seconds: float) -> None:
        """Count a request that was in flight; `status` is 0 without an answer."""
        self.in_flight -= 1
        self.answers[status // 100] += 1
        self.buckets[bisect_left(BOUNDS, seconds)] += 1
        self.seconds += seconds


class RequestStats(Collector):
    """Counts a process's requests by method, route and status class.

    `routes` are paths, and beginnings of paths that end with a slash. They and METHODS are all that
    labels are ever made of: whatever a client sends, there are only so many series.
    """

    def __init__(self, routes: Sequence[str]) -> None:
        self._paths = frozenset(routes)
        self._beginnings = tuple(route for route in routes if route.endswith("/") and route != "/")
        self._served: dict[tuple[str, str], Served] = {}

    def of(self, method: str, path: str) -> Served:
        """Return where requests like this one are counted."""
        return self._served.get((method, path)) or self._make(method, path)

    def _make(self, method: str, path: str) -> Served:
        key = (method if method in METHODS else OTHER, self.route(path))
        return self._served.setdefault(key, Served())

    def route(self, path: str) -> str:
        """Return the route that a path belongs to, or OTHER."""
        if path in self._paths:
            return path
        return next((route for route in self._beginnings if path.startswith(route)), OTHER)

    def collect(self) -> Iterator[Metric]:
        labels = ("method", "route")
        requests = CounterMetricFamily(
            PREFIX + "http_requests",
            "Requests that have ended, by the class of their status; none without an answer.",
            labels=(*labels, "status"),
        )
        latency = HistogramMetricFamily(
            PREFIX + "http_request_duration_seconds",
            "From a request's head to the end of its answer; not of small reads out of memory.",
            labels=labels,
        )
        in_flight = GaugeMetricFamily(
            PREFIX + "http_requests_in_flight", "Requests that are being answered.", labels=labels
        )
        received = CounterMetricFamily(
            PREFIX + "http_received_bytes", "Bytes of requests' bodies.", labels=labels
        )
        sent = CounterMetricFamily(
            PREFIX + "http_sent_bytes", "Bytes of answers' bodies.", labels=labels
        )
        for key, served in list(self._served.items()):
            for status, count in zip(STATUS_CLASSES, served.answers, strict=True):
                requests.add_metric((*key, status), count)
            counts = accumulate(served.buckets)
            bounds = (*map(str, BOUNDS), "+Inf")
            latency.add_metric(key, list(zip(bounds, counts, strict=True)), served.seconds)
            in_flight.add_metric(key, served.in_flight)
            received.add_metric(key, served.received)
            sent.add_metric(key, served.sent)
        yield from (requests, latency, in_flight, received, sent)


def counted(application: Application, stats: RequestStats) -> Application:
    """Return the application with its requests counted."""

    async def counting(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await application(scope, receive, send)
            return
        served, status = stats.of(scope["method"], scope["path"]), 0
        has_body = scope["method"] != "HEAD"

        async def received() -> Message:
            message = await receive()
            served.received_on_loop += len(message.get("body", b""))
            return message

        def sent(message: Message) -> Awaitable[None]:
            nonlocal status
            status = message.get("status", status)
            if has_body:
                served.sent += len(message.get("body", b""))
            return send(message)

        began = perf_counter()
        served.in_flight += 1
        try:
            await application(scope, received, sent)
        except Exception:
            # The server answers for a fault of ours.
            status = status or 500
            raise
        finally:
            served.end(status, perf_counter() - began)

    return counting
