"""Measures the whole system beside the machine's limits, and writes results, tables and plots.

    python -m bench.run                                          # everything, to docs/benchmarks/
    python -m bench.run --only put-small,get-small --rounds 3 --seconds 5
    python -m bench.run --smoke                                  # as little as shows that it works

Real processes on loopback, data on the disk that the project is on, product and limit in turns.
With --only or --smoke the table is printed, and written only where --publish or --output say.
"""

import argparse
import json
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from bench import (
    curves,
    file_curve,
    footprint,
    harness,
    limits,
    placement,
    refill,
    report,
    scrubbing,
    workloads,
)
from bench.harness import BenchError, Row
from bench.load import PROJECT_DIR
from bench.workloads import MIB, Settings, Unavailable

PROGRAMS: Final = {"wrk": "wrk", "nginx": "nginx-light"}
PUBLISHED: Final = PROJECT_DIR / "docs" / "benchmarks"
# Benchmarks of their own, which know how much they have to do; they are run with `--json`.
OTHERS: Final = ("metadata", "compression")
SMOKE: Final = (
    "get-small",
    "put-small",
    "put-large",
    "put-large-blob",
    "idle",
    "memory",
    "curve-files",
    "refill",
    "get-large-scrub",
)

Found = dict[str, Any]


def main(arguments: Sequence[str] | None = None) -> int:
    options = parse_options(arguments)
    # A run that is told to stop ends its servers and removes its files, as after Ctrl+C.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    missing = [p for name, p in PROGRAMS.items() if not shutil.which(limits.program(name))]
    if missing:
        print(f"The benchmarks need other programs: apt-get install {' '.join(missing)}")
        return 1
    names = chosen_names(options)
    known = all_names()
    if unknown := [name for name in names if name not in known]:
        print(f"There is no work {', '.join(unknown)}; there are {', '.join(known)}.")
        return 2
    data = harness.results([], {"rounds": options.rounds, "seconds": options.seconds})
    options.folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="run-", dir=options.folder) as folder:
        for name in names:
            harness.tell(name)
            merge(data, run_one(name, options, Path(folder) / name))
            write(data, options)
    print(report.table(data["rows"]))
    print(report.cost_table(data["rows"]))
    return 1 if any("failure" in row for row in data["rows"]) else 0


def chosen_names(options: argparse.Namespace) -> list[str]:
    if options.only:
        return str(options.only).split(",")
    if options.smoke:
        return [*SMOKE, "placement"]
    return [name for name in all_names() if name not in OTHERS or other_path(name).exists()]


def all_names() -> list[str]:
    return [*WORKS, *RUNS, "placement", *OTHERS]


def run_one(name: str, options: argparse.Namespace, folder: Path) -> Found:
    """Run one work, in a new folder; a work that fails is a row that says so."""
    folder.mkdir()
    try:
        return measure(name, settings_for(options, folder))
    except Unavailable as reason:
        harness.tell(f"  left out: {reason}")
        return {"rows": []}
    except harness.FAILURES as error:
        return {"rows": _json([harness.failed(name, error)])}
    finally:
        limits.empty(folder)


def measure(name: str, settings: Settings) -> Found:
    """Return a work's rows, and what else its plots need."""
    if name in OTHERS:
        return run_other(name, settings.folder / "results.json")
    if name == "placement":
        rows, loads = placement.rows(settings.nodes, settings.placed_blobs)
        return {"rows": _json(rows), "loads": loads}
    if name in RUNS:
        return {"rows": _json(RUNS[name](settings))}
    with WORKS[name](settings) as work:
        row = harness.measure(work, settings.rounds)
    return {"rows": _json([row])}


def run_other(name: str, path: Path) -> Found:
    """Run a benchmark that is a program of its own, and return its rows."""
    if not other_path(name).exists():
        raise Unavailable(f"There is no {other_path(name).name}.")
    command = [sys.executable, "-m", f"bench.{name}", "--json", str(path)]
    done = subprocess.run(command, cwd=PROJECT_DIR, stdout=sys.stderr, check=False)
    # Its status may say that a figure is too low; the rows say so, too.
    if not path.exists():
        raise BenchError(f"{other_path(name).name} ended with status {done.returncode}.")
    return {"rows": json.loads(path.read_text(encoding="utf-8"))["rows"]}


def other_path(name: str) -> Path:
    return PROJECT_DIR / "bench" / f"{name}.py"


def settings_for(options: argparse.Namespace, folder: Path) -> Settings:
    settings = Settings(
        folder=folder,
        rounds=options.rounds,
        seconds=options.seconds,
        memory_bytes=options.memory_mib * MIB,
        memory_way=options.memory_way,
    )
    if not options.smoke:
        return settings
    return replace(
        settings,
        blobs=64,
        memory_bytes=4 * MIB,
        nodes=10,
        placed_blobs=100_000,
        smoke=True,
    )


def merge(data: Found, found: Mapping[str, Any]) -> None:
    """Put rows in the place of those that a work of the same name has left, or at the end."""
    places = {row["work"]: index for index, row in enumerate(data["rows"])}
    for row in found["rows"]:
        dated = {**row, "taken_at": harness.now()}
        if row["work"] in places:
            data["rows"][places[row["work"]]] = dated
        else:
            data["rows"].append(dated)
    data |= {name: value for name, value in found.items() if name != "rows"}


def write(data: Found, options: argparse.Namespace) -> None:
    """Write what there is so far: a run that is broken off leaves what it has measured."""
    if options.output:
        harness.write_json(options.output, data)
    if options.publish:
        publish(data, options.publish)


def publish(data: Found, folder: Path) -> None:
    """Merge into the results that a folder has, and renew its page and plots."""
    from bench import plots  # noqa: PLC0415  Drawing takes a second to import.

    path = folder / "results.json"
    all_data = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {"rows": []}
    # What failed in an earlier run is no result, and its row may have had another name.
    kept = [row for row in all_data["rows"] if "failure" not in row]
    everything = {**all_data, **data, "rows": kept}
    merge(everything, {"rows": data["rows"]})
    harness.write_json(path, everything)
    report.write_page(folder / "README.md", everything, plots.draw_all(everything, folder))


def _json(rows: Sequence[Row]) -> list[dict[str, Any]]:
    return [row.to_json() for row in rows]


WORKS: Final = {
    **workloads.WORKS,
    "get-small-scrub": scrubbing.get_small,
    "get-large-scrub": scrubbing.get_large,
}
RUNS: Final[Mapping[str, Callable[[Settings], list[Row]]]] = {
    "idle": footprint.idle,
    "memory": footprint.memory,
    **curves.WORKS,
    "curve-files": file_curve.files,
    "refill": refill.refill,
}


def parse_options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--only", default="", help=f"of {', '.join(all_names())}")
    parser.add_argument("--smoke", action="store_true", help="a little of each, in a minute")
    parser.add_argument("--rounds", type=int, help="of each work (default: 5)")
    parser.add_argument("--seconds", type=float, help="of each run (default: 4)")
    parser.add_argument("--memory-mib", type=int, default=1024, help="of each of 16 uploads")
    parser.add_argument("--memory-way", default="blob", choices=["blob", "form", "tus"])
    parser.add_argument("--output", type=Path, help="a file for the JSON")
    parser.add_argument(
        "--publish",
        type=Path,
        nargs="?",
        const=PUBLISHED,
        help="merge into a folder's results, page and plots (default: docs/benchmarks)",
    )
    parser.add_argument(
        "--folder",
        type=Path,
        default=PROJECT_DIR / "data" / "bench",
        help="where data is kept while it runs, on the disk to be measured (default: data/bench)",
    )
    options = parser.parse_args(arguments)
    options.rounds = options.rounds or (1 if options.smoke else 5)
    options.seconds = options.seconds or (1 if options.smoke else 4)
    if not options.only and not options.smoke and not options.publish:
        options.publish = PUBLISHED
    return options


if __name__ == "__main__":
    sys.exit(main())
