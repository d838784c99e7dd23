"""Curves: one work at several sizes, numbers of connections, or numbers of nodes."""

import tempfile
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path
from typing import Final

from bench import harness
from bench.harness import Row, Work
from bench.workloads import KIB, MIB, SMALL, Settings, get, put_by_sender, put_forms

SIZES: Final = (KIB, 16 * KIB, 256 * KIB, MIB, 8 * MIB, 64 * MIB, 1024 * MIB)
CONNECTIONS: Final = (1, 4, 16, 64, 256)
NODES: Final = (1, 2, 4, 8)
# Curves show a shape; the works that are held against an aim have more rounds, and longer ones.
MOST_ROUNDS: Final = 2
MOST_SECONDS: Final = 3.0

Point = Callable[[Settings, str, int], AbstractContextManager[Work]]


def get_size(settings: Settings) -> list[Row]:
    return curve(settings, "get-size", SIZES, lambda s, name, size: get(s, name, size, 4))


def put_size(settings: Settings) -> list[Row]:
    def point(settings: Settings, name: str, size: int) -> AbstractContextManager[Work]:
        return put_by_sender(settings, name, size, 4, way="form", copies=1)

    return curve(settings, "put-size", SIZES, point)


def get_connections(settings: Settings) -> list[Row]:
    return curve(
        settings, "get-connections", CONNECTIONS, lambda s, name, x: get(s, name, SMALL, x)
    )


def put_connections(settings: Settings) -> list[Row]:
    return curve(
        settings, "put-connections", CONNECTIONS, lambda s, name, x: put_forms(s, name, SMALL, x)
    )


def get_nodes(settings: Settings) -> list[Row]:
    return curve(settings, "get-nodes", NODES, lambda s, name, x: get(s, name, SMALL, 16, nodes=x))


def put_nodes(settings: Settings) -> list[Row]:
    return curve(
        settings, "put-nodes", NODES, lambda s, name, x: put_forms(s, name, SMALL, 16, nodes=x)
    )


def curve(settings: Settings, series: str, steps: Sequence[int], point: Point) -> list[Row]:
    """Measure a work at each step, with servers and files of its own; smoke takes two steps."""
    rows = []
    for step in steps[:2] if settings.smoke else steps:
        name = f"{series}-{label(step)}"
        try:
            row = _measure(settings, name, step, point)
        except harness.FAILURES as error:
            row = harness.failed(name, error)
        rows.append(replace(row, series=series, x=step))
    return rows


def _measure(settings: Settings, name: str, step: int, point: Point) -> Row:
    seconds = min(settings.seconds, MOST_SECONDS)
    with tempfile.TemporaryDirectory(dir=settings.folder) as folder:
        own = replace(settings, folder=Path(folder), seconds=seconds)
        with point(own, name, step) as work:
            return harness.measure(work, min(settings.rounds, MOST_ROUNDS))


def label(step: int) -> str:
    """Return a step as a work's name shows it: 1024 is 1K."""
    for unit, letter in ((2**30, "G"), (MIB, "M"), (KIB, "K")):
        if step >= unit:
            return f"{step // unit}{letter}"
    return str(step)


WORKS: Final = {
    "curve-get-size": get_size,
    "curve-put-size": put_size,
    "curve-get-connections": get_connections,
    "curve-put-connections": put_connections,
    "curve-get-nodes": get_nodes,
    "curve-put-nodes": put_nodes,
}
