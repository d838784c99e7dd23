"""Rounds of product and limit in turns, and what comes out of them."""

import json
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final

import psutil
import requests

from bench import processes
from bench.cluster import ClusterError
from bench.load import Load, LoadError

NAME: Final = "system"

Roles = Callable[[], Mapping[str, Sequence[psutil.Process]]]


class BenchError(Exception):
    """A figure cannot be trusted, so there is none."""


# What can go wrong with a work without ending the others.
FAILURES: Final = (
    *(BenchError, ClusterError, LoadError),
    *(OSError, subprocess.SubprocessError, requests.RequestException),
)


@dataclass(frozen=True, kw_only=True)
class Reading:
    """One run of anything: a rate, and who used how many milliseconds of CPU for an operation."""

    value: float
    cpu_ms: Mapping[str, float]

    def scaled(self, scale: float) -> "Reading":
        """Return the same with the rate in another unit."""
        return Reading(value=self.value * scale, cpu_ms=self.cpu_ms)


@dataclass(frozen=True, kw_only=True)
class Measurement(Reading):
    """One run of servers and a client; `peak_mib` is the largest process of each role.

    `others` is the part of all cores, 0 to 1, that went to anybody else meanwhile.
    """

    operations: int
    p50_ms: float
    p99_ms: float
    peak_mib: Mapping[str, float]
    others: float


@dataclass(frozen=True, kw_only=True)
class Limit:
    """What the machine could do, in the unit of the work it stands beside."""

    name: str
    measure: Callable[[], Reading]


@dataclass(frozen=True, kw_only=True)
class Work:
    """Something to measure, ready to be run: its servers are up, its files are there.

    The smallest of `limits` is the one that counts; `beside` is for comparison only.
    """

    name: str
    unit: str
    measure: Callable[[], Measurement]
    limits: Sequence[Limit] = ()
    beside: Sequence[Limit] = ()
    at_least: float | None = None
    aim: float | None = None


@dataclass(frozen=True, kw_only=True)
class Row:
    """One line of the results: medians of all rounds, and the smallest and largest of each.

    `ratio` is the median of the rounds' own ratios; a work of a curve has `series` and `x`.
    """

    work: str
    value: float
    unit: str
    limit_name: str = ""
    limit_value: float | None = None
    ratio: float | None = None
    at_least: float | None = None
    aim: float | None = None
    spread: tuple[float, float] | None = None
    limit_spread: tuple[float, float] | None = None
    ratio_spread: tuple[float, float] | None = None
    p50_ms: float | None = None
    p99_ms: float | None = None
    cpu_ms: Mapping[str, float] = field(default_factory=dict)
    limit_cpu_ms: Mapping[str, float] = field(default_factory=dict)
    peak_mib: Mapping[str, float] = field(default_factory=dict)
    others: float | None = None
    beside: Mapping[str, float] = field(default_factory=dict)
    series: str = ""
    x: float | None = None
    failure: str = ""

    def to_json(self) -> dict[str, Any]:
        return {name: value for name, value in asdict(self).items() if value not in (None, "", {})}


def observe(run: Callable[[], Load], roles: Roles, *, scale: float = 1.0) -> Measurement:
    """Run a client and account for everybody's CPU and memory; `scale` makes its rate the unit.

    BenchError when any operation failed: a figure of answers that were refusals means nothing.
    """
    present = roles()
    for members in present.values():
        processes.reset_peaks(members)
    before = {role: processes.cpu_seconds(members) for role, members in present.items()}
    machine_before, began = processes.machine_cpu_seconds(), time.monotonic()
    load = run()
    cores_seconds = (time.monotonic() - began) * (os.cpu_count() or 1)
    machine_used = processes.machine_cpu_seconds() - machine_before
    used = {role: processes.cpu_seconds(present[role]) - before[role] for role in present}
    if load.failed:
        raise BenchError(f"{load.failed} failed, {load.operations} did not: {load.failure}")
    if not load.operations:
        raise BenchError(f"Nothing was answered within {load.seconds:.1f} s.")
    cpu = used | {"client": load.cpu_seconds}
    return Measurement(
        value=load.rate * scale,
        operations=load.operations,
        p50_ms=load.p50_ms,
        p99_ms=load.p99_ms,
        cpu_ms={role: seconds * 1000 / load.operations for role, seconds in cpu.items()},
        peak_mib={role: processes.peak_mib(members) for role, members in present.items()},
        others=max(machine_used - sum(cpu.values()), 0.0) / cores_seconds,
    )


def measure(work: Work, rounds: int) -> Row:
    """Run the work and its limits in turns, and return their medians."""
    own: list[Measurement] = []
    others: dict[str, list[Reading]] = {limit.name: [] for limit in (*work.limits, *work.beside)}
    for number in range(1, rounds + 1):
        own.append(work.measure())
        for limit in (*work.limits, *work.beside):
            others[limit.name].append(limit.measure())
        said = ", ".join(f"{name} {readings[-1].value:,.1f}" for name, readings in others.items())
        tell(f"  {work.name} {number}/{rounds}: {own[-1].value:,.1f} {work.unit}; {said}")
    return _row(work, own, others)


def failed(work: str, error: Exception) -> Row:
    """Return a row that says why there is no figure."""
    tell(f"  {work} failed: {error}")
    return Row(work=work, value=0.0, unit="", failure=str(error))


def bounded(work: str, value: float, unit: str, most: float) -> Row:
    """Return a row of something that has to stay below a bound: `ratio` is the room it leaves."""
    return Row(
        work=work,
        value=value,
        unit=unit,
        limit_name="at most",
        limit_value=most,
        ratio=most / value if value else None,
        at_least=1.0,
    )


def _row(work: Work, own: Sequence[Measurement], others: Mapping[str, Sequence[Reading]]) -> Row:
    values = [measurement.value for measurement in own]
    rates = {name: [reading.value for reading in readings] for name, readings in others.items()}
    medians = {name: statistics.median(numbers) for name, numbers in rates.items()}
    limit = min((limit.name for limit in work.limits), key=lambda name: medians[name], default="")
    # Each round's own ratio: what slows the machine for a while then slows both.
    ratios = [value / other for value, other in zip(values, rates.get(limit, ()), strict=False)]
    return Row(
        work=work.name,
        value=statistics.median(values),
        unit=work.unit,
        limit_name=limit,
        limit_value=medians[limit] if limit else None,
        ratio=statistics.median(ratios) if ratios else None,
        at_least=work.at_least,
        aim=work.aim,
        spread=(min(values), max(values)),
        limit_spread=(min(rates[limit]), max(rates[limit])) if limit else None,
        ratio_spread=(min(ratios), max(ratios)) if ratios else None,
        p50_ms=statistics.median(measurement.p50_ms for measurement in own),
        p99_ms=statistics.median(measurement.p99_ms for measurement in own),
        cpu_ms=_medians([measurement.cpu_ms for measurement in own]),
        limit_cpu_ms=_medians([each.cpu_ms for each in others[limit]]) if limit else {},
        peak_mib=_largest([measurement.peak_mib for measurement in own]),
        others=statistics.median(measurement.others for measurement in own),
        beside={name: number for name, number in medians.items() if name != limit},
    )


def _medians(maps: Sequence[Mapping[str, float]]) -> dict[str, float]:
    return {name: statistics.median(each[name] for each in maps) for name in maps[0]}


def _largest(maps: Sequence[Mapping[str, float]]) -> dict[str, float]:
    return {name: max(each[name] for each in maps) for name in maps[0]}


def results(
    rows: Sequence[Row], parameters: Mapping[str, Any], *, name: str = NAME
) -> dict[str, Any]:
    """Return everything as the JSON that every benchmark here writes."""
    return {
        "name": name,
        "taken_at": now(),
        "machine": machine(),
        "parameters": dict(parameters),
        "rows": [row.to_json() for row in rows],
    }


def now() -> str:
    """Return the time in UTC as results have it."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())


def machine() -> dict[str, Any]:
    """Describe what the figures were taken on."""
    model = platform.processor() or platform.machine()
    information = Path("/proc/cpuinfo")
    if information.exists():
        lines = information.read_text(encoding="utf-8").splitlines()
        names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
        model = names[0] if names else model
    return {
        "processor": model,
        "cores": os.cpu_count(),
        "memory_gib": round(psutil.virtual_memory().total / 2**30, 1),
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
    }


def write_json(path: Path, data: Mapping[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(data, indent=1) + "\n", encoding="utf-8")


def tell(text: str) -> None:
    """Say how far it is, beside the output proper."""
    print(text, file=sys.stderr, flush=True)
