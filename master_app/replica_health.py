"""Whether blobs have the replicas they should: one word for people, one condition for queries.

What counts are replicas in reach: whether a node that is down still has its own nobody knows.
"""

from django.conf import settings
from django.db import models
from django.db.models import Count, Q

from master_app.models import Blob, Replica


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
    """Return how many blobs have which health, the best first."""
    wanted = settings.ENV.replication_factor
    replicas = (
        Replica.objects.in_reach()
        .order_by()
        .values("blob")
        .annotate(n=Count("pk"))
        .aggregate(some=Count("n"), full=Count("n", filter=Q(n__gte=wanted)))
    )
    blobs = Blob.objects.aggregate(all=Count("pk"), verified=Count("pk", filter=Q(verified=True)))
    return {
        ReplicaHealth.FULL: replicas["full"],
        ReplicaHealth.DEGRADED: replicas["some"] - replicas["full"],
        ReplicaHealth.LOST: blobs["verified"] - replicas["some"],
        ReplicaHealth.UNVERIFIED: blobs["all"] - blobs["verified"],
    }
