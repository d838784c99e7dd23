"""Rows become tables, and results of several runs one page."""

import json
from argparse import Namespace
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from bench import curves, plots, report, run
from bench.harness import (
    BenchError,
    Limit,
    Measurement,
    Reading,
    Row,
    Work,
    measure,
    observe,
    results,
)
from bench.load import Load
from bench.placement import make_nodes
from bench.workloads import Settings


def row(work: str = "get-small", **more: Any) -> dict[str, Any]:
    return {"work": work, "value": 12_345.6, "unit": "requests/s", **more}


def measurement(value: float) -> Measurement:
    own = {"node": value / 10}
    return Measurement(
        value=value, operations=1, p50_ms=1, p99_ms=2, cpu_ms=own, peak_mib=own, others=0
    )


def load(**more: Any) -> Load:
    seen = {"operations": 100, "seconds": 2.0, "failed": 0, "received_bytes": 0}
    return Load(**{**seen, "cpu_seconds": 0.1, "p50_ms": 1.0, "p99_ms": 2.0, **more})


def test_a_row_shows_the_limit_that_counts() -> None:
    limited = row(limit_name="nginx", limit_value=20_000, ratio=0.617, at_least=0.4, aim=0.6)

    assert "| 12,346 requests/s | 20,000, nginx | **0.62** | 0.40 | 0.60 |" in report.table(
        [limited]
    )


def test_a_work_that_failed_says_why() -> None:
    assert "| put | failed: a \\| b |" in report.table([row("put", failure="a |\nb")])


def test_the_smallest_limit_counts_and_a_ratio_is_the_median_of_the_rounds_own() -> None:
    values = iter([10.0, 30.0, 20.0])
    disk, core = iter([20.0, 40.0, 25.0]), iter([50.0, 50.0, 50.0])
    work = Work(
        name="put",
        unit="MiB/s",
        measure=lambda: measurement(next(values)),
        limits=[
            Limit(name="core", measure=lambda: Reading(value=next(core), cpu_ms={"limit": 1.0})),
            Limit(name="disk", measure=lambda: Reading(value=next(disk), cpu_ms={"limit": 2.0})),
        ],
    )

    found = measure(work, 3)

    assert (found.value, found.spread) == (20.0, (10.0, 30.0))
    assert (found.limit_name, found.limit_value, found.ratio) == ("disk", 25.0, 0.75)
    assert found.limit_cpu_ms == {"limit": 2.0}
    assert (found.beside, found.cpu_ms, found.peak_mib) == (
        {"core": 50.0},
        {"node": 2},
        {"node": 3},
    )


def test_one_failed_operation_is_enough_to_have_no_figure() -> None:
    assert observe(load, dict).value == 50.0
    with pytest.raises(BenchError, match=r"1 failed.*refused"):
        observe(lambda: load(failed=1, failure="refused"), dict)


def test_a_later_run_replaces_the_rows_that_it_has_measured_anew(tmp_path: Path) -> None:
    page = tmp_path / "README.md"
    page.write_text(f"{report.BEGIN}\nold\n{report.END}\n")
    first, second = ([Row(work=name, value=1, unit="s").to_json() for name in "ab"], [row("b")])

    for rows in (first, second):
        run.publish(results([], {}) | {"rows": rows}, tmp_path)

    kept = json.loads((tmp_path / "results.json").read_text())["rows"]
    assert [(each["work"], each["value"]) for each in kept] == [("a", 1), ("b", 12_345.6)]
    assert "old" not in page.read_text()


def test_a_page_without_markers_is_left_alone(tmp_path: Path) -> None:
    page = tmp_path / "README.md"
    page.write_text("mine")

    with pytest.raises(report.NoMarkers):
        report.write_page(page, results([], {}))

    assert page.read_text() == "mine"


def test_curves_and_loads_are_drawn(tmp_path: Path) -> None:
    limits = {"limit_name": "nginx", "limit_value": 9, "ratio": 0.5}
    points = [
        row(f"{series}-{x}", series=series, x=x, **limits)
        for series in ("get-size", "put-connections")
        for x in (1024, 4096)
    ]
    loads = [(float(weight), 1.0) for weight in make_nodes(10).weights]

    drawn = plots.draw_all({"rows": points, "loads": loads}, tmp_path)

    assert {path.name for path in drawn} == {"get-size.png", "put-connections.png", "placement.png"}
    assert all(path.stat().st_size > 1000 for path in drawn)


def test_a_step_that_fails_leaves_the_rest_of_a_curve(tmp_path: Path) -> None:
    @contextmanager
    def point(settings: Settings, name: str, step: int) -> Iterator[Work]:
        if step == 2:
            raise BenchError("too much")
        yield Work(name=name, unit="s", measure=lambda: measurement(step))

    settings = Settings(folder=tmp_path, rounds=1, seconds=1)

    rows = curves.curve(settings, "nodes", (1, 2, 4), point)

    assert [(each.work, each.value, each.failure) for each in rows] == [
        ("nodes-1", 1, ""),
        ("nodes-2", 0, "too much"),
        ("nodes-4", 4, ""),
    ]


@pytest.mark.parametrize("option", ["--only=nonsense", "--only=get-small,nonsense"])
def test_an_unknown_work_is_named(option: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run.main([option]) == 2
    assert "There is no work nonsense; there are get-small," in capsys.readouterr().out


def test_a_missing_program_is_one_sentence(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(run, "PROGRAMS", {"no-such-program": "some-package"})

    assert run.main(["--smoke"]) == 1
    said = capsys.readouterr().out
    assert said == "The benchmarks need other programs: apt-get install some-package\n"


def test_a_work_that_fails_does_not_end_the_others(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def fail(name: str, settings: object) -> None:
        raise BenchError("2 failed")

    monkeypatch.setattr(run, "measure", fail)
    options = run.parse_options(["--smoke", "--folder", str(tmp_path)])
    assert isinstance(options, Namespace)

    assert run.run_one("get-small", options, tmp_path / "work")["rows"][0]["failure"] == "2 failed"
