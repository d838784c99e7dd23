"""The benchmark of the master's metadata runs, and says what it has found in the form agreed."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.cluster import PROJECT_DIR


@pytest.mark.cluster
def test_a_small_run_measures_everything_and_writes_it_down(tmp_path: Path) -> None:
    result = tmp_path / "result.json"
    options = ["--files", "200,2000", "--rounds", "1", "--requests", "10", "--json", str(result)]
    run = subprocess.run(
        [sys.executable, "bench/metadata.py", *options],
        cwd=PROJECT_DIR,
        capture_output=True,
        text=True,
        timeout=110,
        check=False,
    )
    # 1 says that a ratio is too low, which so short a run may find on a busy machine.
    assert run.returncode in {0, 1}, run.stdout + run.stderr
    found = json.loads(result.read_text())
    assert found["name"] == "metadata"
    assert found["machine"]["cores"] > 0
    rows = {row["work"]: row for row in found["rows"]}
    assert {"GET /get", "POST /register", "first page of the admin's files"} <= rows.keys()
    for row in rows.values():
        assert row["value"] >= 0
        assert row["unit"]
        if "at_least" in row:
            assert {"limit_name", "limit_value"} <= row.keys()
            assert row["ratio"] > 0
    assert rows["GET /list"]["value"] > 0


@pytest.mark.parametrize("files", ["", "1", "a,b", "0,5", "1,2,3"])
def test_numbers_that_make_no_sense_are_refused(files: str) -> None:
    run = subprocess.run(
        [sys.executable, "bench/metadata.py", "--files", files],
        cwd=PROJECT_DIR,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert run.returncode == 2
    assert "--files" in run.stderr or "at least 1" in run.stderr
