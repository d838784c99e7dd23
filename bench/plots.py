"""Pictures of the results, one PNG a subject."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from bench.curves import label

MIB: Final = 2**20
SIZE: Final = (7.0, 4.2)
OWN: Final = "#1f6feb"
LIMIT: Final = "#8b949e"
# Series whose x is a size in bytes; their y is bytes, whatever the unit of a point's row is.
BY_SIZE: Final = {"get-size": "Downloads by size", "put-size": "Uploads by size, one replica"}
BY_NUMBER: Final = {
    "get-connections": ("Downloads of 1 KiB by connections", "connections"),
    "put-connections": ("Uploads of 1 KiB by connections, two replicas", "connections"),
    "get-nodes": ("Downloads of 1 KiB by nodes on this machine", "nodes"),
    "put-nodes": ("Uploads of 1 KiB by nodes on this machine", "nodes"),
    "files-get": ("/get by the number of files", "files"),
    "files-register": ("/register by the number of files", "files"),
}

JsonRow = Mapping[str, Any]


def draw_all(data: Mapping[str, Any], folder: Path) -> list[Path]:
    """Draw what the results have, and return the files."""
    rows: Sequence[JsonRow] = [row for row in data["rows"] if "failure" not in row]
    written = [_draw_ratios(rows, folder)] if any("aim" in row for row in rows) else []
    for series, title in BY_SIZE.items():
        if points := _points(rows, series):
            written.append(_draw_sizes(points, title, folder / f"{series}.png"))
    for series, (title, what) in BY_NUMBER.items():
        if points := _points(rows, series):
            written.append(_draw_numbers(points, title, what, folder / f"{series}.png"))
    if data.get("loads"):
        written.append(_draw_loads(data["loads"], folder))
    return written


def _points(rows: Sequence[JsonRow], series: str) -> list[JsonRow]:
    return sorted((row for row in rows if row.get("series") == series), key=lambda row: row["x"])


def _draw_ratios(rows: Sequence[JsonRow], folder: Path) -> Path:
    """Draw each work's share of its limit, with its spread, what is asked of it and the aim."""
    works = [row for row in rows if "aim" in row][::-1]
    figure, axes = _figure("Share of the limit measured in the same rounds")
    places = range(len(works))
    ratios = [row["ratio"] for row in works]
    low = [row["ratio"] - row["ratio_spread"][0] for row in works]
    high = [row["ratio_spread"][1] - row["ratio"] for row in works]
    axes.barh(places, ratios, xerr=[low, high], color=OWN, height=0.6, ecolor=LIMIT)
    for place, row in zip(places, works, strict=True):
        for bound, style in (("at_least", "-"), ("aim", ":")):
            axes.plot([row[bound]] * 2, [place - 0.4, place + 0.4], style, color="black")
    axes.set_yticks(places, [row["work"] for row in works])
    axes.set_xlabel("share; solid line: at least, dotted line: aim")
    return _save(figure, folder / "ratios.png")


def _draw_sizes(points: Sequence[JsonRow], title: str, path: Path) -> Path:
    figure, axes = _figure(title)
    sizes = [point["x"] for point in points]
    axes.loglog(sizes, [_mib(point, "value") for point in points], "o-", color=OWN, label="here")
    limits = [_mib(point, "limit_value") for point in points]
    axes.loglog(sizes, limits, "o--", color=LIMIT, label=_limit_names(points))
    axes.set_xticks(sizes, [label(size) for size in sizes])
    axes.minorticks_off()
    axes.set_ylabel("MiB/s")
    axes.legend()
    return _save(figure, path)


def _draw_numbers(points: Sequence[JsonRow], title: str, what: str, path: Path) -> Path:
    figure, axes = _figure(title)
    numbers = [point["x"] for point in points]
    axes.plot(numbers, [point["value"] for point in points], "o-", color=OWN, label="here")
    limits = [point["limit_value"] for point in points]
    axes.plot(numbers, limits, "o--", color=LIMIT, label=_limit_names(points))
    axes.set_xscale("log", base=2)
    axes.set_xticks(numbers, [f"{number:,}" for number in numbers])
    axes.set_ylim(bottom=0)
    axes.set_xlabel(what)
    axes.set_ylabel(points[0]["unit"])
    axes.legend()
    return _save(figure, path)


def _draw_loads(loads: Sequence[tuple[float, float]], folder: Path) -> Path:
    """Draw each node's load over its share, by its disk's size."""
    figure, axes = _figure(f"Load over share of the weight, {len(loads):,} nodes")
    weights = sorted({weight for weight, _ in loads})
    for place, weight in enumerate(weights):
        own = [load for each, load in loads if each == weight]
        spread = [place + 0.7 * (number / len(own) - 0.5) for number in range(len(own))]
        axes.plot(spread, own, ".", markersize=3, color=OWN)
    for bound in (0.95, 1.05):
        axes.axhline(bound, color=LIMIT, linestyle="--")
    axes.set_xticks(range(len(weights)), [f"{weight:g} TB" for weight in weights])
    axes.set_ylabel("replicas held / promised")
    return _save(figure, folder / "placement.png")


def _mib(point: JsonRow, name: str) -> float:
    value = float(point[name])
    return value if point["unit"] == "MiB/s" else value * float(point["x"]) / MIB


def _limit_names(points: Sequence[JsonRow]) -> str:
    return " / ".join(dict.fromkeys(str(point["limit_name"]) for point in points))


def _figure(title: str) -> tuple[Figure, Axes]:
    figure = Figure(figsize=SIZE, layout="constrained")
    axes = figure.subplots()
    axes.set_title(title)
    axes.grid(visible=True, color="#e5e7eb")
    axes.set_axisbelow(True)
    return figure, axes


def _save(figure: Figure, path: Path) -> Path:
    figure.savefig(path, dpi=110, metadata={"Software": ""})
    return path
