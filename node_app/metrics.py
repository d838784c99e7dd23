"""What a node's `/metrics` shows: read from the node when it is scraped, beside its requests.

A further number is one more line in the source that it belongs to.
"""

import time
from collections.abc import Iterator

from prometheus_client import CollectorRegistry
from prometheus_client.metrics_core import Metric

from mini_dropbox.metrics import StateCollector, counter, gauge
from mini_dropbox.metrics import registry as registry_of
from mini_dropbox.request_stats import RequestStats
from node_app.node import Node


def registry(node: Node, requests: RequestStats) -> CollectorRegistry:
    """Return what the process of a started node shows. Scraping it blocks on the disk."""
    state = StateCollector(
        lambda: _blobs(node),
        lambda: _space(node),
        lambda: _uploads(node),
        lambda: _journal(node),
        lambda: _registrations(node),
        lambda: _cluster(node),
        lambda: _scrub(node),
    )
    return registry_of(node.settings, requests, state)


def _blobs(node: Node) -> Iterator[Metric]:
    totals = node.store.totals()
    yield gauge("node_blobs", "Blobs on this node.", totals.count)
    yield gauge("node_content_bytes", "The contents of these blobs.", totals.size)
    yield gauge("node_stored_bytes", "What they take, compressed or not.", totals.stored_size)


def _space(node: Node) -> Iterator[Metric]:
    """Yield nothing but the names where the back end has no size (an object store)."""
    space = node.store.space()
    yield gauge("node_capacity_bytes", "The size of the blobs' disk.", space.capacity)
    yield gauge("node_free_bytes", "What is free of it.", space.free)


def _uploads(node: Node) -> Iterator[Metric]:
    yield gauge("node_uploads_in_flight", "Uploads that come in now.", node.uploads_in_flight)
    yield gauge(
        "node_resumable_uploads", "Resumable uploads not stored yet.", node.uploads.open_count()
    )
    yield counter("node_stored_uploads", "Uploads stored with their copies.", node.uploads_stored)
    yield counter(
        "node_deduplicated_uploads",
        "Those of which every copy was there before.",
        node.uploads_deduplicated,
    )


def _journal(node: Node) -> Iterator[Metric]:
    entries, size = node.journal.backlog
    yield gauge("node_journal_entries", "Small contents on their way to durable files.", entries)
    yield gauge("node_journal_bytes", "Their bytes.", size)


def _registrations(node: Node) -> Iterator[Metric]:
    yield gauge(
        "node_outbox_registrations",
        "Uploads that the master is still to learn of.",
        len(node.outbox),
    )
    yield gauge(
        "node_refused_registrations",
        "Uploads that the master would not record.",
        node.outbox.refused_count(),
    )


def _cluster(node: Node) -> Iterator[Metric]:
    replicator = node.replicator
    yield gauge(
        "node_heartbeat_age_seconds",
        "Since the master last answered a heartbeat, or since the start if it never has.",
        node.heartbeat_age(),
    )
    yield gauge(
        "node_writable",
        "1 if the last heartbeat's probe could be stored, or else 0.",
        replicator.own_failure is None,
    )
    yield counter(
        "node_replica_pushes",
        "Copies sent to peers, by outcome.",
        {"stored": replicator.pushes_stored, "failed": replicator.pushes_failed},
        label="outcome",
    )


def _scrub(node: Node) -> Iterator[Metric]:
    """Yield nothing but the names where nothing is scrubbed (an object store)."""
    progress = node.scrubber.progress() if node.scrubber else {}
    oldest = progress.get("oldest_verified_at")
    yield gauge("node_scrub_running", "1 while blobs are read again.", progress.get("running"))
    yield gauge(
        "node_scrub_round_blobs", "Blobs read in this round.", progress.get("blobs_checked")
    )
    yield gauge("node_scrub_round_bytes", "Their bytes.", progress.get("bytes_checked"))
    yield gauge("node_scrub_round_bad", "Bad copies found in it.", progress.get("bad_found"))
    yield gauge(
        "node_oldest_verification_age_seconds",
        "Since the blob that waits longest was verified.",
        None if oldest is None else max(0.0, time.time() - oldest),
    )
