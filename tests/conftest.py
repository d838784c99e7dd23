"""What several kinds of tests share."""

import os
from collections.abc import Callable, Generator, Iterator
from typing import Any

import pytest

from tests.support.cluster import Cluster, Server
from tests.support.refusals import REFUSED, names_listed, servers
from tests.support.waiting import eventually

LOG_CHARACTERS = 8000


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--long", action="store_true", help="run the tests of faults at full length")


@pytest.fixture(scope="session")
def django_db_modify_db_settings(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Keep the tests' tables in a file, as in production: one in memory locks differently."""
    from django.conf import settings  # noqa: PLC0415  pytest-django has made them ready by now

    database = settings.DATABASES["default"]
    name = str(tmp_path_factory.mktemp("database") / "test.sqlite3")
    database.setdefault("TEST", {})["NAME"] = name


StartCluster = Callable[..., Cluster]

# A worker may keep this many more connections to its peers than before.
SPARE_DESCRIPTORS = 6


@pytest.fixture(scope="session")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """Return a cluster for tests that leave it as whole as they found it."""
    shared = Cluster(tmp_path_factory.mktemp("cluster"), HEARTBEAT_SECONDS="0.5")
    try:
        shared.start()
        shared.wait_until_ready()
        yield shared
    finally:
        shared.stop()


@pytest.fixture(scope="module")
def node(cluster: Cluster) -> Server:
    return cluster.nodes[0]


@pytest.fixture(scope="module")
def nothing_is_left_behind(cluster: Cluster) -> Iterator[None]:
    """Compare descriptors, temporary files, rows and logs before and after a module's tests."""
    for each in cluster.nodes:
        assert each.upload(b"open the connections between the nodes").ok
    before = [descriptors(cluster, server) for server in servers(cluster)]
    yield
    limits = [count + SPARE_DESCRIPTORS for count in before]
    eventually(
        lambda: all(
            descriptors(cluster, server) <= limit
            for server, limit in zip(servers(cluster), limits, strict=True)
        ),
        20,
        what="the open descriptors are as few as before",
    )
    eventually(lambda: not cluster.temporary_files(), what="no temporary files are left")
    assert REFUSED not in names_listed(cluster)
    assert "Traceback" not in cluster.log


def descriptors(cluster: Cluster, server: Server) -> int:
    return int(cluster.worker(server).num_fds())


@pytest.fixture
def start_cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[StartCluster]:
    """Start clusters of a test's own; `ready=False` returns before they answer."""
    started: list[Cluster] = []

    def start(*, ready: bool = True, node_count: int = 2, **settings: str) -> Cluster:
        settings.setdefault("HEARTBEAT_SECONDS", "0.3")
        own = Cluster(tmp_path_factory.mktemp("cluster"), node_count=node_count, **settings)
        started.append(own)
        own.start()
        if ready:
            own.wait_until_ready()
        return own

    # The fixture's value carries its clusters, so that a failure can show their logs.
    start.clusters = started  # type: ignore[attr-defined]
    try:
        yield start
    finally:
        for own in started:
            own.stop()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, Any, Any]:
    """Show the logs of the clusters that a failed test has used; in CI, let no test be skipped."""
    report = yield
    if report.skipped and "CI" in os.environ:
        report.outcome, report.longrepr = "failed", f"skipped, which CI forbids: {report.longrepr}"
    if report.failed:
        for value in getattr(item, "funcargs", {}).values():
            clusters = [value] if isinstance(value, Cluster) else getattr(value, "clusters", [])
            for used in clusters:
                report.sections.append((f"log of {used.log_path}", used.log[-LOG_CHARACTERS:]))
    return report
