"""How requests are counted, and how numbers are shown."""

import random
from collections.abc import Iterator
from typing import Any

import pytest
from django.conf import settings
from django.http import HttpResponse
from django.test import RequestFactory
from prometheus_client import CollectorRegistry
from prometheus_client.metrics_core import Metric
from rest_framework.request import Request

from mini_dropbox import __version__, metrics
from mini_dropbox.asgi_types import Receive, Scope, Send
from mini_dropbox.metrics import (
    Events,
    StateCollector,
    counter,
    gauge,
)
from mini_dropbox.request_stats import BOUNDS, METHODS, RequestStats, counted
from tests.support.scraping import OPEN_METRICS, Scrape, shown

ROUTES = ("/", "/upload", "/retrieve", "/blobs/", "/internal/blobs/")


@pytest.fixture
def stats() -> RequestStats:
    return RequestStats(ROUTES)


def scraped(*collectors: Any) -> Scrape:
    registry = CollectorRegistry()
    for collector in collectors:
        registry.register(collector)
    return shown(registry)


class TestRoutes:
    @pytest.mark.parametrize(
        ("path", "route"),
        [
            ("/", "/"),
            ("/upload", "/upload"),
            ("/upload/", "other"),
            ("/uploads", "other"),
            ("/blobs/", "/blobs/"),
            ("/blobs/0cc175b9c0f1b6a831c399e269772661", "/blobs/"),
            ("/internal/blobs/../../etc/passwd", "/internal/blobs/"),
            ("/internal", "other"),
            ("//", "other"),
            ("", "other"),
        ],
    )
    def test_are_paths_or_their_beginnings(
        self, stats: RequestStats, path: str, route: str
    ) -> None:
        assert stats.route(path) == route

    def test_no_request_makes_a_series_of_its_own(self, stats: RequestStats) -> None:
        chance = random.Random(3)
        for _ in range(2000):
            path = "".join(chance.choices('/abcé%"\n\\{}', k=chance.randrange(40)))
            prefix = chance.choice(["", *ROUTES])
            method = chance.choice([*METHODS, "BREW", path])
            stats.of(method, prefix + path).end(chance.choice([0, 200, 404, 503]), 0.1)
        labels = set(stats._served)
        assert labels <= {(m, r) for m in (*METHODS, "other") for r in (*ROUTES, "other")}
        requests = [name for name, _ in scraped(stats).values if name.endswith("requests_total")]
        assert len(requests) == 6 * len(labels)

    def test_one_route_is_one_place_to_count(self, stats: RequestStats) -> None:
        assert stats.of("PUT", "/blobs/a") is stats.of("PUT", "/blobs/b")
        assert stats.of("PUT", "/blobs/a") is not stats.of("GET", "/blobs/a")


class TestCounting:
    def test_a_request_is_in_flight_and_then_counted(self, stats: RequestStats) -> None:
        served = stats.of("POST", "/upload")
        labels = {"method": "POST", "route": "/upload"}
        served.in_flight += 1
        assert scraped(stats).get("http_requests_in_flight", **labels) == 1
        served.received_on_loop += 300
        served.receive_in_thread(400)
        served.send(30)
        served.end(200, 0.02)
        seen = scraped(stats)
        assert seen.get("http_requests_in_flight", **labels) == 0
        assert seen.get("http_requests_total", **labels, status="2xx") == 1
        assert seen.get("http_requests_total", **labels, status="5xx") == 0
        assert seen.has("http_requests_total", **labels, status="5xx")
        assert seen.get("http_received_bytes_total", **labels) == 700
        assert seen.get("http_sent_bytes_total", **labels) == 30

    def test_latencies_fall_into_their_buckets(self, stats: RequestStats) -> None:
        served = stats.of("GET", "/")
        seconds = [0.0005, 0.001, 0.0011, 0.3, 11.0]
        for each in seconds:
            served.end(200, each)
        seen = scraped(stats)
        name, labels = "http_request_duration_seconds", {"method": "GET", "route": "/"}
        for bound in BOUNDS:
            expected = sum(each <= bound for each in seconds)
            assert seen.get(f"{name}_bucket", **labels, le=str(bound)) == expected
        assert seen.get(f"{name}_count", **labels) == len(seconds)
        assert seen.get(f"{name}_sum", **labels) == pytest.approx(sum(seconds))

    def test_events_are_there_before_the_first(self) -> None:
        events = Events("fires", "Fires.", label="kind", values=("small", "large"))
        events.add("large", 3)
        seen = scraped(events)
        assert seen.get("fires_total", kind="large") == 3
        assert seen.has("fires_total", kind="small")


async def ask(application: Any, *, method: str = "POST", path: str = "/upload") -> list[Any]:
    """Send one request with a body of two parts, and return what is answered."""
    messages = [
        {"type": "http.request", "body": b"12345", "more_body": True},
        {"type": "http.request", "body": b"678", "more_body": False},
    ]
    sent: list[Any] = []

    async def receive() -> Any:
        return messages.pop(0) if messages else {"type": "http.disconnect"}

    async def send(message: Any) -> None:
        sent.append(message)

    await application({"type": "http", "method": method, "path": path}, receive, send)
    return sent


class TestCountedApplication:
    async def test_its_answers_pass_and_are_counted(self, stats: RequestStats) -> None:
        async def application(scope: Scope, receive: Receive, send: Send) -> None:
            while (await receive()).get("more_body"):
                pass
            await send({"type": "http.response.start", "status": 404, "headers": []})
            await send({"type": "http.response.body", "body": b"abc", "more_body": True})
            await send({"type": "http.response.body", "body": b"d"})

        sent = await ask(counted(application, stats))
        assert [message.get("status", message.get("body")) for message in sent] == [
            404,
            b"abc",
            b"d",
        ]
        seen, labels = scraped(stats), {"method": "POST", "route": "/upload"}
        assert seen.get("http_requests_total", **labels, status="4xx") == 1
        assert seen.get("http_received_bytes_total", **labels) == 8
        assert seen.get("http_sent_bytes_total", **labels) == 4

        await ask(counted(application, stats), method="HEAD")
        assert scraped(stats).get("http_sent_bytes_total", method="HEAD", route="/upload") == 0

    async def test_a_fault_counts_as_500(self, stats: RequestStats) -> None:
        async def application(*_: object) -> None:
            raise RuntimeError

        with pytest.raises(RuntimeError):
            await ask(counted(application, stats))
        seen, labels = scraped(stats), {"method": "POST", "route": "/upload"}
        assert seen.get("http_requests_total", **labels, status="5xx") == 1
        assert seen.get("http_requests_in_flight", **labels) == 0

    async def test_a_client_that_has_gone_is_no_answer(self, stats: RequestStats) -> None:
        async def application(*_: object) -> None:
            return

        await ask(counted(application, stats))
        labels = {"method": "POST", "route": "/upload"}
        assert scraped(stats).get("http_requests_total", **labels, status="none") == 1


class TestState:
    def test_a_source_that_fails_takes_no_other_with_it(
        self, caplog: pytest.LogCaptureFixture
    ) -> None:
        def broken() -> Iterator[Metric]:
            yield gauge("half", "Half of a source.", 1)
            raise OSError("the disk is gone")

        def whole() -> Iterator[Metric]:
            yield gauge("height", "Height.", 7)
            yield gauge("unknown", "What nobody knows.", None)
            yield counter("steps", "Steps.", {"up": 2, "down": None}, label="way")

        seen = scraped(StateCollector(broken, whole))
        assert seen.get("height") == 7
        assert not seen.has("half")
        assert not seen.has("unknown")
        assert seen.get("steps_total", way="up") == 2
        assert not seen.has("steps_total", way="down")
        assert seen.get("unreadable_metrics") == 1
        assert "the disk is gone" in caplog.text
        assert scraped(StateCollector(whole)).get("unreadable_metrics") == 0


class TestExposition:
    @pytest.fixture
    def registry(self, stats: RequestStats) -> CollectorRegistry:
        stats.of("GET", "/").end(200, 0.1)
        return metrics.registry(settings.ENV, stats)

    def answer(self, registry: CollectorRegistry, **headers: str) -> HttpResponse:
        request = Request(RequestFactory().get("/metrics", headers=headers))
        return metrics.metrics_response(request, registry)

    @pytest.mark.parametrize("accept", ["", "*/*", "text/plain;version=abc", "text/html"])
    def test_is_prometheus_own_text(self, registry: CollectorRegistry, accept: str) -> None:
        answer = self.answer(registry, accept=accept)
        assert answer["Content-Type"] == "text/plain; version=0.0.4; charset=utf-8"
        seen = Scrape.of(answer.content.decode())
        assert seen.get("http_requests_total", method="GET", route="/", status="2xx") == 1
        assert seen.get("build_info", version=__version__, role="master", node="") == 1

    @pytest.mark.parametrize("version", ["1.0.0", "0.0.1", "abc", '"', "9" * 5000])
    def test_is_open_metrics_where_asked(self, registry: CollectorRegistry, version: str) -> None:
        answer = self.answer(registry, accept=f"{OPEN_METRICS};version={version};q=0.5,*/*;q=0.1")
        assert answer["Content-Type"].startswith(f"{OPEN_METRICS}; version=1.0.0")
        seen = Scrape.of(answer.content.decode(), is_open=True)
        assert seen.get("http_requests_total", method="GET", route="/", status="2xx") == 1

    def test_tells_of_the_process(self, registry: CollectorRegistry) -> None:
        text = self.answer(registry).content.decode()
        found = dict(line.rsplit(" ", 1) for line in text.splitlines() if line[0] != "#")
        assert all(float(found[name]) > 0 for name in PROCESS)
        assert "_created" not in text


PROCESS = ("process_cpu_seconds_total", "process_resident_memory_bytes", "process_open_fds")
