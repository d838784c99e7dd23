"""What both roles' `/metrics` have in common: how numbers are read, and how they are shown.

Prometheus asks, and what is known then is read. Each role has its own registry
(`master_app/metrics.py`, `node_app/metrics.py`); docs/operations.md has the names.
"""

import logging
import threading
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from typing import Final

from django.http import HttpResponse
from prometheus_client import CollectorRegistry, ProcessCollector
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    InfoMetricFamily,
)
from prometheus_client.exposition import choose_encoder
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector
from rest_framework.request import Request

from mini_dropbox import __version__, env

logger = logging.getLogger(__name__)

PREFIX: Final = "mini_dropbox_"
OPEN_METRICS: Final = "application/openmetrics-text"

# A number, or one for each value of a label; None for what is not known now.
Value = float | None
Values = Value | Mapping[str, Value]


class StateCollector(Collector):
    """Reads a process's state when it is scraped: each source yields what it knows.

    A source that fails leaves its own series out, and no others.
    """

    def __init__(self, *sources: Callable[[], Iterable[Metric]]) -> None:
        self._sources = sources

    def collect(self) -> Iterator[Metric]:
        failures = 0
        for source in self._sources:
            try:
                yield from list(source())
            except Exception:
                failures += 1
                logger.exception("Some metrics cannot be read")
        yield gauge("unreadable_metrics", "Groups of metrics that could not be read.", failures)


class Events(Collector):
    """Counts what happens now and then, in any thread, by one label: a few words of our own.

    Those in `values` are shown before the first as well.
    """

    def __init__(
        self, name: str, documentation: str, *, label: str, values: Collection[str]
    ) -> None:
        self._named = (name, documentation)
        self._label = label
        self._guard = threading.Lock()
        self._counts = dict.fromkeys(values, 0)

    def add(self, value: str, count: int = 1) -> None:
        with self._guard:
            self._counts[value] = self._counts.get(value, 0) + count

    def collect(self) -> Iterator[Metric]:
        yield counter(*self._named, dict(self._counts), label=self._label)


def gauge(name: str, documentation: str, values: Values, label: str = "") -> Metric:
    """Return a number as it is now, `mini_dropbox_<name>`; without values there is no series."""
    family = GaugeMetricFamily(PREFIX + name, documentation, labels=[label] if label else [])
    return _filled(family, values)


def counter(name: str, documentation: str, values: Values, label: str = "") -> Metric:
    """Return a number that only grows, `mini_dropbox_<name>_total`."""
    family = CounterMetricFamily(PREFIX + name, documentation, labels=[label] if label else [])
    return _filled(family, values)


def _filled(family: GaugeMetricFamily | CounterMetricFamily, values: Values) -> Metric:
    by_label = values.items() if isinstance(values, Mapping) else [(None, values)]
    for key, value in by_label:
        if value is not None:
            family.add_metric([] if key is None else [key], value)
    return family


def registry(settings: env.Env, *collectors: Collector) -> CollectorRegistry:
    """Return what a process's `/metrics` shows: these, the process itself, and its build."""
    # There is one worker a process (docs/adr/0018-metrics.md), so one registry has everything.
    made = CollectorRegistry()
    for collector in (_Build(settings), *collectors):
        made.register(collector)
    ProcessCollector(registry=made)
    return made


class _Build(Collector):
    def __init__(self, settings: env.Env) -> None:
        is_node = settings.role is env.Role.NODE
        self._labels = {
            "version": __version__,
            "role": settings.role.value,
            "node": settings.node_id if is_node else "",
        }

    def collect(self) -> Iterator[Metric]:
        yield InfoMetricFamily(PREFIX + "build", "Which program this is.", self._labels)


def metrics_response(request: Request, shown: CollectorRegistry) -> HttpResponse:
    """Return the text: OpenMetrics for who names it in `Accept`, or Prometheus's own format."""
    # The library would look at the versions as well, and fails over one that is no number.
    wanted = OPEN_METRICS if OPEN_METRICS in request.headers.get("Accept", "") else ""
    encode, content_type = choose_encoder(wanted)
    headers = {"Cache-Control": "no-store"}
    return HttpResponse(encode(shown), content_type=content_type, headers=headers)
