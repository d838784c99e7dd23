"""Measures the whole system beside the machine's limits, and writes results, table and plots.

    python -m bench.run --only put-small,get-small --rounds 3 --seconds 5

Real processes on loopback, data on the disk that the project is on, product and limit in turns.
"""

import argparse
import shutil
import sys
import tempfile
from pathlib import Path

from bench import harness, limits, report
from bench.load import PROJECT_DIR
from bench.workloads import WORKS, Settings, Unavailable

PROGRAMS = {"wrk": "wrk", "nginx": "nginx-light"}


def main() -> int:
    options = parse_options()
    missing = [
        package for name, package in PROGRAMS.items() if not shutil.which(limits.program(name))
    ]
    if missing:
        print(f"The benchmarks need other programs: apt-get install {' '.join(missing)}")
        return 1
    names = options.only.split(",") if options.only else list(WORKS)
    unknown = [name for name in names if name not in WORKS]
    if unknown:
        print(f"There is no work {', '.join(unknown)}; there are {', '.join(WORKS)}.")
        return 2
    rows = []
    for name in names:
        rows += run_work(name, options)
    data = harness.results(rows, {"rounds": options.rounds, "seconds": options.seconds})
    if options.output:
        harness.write_json(options.output, data)
    print(report.table(data["rows"]))
    return 0


def run_work(name: str, options: argparse.Namespace) -> list[harness.Row]:
    """Run one work in a folder of its own, which goes with it."""
    options.folder.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix=f"{name}-", dir=options.folder))
    harness.tell(name)
    try:
        with WORKS[name](Settings(folder=folder, seconds=options.seconds)) as work:
            return [harness.measure(work, options.rounds)]
    except Unavailable as reason:
        harness.tell(f"  left out: {reason}")
        return []
    finally:
        shutil.rmtree(folder)


def parse_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--only", default="", help="works, with commas between them")
    parser.add_argument("--rounds", type=int, default=5, help="of each work (default: 5)")
    parser.add_argument("--seconds", type=float, default=5, help="of each run (default: 5)")
    parser.add_argument("--output", type=Path, help="where the JSON goes")
    parser.add_argument(
        "--folder",
        type=Path,
        default=PROJECT_DIR / "data" / "bench",
        help="where data is kept while it runs, on the disk to be measured (default: data/bench)",
    )
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
