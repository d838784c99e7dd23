"""Results as people read them."""

from collections.abc import Iterable, Mapping
from typing import Any, Final

HEAD: Final = (
    "work",
    "median",
    "spread",
    "limit",
    "of the limit",
    "at least",
    "aim",
    "CPU ms",
    "peak MiB",
)


def table(rows: Iterable[Mapping[str, Any]]) -> str:
    """Return a Markdown table, one line for each row."""
    lines = [HEAD, tuple("---" for _ in HEAD), *map(_cells, rows)]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines) + "\n"


def _cells(row: Mapping[str, Any]) -> tuple[str, ...]:
    low, high = row.get("spread", (row["value"], row["value"]))
    limit = f"{number(row['limit_value'])} ({row['limit_name']})" if "limit_value" in row else ""
    return (
        str(row["work"]),
        f"{number(row['value'])} {row['unit']}",
        f"{number(low)} to {number(high)}",
        limit,
        f"**{row['ratio']:.2f}**" if "ratio" in row else "",
        f"{row['at_least']:.2f}" if "at_least" in row else "",
        f"{row['aim']:.2f}" if "aim" in row else "",
        _by_role(row.get("cpu_ms", {}), 3),
        _by_role(row.get("peak_mib", {}), 0),
    )


def number(value: float) -> str:
    """Return a figure with three digits that say something."""
    if abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.3g}"


def _by_role(values: Mapping[str, float], digits: int) -> str:
    return ", ".join(f"{role} {value:,.{digits}f}" for role, value in values.items())
