"""What the tests of faults share."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest

from tests.support.machines import Machines

StartMachines = Callable[..., Machines]


@pytest.fixture
def mounts() -> Iterator[ExitStack]:
    """Take the contexts that a test's servers need, and end them after the servers."""
    with ExitStack() as stack:
        yield stack


@pytest.fixture
def machines(
    tmp_path_factory: pytest.TempPathFactory, mounts: ExitStack
) -> Iterator[StartMachines]:
    """Make clusters of separate servers; `start=False` leaves that to the test."""
    made: list[Machines] = []

    def make(*, start: bool = True, **settings: object) -> Machines:
        settings.setdefault("HEARTBEAT_SECONDS", "0.3")
        cluster = Machines(tmp_path_factory.mktemp("machines"), **settings)
        made.append(cluster)
        if start:
            cluster.start()
            cluster.wait_until_ready()
        return cluster

    # The fixture's value carries its clusters, so that a failure can show their logs.
    make.clusters = made  # type: ignore[attr-defined]
    try:
        yield make
    finally:
        for cluster in made:
            cluster.stop()


@pytest.fixture
def is_long(request: pytest.FixtureRequest) -> bool:
    """Tell whether the long forms of tests are asked for."""
    return bool(request.config.getoption("--long"))
