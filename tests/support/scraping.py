"""What a `/metrics` shows, read as Prometheus reads it."""

from collections.abc import Mapping
from dataclasses import dataclass

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.openmetrics.parser import (
    text_string_to_metric_families as open_metrics_families,
)
from prometheus_client.parser import text_string_to_metric_families

from tests.support.cluster import Server

OPEN_METRICS = "application/openmetrics-text"

Series = tuple[str, frozenset[tuple[str, str]]]


@dataclass(frozen=True)
class Scrape:
    """The value of every series."""

    values: Mapping[Series, float]

    @classmethod
    def of(cls, text: str, *, is_open: bool = False) -> "Scrape":
        parse = open_metrics_families if is_open else text_string_to_metric_families
        return cls(
            {
                (sample.name, frozenset(sample.labels.items())): sample.value
                for family in parse(text)
                for sample in family.samples
            }
        )

    def get(self, name: str, **labels: str) -> float:
        """Return a value; 0 for a series that is not there, as after a start."""
        return self.values.get(series(name, **labels), 0.0)

    def has(self, name: str, **labels: str) -> bool:
        return series(name, **labels) in self.values

    def names(self) -> set[str]:
        return {name for name, _ in self.values}

    def label_names(self, name: str) -> set[str]:
        return {label for known, labels in self.values if known == name for label, _ in labels}


def series(name: str, **labels: str) -> Series:
    return f"mini_dropbox_{name}", frozenset(labels.items())


def shown(registry: CollectorRegistry) -> Scrape:
    return Scrape.of(generate_latest(registry).decode())


def scrape(server: Server) -> Scrape:
    answer = server.get("/metrics")
    assert answer.status_code == 200, answer.text
    return Scrape.of(answer.text)
