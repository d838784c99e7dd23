"""The admin's first page: totals, replica health, nodes and the latest files."""

from dataclasses import dataclass
from typing import Any, Final

from django.http import HttpRequest

from master_app import selectors
from master_app.collection import selectors as collection_selectors
from master_app.repair import selectors as repair_selectors
from master_app.replica_health import HEALTH_COUNTER, HealthCount, ReplicaHealth
from master_app.templatetags.admin_display import HEALTH_TONES

LATEST_FILES: Final = 8


@dataclass(frozen=True)
class HealthShare:
    """How many blobs have one health, of 100 in all."""

    health: ReplicaHealth
    tone: str
    count: int
    percent: float


def context(_request: HttpRequest, context: dict[str, Any]) -> dict[str, Any]:
    """Add what the page shows; named in `settings.UNFOLD`."""
    health = HEALTH_COUNTER.count()
    return {
        **context,
        "title": "Dashboard",
        "summary": selectors.cluster_summary(),
        "health_shares": _health_shares(health),
        "health_counted_at": health.counted_at,
        "collection": collection_selectors.status(),
        "repair": repair_selectors.status(),
        "latest_files": selectors.latest_files(limit=LATEST_FILES),
    }


def _health_shares(health: HealthCount) -> list[HealthShare]:
    counts = health.blobs
    total = sum(counts.values()) or 1
    return [
        HealthShare(health, HEALTH_TONES[health], count, round(100 * count / total, 3))
        for health, count in counts.items()
    ]
