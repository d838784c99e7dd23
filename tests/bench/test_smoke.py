"""The benchmarks run as users run them, with as little of each as shows that they work."""

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from bench import limits, report, run
from tests.support.cluster import PROJECT_DIR

WORKS = {
    *("get-small", "put-small", "put-large", "put-large-blob"),
    *("idle-ready", "idle-cpu", "imports-master", "imports-node"),
    *("memory-2M", "memory-4M", "memory-growth"),
    *("files-get-100", "files-register-1000"),
    *("placement-load", "placement-join", "placement-loss", "placement-rank-2"),
}
MEASURED_BESIDE_A_LIMIT = {"get-small", "put-small", "put-large", "put-large-blob"}

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(400)]


@pytest.fixture(scope="module")
def smoke(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    if not all(shutil.which(limits.program(name)) for name in run.PROGRAMS):
        pytest.skip("wrk or nginx is missing: apt-get install wrk nginx-light")
    folder = tmp_path_factory.mktemp("bench")
    output, data = folder / "results.json", folder / "data"
    command = [sys.executable, "-m", "bench.run", "--smoke"]
    done = subprocess.run(
        [*command, "--output", str(output), "--folder", str(data)],
        cwd=PROJECT_DIR,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert list(data.iterdir()) == []
    return dict(json.loads(output.read_text(encoding="utf-8")))


def test_every_work_has_a_row_with_all_that_belongs_to_it(smoke: dict[str, Any]) -> None:
    rows = {row["work"]: row for row in smoke["rows"]}

    assert {"name", "taken_at", "machine", "parameters"} <= smoke.keys()
    assert rows.keys() >= WORKS
    for work in MEASURED_BESIDE_A_LIMIT:
        row = rows[work]
        assert row["value"] > 0
        assert row["ratio"] == pytest.approx(row["value"] / row["limit_value"])
        assert row["aim"] > row["at_least"] > 0
        assert row["cpu_ms"].keys() == {"master", "node", "client"}
        assert row["peak_mib"]["node"] > 0


def test_the_page_and_the_plots_can_be_made_of_it(smoke: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "README.md").write_text(f"Before\n{report.BEGIN}\n{report.END}\nAfter\n")

    run.publish(smoke, tmp_path)

    page = (tmp_path / "README.md").read_text(encoding="utf-8")
    assert page.startswith("Before\n")
    assert page.endswith("\nAfter\n")
    for row in smoke["rows"]:
        assert f"\n| {row['work']} |" in page
    for name in ("ratios.png", "placement.png"):
        assert (tmp_path / name).stat().st_size > 1000
        assert f"]({name})" in page
