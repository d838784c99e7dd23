"""The dashboard and the alerts that are shipped ask for what a running cluster shows."""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import pytest
import requests
import yaml

from tests.support.cluster import PROJECT_DIR, Cluster
from tests.support.promql import grouped_labels_of, labels_of, metrics_of
from tests.support.scraping import Scrape, scrape
from tests.support.waiting import eventually

pytestmark = pytest.mark.cluster

DASHBOARD = json.loads((PROJECT_DIR / "deploy/grafana/mini-dropbox.json").read_text())
PROMETHEUS = yaml.safe_load((PROJECT_DIR / "deploy/prometheus/prometheus.yml").read_text())
ALERTS = yaml.safe_load((PROJECT_DIR / "deploy/prometheus/alerts.yml").read_text())
OPERATIONS = (PROJECT_DIR / "docs/operations.md").read_text()

# Prometheus makes the metric, and these labels, itself.
OWN_METRIC = "up"
OWN_LABELS = {"instance", "job", "le"}


def panels() -> list[dict[str, Any]]:
    return [panel for panel in DASHBOARD["panels"] if panel["type"] != "row"]


def rules() -> list[dict[str, Any]]:
    return [rule for group in ALERTS["groups"] for rule in group["rules"]]


def expressions() -> Iterator[str]:
    for panel in panels():
        for target in panel["targets"]:
            yield target["expr"]
    for variable in DASHBOARD["templating"]["list"]:
        if variable["type"] == "query":
            yield variable["query"]["query"].replace("label_values(", "").partition(",")[0]
    for rule in rules():
        yield rule["expr"]


@dataclass(frozen=True)
class Shown:
    """What all processes of a cluster show together."""

    scrapes: list[Scrape]

    def names(self) -> set[str]:
        return set[str]().union(*(each.names() for each in self.scrapes))

    def labels(self, name: str) -> set[str]:
        return set[str]().union(*(each.label_names(name) for each in self.scrapes))


@pytest.fixture(scope="module")
def shown(cluster: Cluster) -> Shown:
    assert cluster.nodes[0].upload(b"so that every kind of request has been counted").ok
    eventually(lambda: scrape(cluster.master).get("repair_running"), what="the master repairs")
    return Shown([scrape(server) for server in (cluster.master, *cluster.nodes)])


def test_expressions_are_taken_apart_as_they_should_be() -> None:
    expression = (
        'histogram_quantile(0.9, sum by (le, a) (rate(x_bucket{b=~"c d", e!="f"}[5m]))) / 1e3'
        " > 2 and on (g) count(y == 0) or vector(0)"
    )
    assert metrics_of(expression) == {"x_bucket", "y"}
    assert labels_of(expression) == {"x_bucket": {"b", "e"}}
    assert grouped_labels_of(expression) == {"le", "a", "g"}


@pytest.mark.parametrize("expression", sorted(set(expressions())))
def test_every_expression_asks_for_what_there_is(shown: Shown, expression: str) -> None:
    names = metrics_of(expression)
    assert names
    assert names <= shown.names() | {OWN_METRIC}
    for name, labels in labels_of(expression).items():
        assert labels <= shown.labels(name) | OWN_LABELS, name
    known = set[str]().union(OWN_LABELS, *(shown.labels(name) for name in names))
    assert grouped_labels_of(expression) <= known


def test_every_metric_of_ours_is_described(shown: Shown) -> None:
    ours = {name for name in shown.names() if name.startswith("mini_dropbox_")}
    described = set(re.findall(r"`(mini_dropbox_\w+)`", OPERATIONS))
    histogram = "mini_dropbox_http_request_duration_seconds"
    ours = {name for name in ours if not name.startswith(histogram)} | {histogram}
    assert ours == described


def test_the_dashboard_can_be_imported() -> None:
    assert {"title", "uid", "schemaVersion", "panels", "templating"} <= DASHBOARD.keys()
    # An import gives the numbers that are missing.
    assert "id" not in DASHBOARD
    numbers = [panel["id"] for panel in DASHBOARD["panels"]]
    assert len(set(numbers)) == len(numbers)
    names = {variable["name"] for variable in DASHBOARD["templating"]["list"]}
    for panel in panels():
        assert panel["title"]
        assert panel["type"] in {"stat", "timeseries"}
        assert panel["datasource"]["uid"] == "${datasource}"
        references = [target["refId"] for target in panel["targets"]]
        assert len(set(references)) == len(references)
        for target in panel["targets"]:
            variables = set(re.findall(r"\$(\w+)", target["expr"])) - {"__rate_interval"}
            assert variables <= names


def test_no_panel_of_the_dashboard_hides_another() -> None:
    def cells(panel: dict[str, Any]) -> set[tuple[int, int]]:
        place = panel["gridPos"]
        columns = range(place["x"], place["x"] + place["w"])
        rows = range(place["y"], place["y"] + place["h"])
        return {(column, row) for column in columns for row in rows}

    for one, other in combinations(DASHBOARD["panels"], 2):
        assert not cells(one) & cells(other), (one["title"], other["title"])
    assert all(column < 24 for panel in DASHBOARD["panels"] for column, _ in cells(panel))


def test_every_alert_is_whole_and_is_explained() -> None:
    names = [rule["alert"] for rule in rules()]
    assert len(set(names)) == len(names)
    for rule in rules():
        assert rule.keys() <= {"alert", "expr", "for", "labels", "annotations"}
        assert re.fullmatch(r"[1-9][0-9]*[smh]", rule.get("for", "1s"))
        assert rule["labels"]["severity"] in {"warning", "critical"}
        assert rule["annotations"]["summary"]
    assert set(names) == set(re.findall(r"`(MiniDropbox\w+)`", OPERATIONS))


def test_the_example_scrapes_the_default_ports(shown: Shown) -> None:
    targets = {
        job["job_name"]: [target for each in job["static_configs"] for target in each["targets"]]
        for job in PROMETHEUS["scrape_configs"]
    }
    assert targets == {
        "mini-dropbox-master": ["127.0.0.1:9000"],
        "mini-dropbox-node": ["127.0.0.1:8001", "127.0.0.1:8002"],
    }
    assert PROMETHEUS["rule_files"] == ["alerts.yml"]
    jobs = {job for rule in rules() for job in re.findall(r'job="([^"]+)"', rule["expr"])}
    assert jobs == set(targets)


def test_scrapers_on_this_machine_may_name_it_as_they_like(cluster: Cluster) -> None:
    for server in (cluster.master, *cluster.nodes):
        for host in ("localhost", "127.0.0.1"):
            assert requests.get(f"http://{host}:{server.port}/metrics", timeout=5).ok
