"""Whether blobs have the replicas they should: one word for people, one condition for queries.

What counts are replicas in reach: whether a node that is down still has its own nobody knows.
"""

import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from django.conf import settings
from django.db import models
from django.db.models import Count, Q
from django.utils import timezone

from master_app import derived
from master_app.models import Node, Replica

# A count of all replicas is shown again for so many times as long as it took,
REST_PER_WORK: Final = 50
# unless it took so little that each page may have its own.
QUICK_SECONDS: Final = 0.25


class ReplicaHealth(models.TextChoices):
    """Whether a blob has as many verified replicas in reach as the cluster wants."""

    FULL = "full", "Fully replicated"
    DEGRADED = "degraded", "Under-replicated"
    LOST = "lost", "Without a replica in reach"
    UNVERIFIED = "unverified", "Unverified"


def health_of(*, verified: bool, replica_count: int) -> ReplicaHealth:
    """Return the health of a blob; replicas of an unverified one are only a claim."""
    if not verified:
        return ReplicaHealth.UNVERIFIED
    if not replica_count:
        return ReplicaHealth.LOST
    is_full = replica_count >= settings.ENV.replication_factor
    return ReplicaHealth.FULL if is_full else ReplicaHealth.DEGRADED


def in_health(health: ReplicaHealth, *, verified: str) -> Q:
    """Return the condition on a query annotated with `replica_count`.

    `verified` is the path from the query's model to the blob's field of that name.
    """
    wanted = settings.ENV.replication_factor
    match health:
        case ReplicaHealth.UNVERIFIED:
            return Q(**{verified: False})
        case ReplicaHealth.LOST:
            return Q(**{verified: True}, replica_count=0)
        case ReplicaHealth.DEGRADED:
            return Q(replica_count__range=(1, wanted - 1))
        case ReplicaHealth.FULL:
            return Q(replica_count__gte=wanted)


def count_by_health() -> dict[ReplicaHealth, int]:
    """Return how many blobs have which health, the best first: a look at every replica.

    What is registered meanwhile may be missing.
    """
    wanted = settings.ENV.replication_factor
    totals = derived.totals()
    replicas = (
        Replica.objects.in_reach()
        .order_by()
        .values("blob")
        .annotate(n=Count("pk"))
        .aggregate(some=Count("n"), full=Count("n", filter=Q(n__gte=wanted)))
    )
    return {
        ReplicaHealth.FULL: replicas["full"],
        ReplicaHealth.DEGRADED: replicas["some"] - replicas["full"],
        ReplicaHealth.LOST: max(0, totals.verified_blobs - replicas["some"]),
        ReplicaHealth.UNVERIFIED: totals.blobs - totals.verified_blobs,
    }


@dataclass(frozen=True)
class HealthCount:
    """How many blobs had which health at `counted_at`, with these nodes in reach."""

    blobs: Mapping[ReplicaHealth, int]
    counted_at: datetime
    seconds_taken: float
    reach: frozenset[int]

    def is_good_for(self, reach: frozenset[int]) -> bool:
        """Tell whether it may be shown again: never when counting anew takes no time."""
        if self.seconds_taken < QUICK_SECONDS or self.reach != reach:
            return False
        age = timezone.now() - self.counted_at
        return age < timedelta(seconds=self.seconds_taken * REST_PER_WORK)


class HealthCounter:
    """Counts at most one part in REST_PER_WORK of the time, and tells how old its count is."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._last: HealthCount | None = None

    def count(self) -> HealthCount:
        """Return the last count while it is good, or a new one; others wait for who counts."""
        with self._lock:
            reach = frozenset(Node.objects.in_reach().values_list("pk", flat=True))
            if self._last is None or not self._last.is_good_for(reach):
                self._last = self._count_now(reach)
            return self._last

    def _count_now(self, reach: frozenset[int]) -> HealthCount:
        began = time.perf_counter()
        now = timezone.now()
        blobs = count_by_health()
        return HealthCount(blobs, now, time.perf_counter() - began, reach)


# Of this process.
HEALTH_COUNTER: Final = HealthCounter()
