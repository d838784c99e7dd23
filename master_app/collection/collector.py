"""Buries what has been unreferenced for long enough, and tells nodes to remove it."""

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from threading import Event
from typing import Any, Final

from django.conf import settings
from django.db import DatabaseError, connection

from master_app import node_client
from master_app.collection import selectors, services
from master_app.leases import LEASE_SECONDS, HeldLease
from master_app.models import Node
from master_app.node_client import NodeRequestError
from mini_dropbox.wire import MAX_REMOVALS, RemovalOrder, RemovalStatus

logger = logging.getLogger(__name__)

LEASE: Final = "collection"
PERIOD_SECONDS: Final = LEASE_SECONDS / 3
# With a short grace period somebody waits for it.
SHORTEST_PERIOD_SECONDS: Final = 0.5
PAGE_BLOBS: Final = 500
# A machine that slept has not run.
LONGEST_STEP_SECONDS: Final = 60.0
# An upload is registered within this time, or its node says that it has it to register.
UNTOUCHED_SECONDS: Final = 600.0
SHORTEST_UNTOUCHED_SECONDS: Final = 2.0
# A node that keeps a blob is asked again so often within the time it may have to wait.
RETRIES: Final = 10


def collect_loop(stopping: Event) -> None:
    """Collect until `stopping` is set, whenever no other master does."""
    collector = Collector(stopping)
    grace = settings.ENV.collect_grace_seconds
    period = min(PERIOD_SECONDS, max(SHORTEST_PERIOD_SECONDS, grace / 4))
    try:
        while not stopping.wait(period):
            try:
                collector.step()
            except DatabaseError as error:
                logger.error("Collection waits for the database: %s", error)  # noqa: TRY400  It may do next time.
                connection.close()
            except Exception:
                logger.exception("Collection failed")
    finally:
        collector.close()
        connection.close()


@dataclass
class Collected:
    """What one process has done since it began."""

    buried_blobs: int = 0
    removed_replicas: int = 0

    def to_json(self) -> dict[str, Any]:
        return dict(vars(self))


class Collector:
    """One process's part in collection. Belongs to one thread."""

    def __init__(self, stopping: Event, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._stopping = stopping
        self._lease = HeldLease(LEASE)
        self._clock = clock
        self._last_step_at: float | None = None
        self._obstacle = ""
        self.collected = Collected()

    def step(self) -> None:
        """Let the service clock go on, and do what has become due."""
        if not self._lease.hold(self.collected.to_json()):
            self._last_step_at = None
            return
        now = self._clock()
        since = 0.0 if self._last_step_at is None else now - self._last_step_at
        self._last_step_at = now
        services.clock_advance(seconds=min(since, LONGEST_STEP_SECONDS))
        self.collect()

    def collect(self) -> None:
        """Bury what is due, and have removed what is buried."""
        while not self._is_obstructed() and not self._stopping.is_set():
            due = selectors.collectable(grace_seconds=settings.ENV.collect_grace_seconds)
            keys = list(due.values_list("pk", flat=True)[:PAGE_BLOBS])
            if not keys:
                break
            self.collected.buried_blobs += services.blobs_bury(keys=keys)
        for node in Node.objects.members():
            while not self._stopping.is_set() and self._remove_some(node):
                pass
        services.tombstones_forget(limit=PAGE_BLOBS)

    def close(self) -> None:
        """Let another process go on."""
        self._lease.release()

    def _is_obstructed(self) -> bool:
        obstacle = selectors.obstacle()
        if obstacle and obstacle != self._obstacle:
            logger.info("Nothing is removed now: %s", obstacle)
        self._obstacle = obstacle
        return bool(obstacle)

    def _remove_some(self, node: Node) -> bool:
        """Have one node remove some; return whether there may be more."""
        due = selectors.due_removals(node=node, limit=MAX_REMOVALS)
        if not due or self._is_obstructed():
            return False
        orders = [
            RemovalOrder(hash=each.hash, sha256=each.sha256, untouched_seconds=untouched_seconds())
            for each in due
        ]
        try:
            results = node_client.order_removals(base_url=node.url, orders=orders)
        except NodeRequestError as error:
            logger.warning("Node %s removes nothing: %s", node.node_id, error)
            reasons = {order.hash: str(error) for order in orders}
        else:
            reasons = {
                each.hash: each.reason for each in results if each.status is RemovalStatus.KEPT
            }
            done = [each.hash for each in results if each.hash not in reasons]
            services.removals_done(node=node.pk, hashes=done)
            self.collected.removed_replicas += sum(
                each.status is RemovalStatus.REMOVED for each in results
            )
        wait = untouched_seconds() / RETRIES
        services.removals_put_off(node=node.pk, reasons=reasons, seconds=wait)
        return True


def untouched_seconds() -> float:
    """Return how long nobody may have stored a content before it is removed."""
    grace = settings.ENV.collect_grace_seconds
    return max(SHORTEST_UNTOUCHED_SECONDS, min(UNTOUCHED_SECONDS, grace))
