"""A curve of the master's rates by the number of files that it knows."""

import statistics
from pathlib import Path
from typing import Final

from bench.harness import Row, tell
from bench.metadata import Works, make_database, masters
from bench.workloads import Settings

FILES: Final = (1_000, 10_000, 100_000, 1_000_000)
SMOKE_FILES: Final = (100, 1_000)
REQUESTS: Final = 500
MOST_ROUNDS: Final = 3

Rates = dict[str, tuple[float, ...]]


def files(settings: Settings) -> list[Row]:
    """Measure `/get` and `/register` at each number of files, each with a master of its own."""
    steps = SMOKE_FILES if settings.smoke else FILES
    rows: list[Row] = []
    first: dict[str, float] = {}
    for step in steps:
        folder = settings.folder / f"{step}_files"
        folder.mkdir()
        for series, rates in _rates(folder, step, min(settings.rounds, MOST_ROUNDS)).items():
            value = statistics.median(rates)
            reference = first.setdefault(series, value)
            rows.append(
                Row(
                    work=f"{series}-{step}",
                    value=value,
                    unit="/s",
                    limit_name=f"the same at {steps[0]:,} files",
                    limit_value=reference,
                    ratio=value / reference,
                    spread=(min(rates), max(rates)),
                    series=series,
                    x=step,
                )
            )
            tell(f"  {series}, {step:,} files: {value:.0f}/s")
    return rows


def _rates(folder: Path, files_count: int, rounds: int) -> Rates:
    works = Works(requests=REQUESTS, hashes={folder: make_database(folder, files_count)})
    with masters([folder]) as (master,):
        works.warm_up(master)
        pairs = [(works.gets(master), works.registers(master)) for _ in range(rounds)]
    gets, registers = zip(*pairs, strict=True)
    return {"files-get": gets, "files-register": registers}
