"""A short run of what `make faults` does for as long as one wants."""

import random
from pathlib import Path

import pytest

from tests.faults.thrash import thrash

pytestmark = pytest.mark.faults

SECONDS = 8.0


def test_two_faults_at_a_time_lose_nothing(tmp_path: Path) -> None:
    seed = random.randrange(10_000)

    report = thrash(tmp_path, seconds=SECONDS, seed=seed, nodes=4, replicas=3)

    said = "\n".join(report.lines())
    print(said)  # noqa: T201  pytest shows it when the test fails
    assert report.has_kept_its_promises, said
    assert sum(report.faults.values()) >= 2, said
    assert report.acknowledged > 50, said
    assert set(report.answers) <= {200, 503}, said
    assert set(report.reads) <= {"exact", "503", "broken"}, said
