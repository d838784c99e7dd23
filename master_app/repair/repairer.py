"""Has missing copies made: one process at a time, most endangered blobs first."""

import logging
import time
from collections import Counter, defaultdict, deque
from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from threading import Event
from typing import Any, Final

from django.conf import settings
from django.db import DatabaseError, connection
from django.utils import timezone

from master_app import node_client
from master_app.collection.collector import untouched_seconds
from master_app.leases import LEASE_SECONDS, HeldLease
from master_app.node_client import NodeRequestError
from master_app.repair import moves, selectors, services
from master_app.repair.census import Census, CensusTaker
from master_app.repair.planning import Batch, Endangered, plan
from master_app.repair.scan import Scan
from master_app.repair.throttle import Throttle
from mini_dropbox.wire import MAX_REMOVALS, CopyResult, CopyStatus, RemovalOrder, RemovalStatus

logger = logging.getLogger(__name__)

LEASE: Final = "repair"
PERIOD_SECONDS: Final = 1.0
# Whatever changed without a word is found by then.
SCAN_SECONDS: Final = 3600.0
# Tasks that are looked at together.
PAGE_TASKS: Final = 1024
# Nobody may be waiting for a blob that nobody can copy; it is looked at again when something has
# changed, or after this long.
REST_SECONDS: Final = 30.0
# The part of a processor that looking in vain may take, however many blobs there are.
VAIN_SHARE: Final = 0.05
BATCHES_AT_ONCE: Final = 4
# While one is written down here, the node has another to work on.
BATCHES_FOR_A_NODE: Final = 2
LOST: Final = "No node that can be reached has a copy."
TOO_FEW: Final = "Other nodes have too few copies for this one to go."
WAITING: Final = "No other node is there to take a copy."


def repair_loop(stopping: Event) -> None:
    """Repair until `stopping` is set, whenever no other master does."""
    repairer = Repairer(stopping)
    try:
        while not stopping.wait(PERIOD_SECONDS):
            try:
                repairer.step()
            except DatabaseError as error:
                logger.error("Repair waits for the database: %s", error)  # noqa: TRY400  It may do next time.
                connection.close()
            except Exception:
                logger.exception("Repair failed")
    finally:
        repairer.close()
        connection.close()


@dataclass
class Progress:
    """What this process has done since it began to repair; sizes in bytes."""

    began_at: str = field(default_factory=lambda: timezone.now().isoformat())
    copied_blobs: int = 0
    copied_bytes: int = 0
    failures: int = 0
    scan_percent: float = 0.0
    lost: int = 0
    waiting: int = 0

    def to_json(self) -> dict[str, Any]:
        return dict(vars(self))


class Repairer:
    """One process's part in repair. Belongs to one thread."""

    def __init__(self, stopping: Event) -> None:
        env = settings.ENV
        self._stopping = stopping
        self._lease = HeldLease(LEASE)
        self._lease_until = 0.0
        self._census_taker = CensusTaker(env.repair_grace_seconds)
        self._throttle = Throttle(env.repair_mb_per_second * 1e6)
        self._threads = ThreadPoolExecutor(BATCHES_AT_ONCE, thread_name_prefix="repair")
        self._scan: Scan | None = None
        self._scanned_at = 0.0
        # Up to where the tasks have been looked at since something changed.
        self._position: selectors.Position | None = None
        self._looks_since = 0.0
        self._vain_seconds = 0.0
        self._seen: tuple[Census | None, int] = (None, 0)
        self.progress = Progress()

    def step(self) -> None:
        """Look at the cluster once, and do what can be done at once."""
        if not self._hold_lease():
            self._scan, self._seen = None, (None, 0)
            return
        census = self._census_taker.take()
        self._scan_for(census)
        self._look_again_after_changes(census)
        while not self._stopping.is_set() and self._repair_some(census):
            census = self._census_taker.take()
        while not self._stopping.is_set() and self._move_some(census):
            census = self._census_taker.take()

    def close(self) -> None:
        """Let another process go on."""
        self._threads.shutdown(cancel_futures=True)
        self._lease.release()

    def _hold_lease(self) -> bool:
        """Keep the lease, written anew when a third of it has passed; False while others repair."""
        if time.monotonic() >= self._lease_until - LEASE_SECONDS * 2 / 3:
            if not self._lease.hold(self.progress.to_json()):
                self._lease_until = 0.0
                return False
            self._lease_until = time.monotonic() + LEASE_SECONDS
        return True

    def _scan_for(self, census: Census) -> None:
        """Walk over all blobs when other nodes count than before, and now and then."""
        scan = self._scan
        is_recent = time.monotonic() - self._scanned_at < SCAN_SECONDS
        if scan is None or scan.counted != census.counted or (scan.is_done and not is_recent):
            scan = self._scan = Scan(census.counted)
        elif scan.is_done:
            return
        while not scan.is_done and not self._stopping.is_set() and self._hold_lease():
            scan.step()
            self.progress.scan_percent = scan.percent
        self._scanned_at = time.monotonic()
        if scan.found:
            logger.info("%d blobs have too few copies", scan.found)

    def _look_again_after_changes(self, census: Census) -> None:
        """Begin with the most endangered again when there are other nodes, or new tasks."""
        newest, now = selectors.newest_task(), time.monotonic()
        seen_census, seen_newest = self._seen
        rested = now - self._looks_since
        is_worth_while = rested >= self._vain_seconds / VAIN_SHARE and (
            newest != seen_newest or rested >= REST_SECONDS
        )
        if census != seen_census or is_worth_while:
            self._seen = (census, newest)
            self._position = None
            self.progress.lost = self.progress.waiting = 0
            self._looks_since, self._vain_seconds = now, 0.0

    def _repair_some(self, census: Census) -> bool:
        """Help the next of those in danger; return whether there may be more to do."""
        page = selectors.tasks_after(self._position, limit=PAGE_TASKS)
        if not page.keys:
            return False
        self._position = page.position
        began = time.thread_time()
        blobs = selectors.endangered(page.keys)
        services.tasks_count(copies={blob.key: blob.copies(census) for blob in blobs})
        todo = plan(blobs, census, settings.ENV.replication_factor)
        services.tasks_done(keys=todo.done)
        services.tasks_explain(keys=todo.lost, reason=LOST)
        services.tasks_explain(keys=todo.waiting, reason=WAITING)
        self.progress.lost += len(todo.lost)
        self.progress.waiting += len(todo.waiting)
        if not todo.batches:
            self._vain_seconds += time.thread_time() - began
        self._carry_out(todo.batches, census)
        return True

    def _move_some(self, census: Census) -> bool:
        """Bring some blobs to where placement wants them; return whether there may be more."""
        keys = moves.due_tasks(limit=PAGE_TASKS)
        if not keys or not self._hold_lease():
            return False
        wanted = settings.ENV.replication_factor
        todo = moves.plan_moves(selectors.endangered(keys), census, wanted)
        moves.tasks_done(keys=todo.done)
        self._carry_out(todo.batches, census)
        for node, blobs in todo.surplus.items():
            self._release(node, blobs, census)
        return True

    def _release(self, node: int, blobs: Sequence[Endangered], census: Census) -> None:
        """Have a node remove copies that are too many; the record goes first."""
        entry, by_hash = census.entries[node], {blob.hash: blob for blob in blobs}
        released = moves.replicas_release(
            node=node,
            blobs=[blob.key for blob in blobs],
            counted=census.counted,
            wanted=settings.ENV.replication_factor,
        )
        moves.tasks_failed(
            reasons={blob.key: TOO_FEW for blob in blobs if blob.key not in released}
        )
        orders = [
            RemovalOrder(hash=blob.hash, sha256=blob.sha256, untouched_seconds=untouched_seconds())
            for blob in blobs
            if blob.key in released
        ]
        for first in range(0, len(orders), MAX_REMOVALS):
            some = orders[first : first + MAX_REMOVALS]
            try:
                results = node_client.order_removals(base_url=entry.url, orders=some)
                kept = {r.hash: r.reason for r in results if r.status is RemovalStatus.KEPT}
            except NodeRequestError as error:
                kept = {order.hash: str(error) for order in some}
            # What is still there counts again.
            services.copies_record(
                node=node, sha256_by_hash={name: by_hash[name].sha256 for name in kept}
            )
            reasons = {
                by_hash[name].key: f"node {entry.node_id}: {why}" for name, why in kept.items()
            }
            moves.tasks_failed(reasons=reasons)

    def _carry_out(self, batches: Sequence[Batch], census: Census) -> None:
        """Order copies, from a few nodes at once, and a few batches of each."""
        by_taker: defaultdict[int, deque[Batch]] = defaultdict(deque)
        for batch in batches:
            by_taker[batch.taker].append(batch)
        under_way: dict[Future[Sequence[CopyResult]], Batch] = {}
        while (any(by_taker.values()) or under_way) and not self._stopping.is_set():
            busy = Counter(batch.taker for batch in under_way.values())
            for taker, waiting in by_taker.items():
                while waiting and busy[taker] < BATCHES_FOR_A_NODE:
                    batch = waiting.popleft()
                    busy[taker] += 1
                    under_way[self._threads.submit(self._order, batch, census)] = batch
            ended, _ = wait(under_way, timeout=LEASE_SECONDS / 3, return_when="FIRST_COMPLETED")
            for future in ended:
                self._record(under_way.pop(future), future, census)
            if not self._hold_lease():
                return

    def _order(self, batch: Batch, census: Census) -> Sequence[CopyResult]:
        """Order one batch. Runs in a thread of its own, without a database."""
        if self._stopping.wait(self._throttle.wait_seconds(batch.size)):
            return ()
        url = census.entries[batch.taker].url
        return node_client.order_copies(base_url=url, orders=list(batch.orders.values()))

    def _record(self, batch: Batch, future: "Future[Sequence[CopyResult]]", census: Census) -> None:
        """Write down what became of a batch."""
        try:
            results = {result.hash: result for result in future.result()}
        except NodeRequestError as error:
            self._failed({key: str(error) for key in batch.orders})
            return
        made, absent, reasons = {}, [], {}
        for key, order in batch.orders.items():
            result = results.get(order.hash)
            if result is None:
                continue
            if result.status is CopyStatus.FAILED:
                reasons[key] = f"node {census.entries[batch.taker].node_id}: {result.reason}"
            else:
                made[order.hash] = order.sha256
                self.progress.copied_bytes += order.size
            absent += [(key, node_id) for node_id in result.without]
        self.progress.copied_blobs += services.copies_record(node=batch.taker, sha256_by_hash=made)
        self._failed(reasons)
        self._forget(absent, census)
        self._finish(batch, census)

    def _finish(self, batch: Batch, census: Census) -> None:
        """Forget the tasks of what has enough copies now."""
        blobs = selectors.endangered(list(batch.orders))
        wanted = settings.ENV.replication_factor
        services.tasks_done(keys=[b.key for b in blobs if b.copies(census) >= wanted])

    def _failed(self, reasons: Mapping[int, str]) -> None:
        for key, reason in reasons.items():
            logger.warning("A copy could not be made: %s", reason)
            services.task_failed(key=key, reason=reason)
        moves.tasks_failed(reasons=reasons)
        self.progress.failures += len(reasons)

    def _forget(self, absent: Sequence[tuple[int, str]], census: Census) -> None:
        """Remove records of copies whose own nodes say that they have none."""
        keys = census.keys()
        for node_id in {node_id for _, node_id in absent}:
            blobs = [key for key, named in absent if named == node_id]
            logger.error("Node %s has lost %d blobs that were on record", node_id, len(blobs))
            services.replicas_forget(node=keys[node_id], blobs=blobs)
