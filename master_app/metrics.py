"""What the master's `/metrics` shows: the cluster as its books have it, beside its own requests.

A further number is one more line in the source that it belongs to.
"""

from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Final

from django.conf import settings
from django.db.models import Count, Q
from django.utils import timezone
from prometheus_client.metrics_core import Metric

from master_app import derived
from master_app.collection import selectors as collection
from master_app.database_check import check_database
from master_app.errors import DatabaseUnavailable
from master_app.models import Blob, Node, NodeState, Removal, RepairTask
from master_app.repair import selectors as repair
from master_app.replica_health import HEALTH_COUNTER
from mini_dropbox import wire
from mini_dropbox.errors import DATABASE_ERRORS
from mini_dropbox.metrics import (
    Events,
    StateCollector,
    counter,
    gauge,
    registry,
)
from mini_dropbox.request_stats import RequestStats

# What requests are counted by; a test holds them against urls_master.
COUNTED_ROUTES: Final = (
    "/",
    "/register",
    "/get",
    "/list",
    "/health",
    "/metrics",
    wire.HEARTBEAT_PATH,
    wire.REGISTRATIONS_PATH,
    wire.LOSSES_PATH,
    "/fragments/",
    "/api/v1/",
    "/thumbnails/",
    "/seedream/",
    "/admin/",
    "/static/",
)

_REGISTRATIONS: Final = Events(
    "registrations",
    "Uploads that nodes have told of, by what became of them.",
    label="outcome",
    values=("registered", "hash_collision", "store_again"),
)


def count_registrations(outcomes: Iterable[str]) -> None:
    """Count a group of registrations; from any thread, once a group."""
    for outcome, count in Counter(outcomes).items():
        _REGISTRATIONS.add(outcome, count)


def _database() -> Iterator[Metric]:
    try:
        check_database()
    except DatabaseUnavailable:
        is_good = False
    else:
        is_good = True
    yield gauge("database_usable", "1 if the database can be read and written, or else 0.", is_good)


def _nodes() -> Iterator[Metric]:
    now, nodes = timezone.now(), list(Node.objects.all())
    states = Counter(node.state for node in nodes)
    yield gauge(
        "cluster_nodes",
        "Nodes by how recently they were heard of.",
        {state.value: states[state] for state in NodeState},
        label="state",
    )
    yield gauge(
        "cluster_node_heartbeat_age_seconds",
        "Since a node was last heard of.",
        # By the clock that nodes' states go by, which may have been set back.
        {n.node_id: max(0.0, (now - n.last_heartbeat_at).total_seconds()) for n in nodes},
        label="node",
    )
    yield gauge(
        "cluster_node_capacity_bytes",
        "The size of a node's disk; none for an object store.",
        {n.node_id: n.capacity_bytes for n in nodes},
        label="node",
    )
    yield gauge(
        "cluster_node_free_bytes",
        "What is free of it.",
        {n.node_id: n.free_bytes for n in nodes},
        label="node",
    )
    yield gauge(
        "cluster_node_used_bytes",
        "The contents of a node's blobs.",
        {n.node_id: n.used_bytes for n in nodes},
        label="node",
    )
    yield gauge(
        "cluster_node_writable",
        "1 if a node said that it takes blobs, or else 0.",
        {n.node_id: n.writable for n in nodes},
        label="node",
    )


def _books() -> Iterator[Metric]:
    yield gauge("cluster_files", "Files that are listed.", derived.totals().files)


def _replicas() -> Iterator[Metric]:
    blobs = HEALTH_COUNTER.count().blobs
    yield gauge(
        "cluster_blobs",
        "Blobs by whether they have their copies in reach.",
        {health.value: count for health, count in blobs.items()},
        label="health",
    )


def _repair() -> Iterator[Metric]:
    tasks = RepairTask.objects.aggregate(all=Count("pk"), failing=Count("pk", Q(attempts__gt=0)))
    yield gauge("repair_backlog", "Blobs that wait for further copies.", tasks["all"])
    yield gauge("repair_failing", "Those of which an attempt has failed.", tasks["failing"])
    progress = repair.progress()
    yield gauge("repair_running", "1 if a master repairs, or else 0.", progress is not None)
    done = progress or {}
    yield counter("repair_copied_blobs", "Copies made.", done.get("copied_blobs"))
    yield counter("repair_copied_bytes", "Their bytes.", done.get("copied_bytes"))
    yield counter("repair_failures", "Copies that could not be made.", done.get("failures"))


def _collection() -> Iterator[Metric]:
    unreferenced = Blob.objects.filter(unreferenced_at__isnull=False)
    yield gauge("collection_unreferenced_blobs", "Blobs of no file.", unreferenced.count())
    yield gauge(
        "collection_removals",
        "Copies of deleted blobs that nodes have still to remove.",
        Removal.objects.count(),
    )
    yield gauge(
        "collection_obstructed",
        "1 while nothing may be removed because of a node, or else 0.",
        bool(collection.obstacle()),
    )


# Of this process.
REQUESTS: Final = RequestStats(COUNTED_ROUTES)
REGISTRY: Final = registry(
    settings.ENV,
    REQUESTS,
    _REGISTRATIONS,
    DATABASE_ERRORS,
    StateCollector(_database, _nodes, _books, _replicas, _repair, _collection),
)
