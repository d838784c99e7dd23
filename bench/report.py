"""Results as people read them: tables, between the markers of a page written by hand."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

BEGIN: Final = "<!-- results: begin -->"
END: Final = "<!-- results: end -->"
HEAD: Final = ("work", "median (smallest to largest)", "limit", "of the limit", "at least", "aim")
COST_HEAD: Final = (
    *("work", "p50 / p99 ms", "CPU ms an operation", "the limit's CPU ms"),
    *("peak MiB a process", "others' CPU", "beside"),
)

JsonRow = Mapping[str, Any]


class NoMarkers(Exception):
    """A page has no place for the results."""


def table(rows: Iterable[JsonRow]) -> str:
    """Return a Markdown table of values and limits, one line for each row."""
    return _table(HEAD, map(_cells, rows))


def cost_table(rows: Iterable[JsonRow]) -> str:
    """Return a Markdown table of what each work has cost."""
    return _table(COST_HEAD, (_cost_cells(row) for row in rows if _has_costs(row)))


def page_section(data: Mapping[str, Any], plots: Iterable[Path] = ()) -> str:
    """Return everything that stands between the markers; `plots` are beside the page."""
    rows: Sequence[JsonRow] = data["rows"]
    machine, parameters = data["machine"], data["parameters"]
    works = [row for row in rows if "series" not in row]
    curves = [row for row in rows if "series" in row]
    taken = (
        f"Taken {data['taken_at']} on {machine['cores']} cores of {machine['processor']}, "
        f"{machine['memory_gib']} GiB, {machine['system']}, Python {machine['python']}; "
        + ", ".join(f"{name} {value}" for name, value in parameters.items())
        + "."
    )
    parts = [taken, "### Works", table(works), "### What they cost", cost_table(works)]
    if curves:
        parts += ["### Curves", table(curves)]
    parts += [f"![{path.stem}]({path.name})" for path in plots]
    return "\n\n".join(part.rstrip("\n") for part in parts) + "\n"


def write_page(path: Path, data: Mapping[str, Any], plots: Iterable[Path] = ()) -> None:
    """Put the results between the page's markers; NoMarkers when it has none."""
    page = path.read_text(encoding="utf-8")
    before, begin, rest = page.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise NoMarkers(f"{path} takes results between the lines {BEGIN} and {END}.")
    path.write_text(f"{before}{BEGIN}\n{page_section(data, plots)}{END}{after}", encoding="utf-8")


def number(value: float) -> str:
    """Return a figure with three digits that say something."""
    if abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.3g}"


def _cells(row: JsonRow) -> tuple[str, ...]:
    if "failure" in row:
        return (str(row["work"]), f"failed: {row['failure']}", "", "", "", "")
    spread = (
        f" ({number(row['spread'][0])} to {number(row['spread'][1])})" if "spread" in row else ""
    )
    limit = f"{number(row['limit_value'])}, {row['limit_name']}" if "limit_value" in row else ""
    return (
        str(row["work"]),
        f"{number(row['value'])} {row['unit']}{spread}",
        limit,
        f"**{row['ratio']:.2f}**" if "ratio" in row else "",
        f"{row['at_least']:.2f}" if "at_least" in row else "",
        f"{row['aim']:.2f}" if "aim" in row else "",
    )


def _has_costs(row: JsonRow) -> bool:
    return any(name in row for name in ("cpu_ms", "beside"))


def _cost_cells(row: JsonRow) -> tuple[str, ...]:
    times = f"{number(row['p50_ms'])} / {number(row['p99_ms'])}" if "p50_ms" in row else ""
    return (
        str(row["work"]),
        times,
        _named(row.get("cpu_ms", {})),
        _named(row.get("limit_cpu_ms", {})),
        _named(row.get("peak_mib", {})),
        f"{row['others']:.0%}" if "others" in row else "",
        _named(row.get("beside", {})),
    )


def _named(values: Mapping[str, float]) -> str:
    return ", ".join(f"{name} {number(value)}" for name, value in values.items())


def _table(head: Sequence[str], lines: Iterable[Sequence[str]]) -> str:
    every = [head, ["---"] * len(head), *lines]
    return "".join("| " + " | ".join(map(_escaped, line)) + " |\n" for line in every)


def _escaped(cell: str) -> str:
    """Keep what a failed work said within its cell."""
    return " ".join(cell.replace("|", "\\|").split())
