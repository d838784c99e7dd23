"""One running node: its store, its cluster, and the tasks that keep both up to date."""

import asyncio
import contextlib
import logging
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from http import HTTPStatus
from pathlib import Path
from typing import Any, Final, ParamSpec, TypeVar, cast

from mini_dropbox import __version__, env, secret_files
from mini_dropbox.folder_lock import lock_folder
from mini_dropbox.shared_check import SharedCheck
from mini_dropbox.signing import Signer
from mini_dropbox.wire import FOREIGN_CLUSTER, Heartbeat, NodeEntry, Registration, Sender
from node_app import http_client, identity
from node_app.blobindex import BlobIndex
from node_app.blobstore import BlobStore, Space
from node_app.blobwriter import BlobWriter
from node_app.cluster_view import ClusterView
from node_app.compressor import Compressor
from node_app.database import NodeDatabase
from node_app.early_copies import EarlyCopies
from node_app.errors import (
    ForeignCluster,
    HashCollision,
    MasterError,
    MasterRefused,
    NodeError,
    NodeRefused,
    PeerError,
    ShuttingDown,
    StoreAgain,
    Unavailable,
)
from node_app.expiry import sweep_loop
from node_app.giving_way import Rests
from node_app.journal import Journal
from node_app.local_blobstore import LocalBlobStore
from node_app.loss_reporter import LossReporter
from node_app.losses import Losses
from node_app.master_client import MasterClient
from node_app.outbox import Outbox
from node_app.peer_client import PeerClient
from node_app.receipts import Receipts
from node_app.registrar import Registrar
from node_app.replication import Replicas, Replicator
from node_app.scrubber import Scrubber
from node_app.turns import Turns
from node_app.uploads import UploadStore
from node_app.verifier import Verifier

logger = logging.getLogger(__name__)

P = ParamSpec("P")
T = TypeVar("T")

# Threads for hashing, writing and fsync; fsyncs wait for the disk and overlap well.
BLOCKING_THREADS: Final = 32
# A node that has just started beats this quickly: the master may be about to start as well, and
# so may the peers, which it has to know before an upload can have its replicas.
JOINING_BEAT_SECONDS: Final = 0.2
JOINING_SECONDS: Final = 10.0
# A node process that is being replaced may need this long to end.
REPLACEMENT_SECONDS: Final = 10.0
# Whoever asks for a node's health, and however often: it stores at most one probe in this time.
CHECK_SECONDS: Final = 1.0
# A node that carries no weight of its own (see `_own_entry`) still has to be placeable.
LONE_WEIGHT: Final = 100.0
COPIED_BYTES: Final = 1024 * 1024
DAY_SECONDS: Final = 24 * 3600
MB: Final = 1_000_000


@dataclass(frozen=True)
class StoredUpload:
    """What became of an upload; `size` in bytes."""

    hash: str
    sha256: str
    size: int
    replicas: tuple[str, ...]
    registered: bool
    deduplicated: bool

    def to_json(self) -> dict[str, Any]:
        return dict(vars(self))


class Node:
    """Everything that one node process is made of. `start` and `stop` belong to the server."""

    def __init__(self, settings: env.Env) -> None:
        self.settings = settings
        self.signer = Signer(secret_files.cluster_secret(settings), settings.node_id)
        self.folder = settings.data_dir / f"node_{settings.node_id}"
        self.started_at = time.time()
        self.last_heartbeat_at: float | None = None
        # By a clock that does not jump: the last answered heartbeat, or else the start.
        self._heard_at = time.monotonic()
        self.uploads_stored = self.uploads_deduplicated = 0
        self._check = SharedCheck(self._store_probe, seconds=CHECK_SECONDS)
        self._complaint = ""
        # Told of what keeps the master from letting this node in, and when nothing does any more.
        self.on_refusal: Callable[[NodeRefused | None], None] = lambda _: None
        self.allowed_origins = _origins(settings.master_urls)
        self._threads = ThreadPoolExecutor(BLOCKING_THREADS, thread_name_prefix="blocking")
        self._tasks: list[asyncio.Task[None]] = []
        self._in_flight: set[asyncio.Task[Any]] = set()

    async def start(self) -> None:
        """Open the store and join the cluster; ready for uploads when it returns."""
        # There is nothing that the event loop could do before.
        self._lock = lock_folder(self.folder, "node", patience=REPLACEMENT_SECONDS)
        self.identity = identity.of_folder(self.folder, self.settings.node_id)
        self._database = NodeDatabase(self.folder / "node.sqlite3")
        self.journal = Journal(self._database, self.folder)
        self.store = open_store(self.settings, self.folder, BlobIndex(self._database), self.journal)
        self.journal.start()
        self.cluster = ClusterView(self.folder / "cluster_map.json", self._own_entry())
        self.outbox = Outbox(self._database)
        self.uploads = UploadStore(self.folder, self._database)
        self.turns = Turns()
        self._session = http_client.new_session()
        self.peers = PeerClient(self._session, self.signer)
        self.receipts = Receipts()
        sender = Sender(self.identity.node_id, self.identity.store_id)
        self.master = MasterClient(self._session, self.signer, self.settings.master_urls, sender)
        self._registrar = Registrar(self.master, self.outbox, self.run, self._renew)
        self.replicator = Replicator(self.store, self.peers, self.cluster, self.run)
        self.verifier = Verifier(self.store, self.run, max_age=self._scrub_period)
        self._loss_reporter = LossReporter(
            self.settings.node_id,
            master=self.master,
            losses=Losses(self._database),
            outbox=self.outbox,
            store=self.store,
            run=self.run,
        )
        self._compressor = self._start_compressor()
        self.scrubber = self._start_scrubber()
        self._registrar.start()
        self._loss_reporter.start()
        self._tasks = [
            asyncio.create_task(self._heartbeat_loop()),
            asyncio.create_task(sweep_loop(self.uploads, self.turns, self.run)),
        ]
        logger.info("Node %s serves %s", self.settings.node_id, self.settings.node_url)

    async def stop(self) -> None:
        """End what runs; uploads in flight have been answered, or are refused now."""
        for upload in tuple(self._in_flight):
            upload.cancel()
        await asyncio.gather(*self._in_flight, return_exceptions=True)
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._registrar.stop()
        await self._loss_reporter.stop()
        await self.verifier.stop()
        self.receipts.close()
        await self._session.close()
        if self._compressor:
            await self.run(self._compressor.stop)
        if self.scrubber:
            await self.run(self.scrubber.stop)
        await self.run(self.journal.stop)
        self._threads.shutdown()
        self._database.close()
        self._lock.close()

    async def run(self, function: Callable[P, T], *arguments: P.args, **options: P.kwargs) -> T:
        """Run a blocking function off the event loop."""
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._threads, partial(function, *arguments, **options))

    @property
    def uploads_in_flight(self) -> int:
        return len(self._in_flight)

    @contextlib.contextmanager
    def upload_in_flight(self) -> Iterator[None]:
        """Mark the current task as an upload; one that a stopping server cuts off is refused."""
        task = cast("asyncio.Task[Any]", asyncio.current_task())
        self._in_flight.add(task)
        try:
            yield
        except asyncio.CancelledError:
            raise ShuttingDown("The node is stopping; send the file to another one.") from None
        finally:
            self._in_flight.discard(task)

    async def store_upload(
        self, writer: BlobWriter, *, name: str, content_type: str, early: EarlyCopies | None = None
    ) -> StoredUpload:
        """Replicate and register a received upload; bytes first, then the row.

        `early` is what peers have received of it meanwhile.
        """
        try:
            return await self._store_once(writer, name, content_type, early)
        except StoreAgain:
            # Its only other copies may just be going, so these must be new.
            with await self.run(self._copied, writer) as again:
                try:
                    return await self._store_once(again, name, content_type)
                except StoreAgain:
                    message = "This file is being deleted; send it again in a moment."
                    raise Unavailable(message) from None

    async def _store_once(
        self, writer: BlobWriter, name: str, content_type: str, early: EarlyCopies | None = None
    ) -> StoredUpload:
        digests = writer.digests()
        replicas = await self.replicator.replicate(
            writer, name=name, content_type=content_type, early=early
        )
        registration = Registration(
            hash=digests.md5,
            sha256=digests.sha256,
            size=digests.size,
            name=name,
            content_type=content_type,
            replicas=replicas.node_ids,
            uploaded_at=time.time(),
        )
        registered = await self._register(registration, replicas, writer)
        self.uploads_stored += 1
        self.uploads_deduplicated += replicas.deduplicated
        return StoredUpload(
            hash=digests.md5,
            sha256=digests.sha256,
            size=digests.size,
            replicas=replicas.node_ids,
            registered=registered,
            deduplicated=replicas.deduplicated,
        )

    async def _register(
        self, registration: Registration, replicas: Replicas, writer: BlobWriter
    ) -> bool:
        try:
            return await self._registrar.register(registration)
        except HashCollision:
            await self.replicator.take_back(replicas, writer.digests())
            raise

    def _copied(self, writer: BlobWriter) -> BlobWriter:
        """Return a writer that has the same bytes, for the first has given its file away."""
        again = self.store.writer()
        for offset in range(0, writer.size, COPIED_BYTES):
            again.write(writer.read_at(offset, COPIED_BYTES))
        return again

    async def _renew(self, registration: Registration) -> Registration | None:
        """Ask every node whether it holds a content; None when none says so."""
        holders = []
        record = await self.run(self.store.record, registration.hash)
        if record is not None and record.sha256 == registration.sha256:
            holders.append(self.settings.node_id)
        for peer in self.cluster.holders(registration.hash):
            with contextlib.suppress(PeerError):
                async with self.peers.open(peer, "HEAD", registration.hash, {}) as answer:
                    if answer.status == 200:
                        holders.append(peer.node_id)
        return replace(registration, replicas=tuple(sorted(holders))) if holders else None

    def health(self) -> dict[str, Any]:
        """Return this node's state, if a probe could just be stored; or StoreFull, StoreFailed.

        NodeRefused while the master does not let it in. Blocks on the disk; one probe serves all
        who ask within CHECK_SECONDS.
        """
        self.replicator.check_refusal()
        self._check()
        space, totals = self.store.space(), self.store.totals()
        return {
            "status": "ok",
            "node_id": self.settings.node_id,
            "url": self.settings.node_url,
            "version": __version__,
            "capacity_bytes": space.capacity,
            "free_bytes": space.free,
            "used_bytes": totals.size,
            "stored_bytes": totals.stored_size,
            "blob_count": totals.count,
            "healthy_nodes": self._healthy_nodes(),
            "outbox": len(self.outbox),
            "refused": self.outbox.refused_count(),
            "scrub": self.scrubber.progress() if self.scrubber else None,
            "last_heartbeat_at": self.last_heartbeat_at,
            "uptime_seconds": round(time.time() - self.started_at, 1),
        }

    def heartbeat_age(self) -> float:
        """Return the seconds since the master answered a heartbeat; since the start before that."""
        return time.monotonic() - self._heard_at

    def _healthy_nodes(self) -> int:
        """Return how many nodes the master has told of; none before its first answer."""
        return 0 if self.last_heartbeat_at is None else self.cluster.healthy_count()

    async def _heartbeat_loop(self) -> None:
        while True:
            try:
                heartbeat = await self.run(self._heartbeat)
                cluster_map = await self.master.heartbeat(heartbeat)
                await self._join(cluster_map.cluster_id)
                self.cluster.update(cluster_map)
            except MasterError as error:
                self._complain(error)
                self._registrar.master_failed()
            except Exception:
                logger.exception("The heartbeat failed")
            else:
                self.last_heartbeat_at, self._heard_at = time.time(), time.monotonic()
                self._complaint = ""
                self._note_refusal(None)
                self._registrar.master_answered()
                self._loss_reporter.master_answered()
            regular = self.settings.heartbeat_seconds
            joining = min(JOINING_BEAT_SECONDS, regular)
            await asyncio.sleep(joining if self._is_joining() else regular)

    async def _join(self, cluster_id: str) -> None:
        """Belong to the cluster whose master has let this node in, for good."""
        if cluster_id and not self.identity.cluster_id:
            self.identity = await self.run(identity.join, self.folder, self.identity, cluster_id)

    def _note_refusal(self, refusal: NodeRefused | None) -> None:
        """Take uploads, and answer from another cluster's folder, only while nobody objects."""
        if refusal is None and self.replicator.refusal is not None:
            logger.info("The master lets this node in again")
        self.replicator.refusal = refusal
        self.on_refusal(refusal)

    def _is_joining(self) -> bool:
        return time.time() - self.started_at < JOINING_SECONDS

    def _complain(self, error: MasterError) -> None:
        """Log what is wrong, once; that a master is not there yet is no news."""
        awaited = self.last_heartbeat_at is None and self._is_joining()
        if awaited and not isinstance(error, MasterRefused):
            return
        refusal = _as_refusal(error)
        if str(error) != self._complaint:
            if refusal is not None:
                logger.error("The master does not let this node in: %s", refusal)
            else:
                logger.warning("The master does not know how this node is: %s", error)
        self._complaint = str(error)
        if refusal is not None:
            self._note_refusal(refusal)

    def _heartbeat(self) -> Heartbeat:
        self.replicator.own_failure = self._probe()
        space, totals = self._space(), self.store.totals()
        return Heartbeat(
            node_id=self.settings.node_id,
            url=self.settings.node_url,
            version=__version__,
            capacity_bytes=space.capacity,
            free_bytes=space.free,
            used_bytes=totals.size,
            stored_bytes=totals.stored_size,
            blob_count=totals.count,
            writable=self.replicator.own_failure is None,
            outbox_count=len(self.outbox),
            cluster_id=self.identity.cluster_id,
            store_id=self.identity.store_id,
        )

    def _space(self) -> Space:
        try:
            return self.store.space()
        except NodeError:
            return Space(None, None)

    def _probe(self) -> NodeError | None:
        """Return what keeps the store from taking blobs, said in the log when it begins."""
        try:
            self._store_probe()
        except NodeError as error:
            if self.replicator.own_failure is None:
                logger.error("This node takes no uploads: %s", error)  # noqa: TRY400  no traceback
            return error
        return None

    def _store_probe(self) -> None:
        """Store what an upload needs stored: bytes and a row; StoreFull or StoreFailed."""
        self.store.probe()
        self._database.probe()

    def _start_compressor(self) -> Compressor | None:
        """Start compressing what is at rest; not where the back end is somebody else's."""
        if self.settings.compression is env.Compression.OFF:
            return None
        if not isinstance(self.store, LocalBlobStore):
            return None
        compressor = Compressor(
            self.store,
            after_seconds=self.settings.compress_after_seconds,
            is_busy=lambda: bool(self._in_flight),
        )
        compressor.start()
        return compressor

    @property
    def _scrub_period(self) -> float:
        """How many seconds may pass between two verifications of a blob."""
        return self.settings.scrub_days * DAY_SECONDS

    def _start_scrubber(self) -> Scrubber | None:
        """Start reading what has not been read for long; not where others keep the disks."""
        if not isinstance(self.store, LocalBlobStore):
            return None
        stopping = threading.Event()
        scrubber = Scrubber(
            self.store,
            Rests(stopping, lambda: bool(self._in_flight)),
            stopping,
            period=self._scrub_period,
            bytes_per_second=self.settings.scrub_mb_per_second * MB,
        )
        scrubber.start()
        return scrubber

    def _own_entry(self) -> NodeEntry:
        """Return this node as it stands alone, until the master's map gives it its weight."""
        return NodeEntry(
            node_id=self.settings.node_id,
            url=self.settings.node_url,
            state="healthy",
            weight=LONE_WEIGHT,
            writable=True,
        )


def open_store(
    settings: env.Env, folder: Path, index: BlobIndex, journal: Journal | None = None
) -> BlobStore:
    """Return the back end that `MINI_DROPBOX_BLOB_STORE` chooses."""
    if settings.blob_store is env.BlobStoreKind.LOCAL:
        return LocalBlobStore(folder, index, journal)
    from node_app.django_blobstore import DjangoBlobStore  # noqa: PLC0415  needs its packages

    return DjangoBlobStore.from_settings(settings, folder, index)


def _as_refusal(error: MasterError) -> NodeRefused | None:
    """Return what a client is told of a master that does not let the node in."""
    if not isinstance(error, MasterRefused) or error.status != HTTPStatus.CONFLICT:
        return None
    kind = ForeignCluster if error.code == FOREIGN_CLUSTER else NodeRefused
    return kind(error.detail)


def _origins(master_urls: tuple[str, ...]) -> frozenset[str]:
    """Return the sites whose pages may upload: the masters, under each name of this machine."""
    origins = set()
    for url in master_urls:
        origins.add(url)
        for name in ("127.0.0.1", "localhost", "[::1]"):
            if f"//{name}:" in url:
                origins |= {
                    url.replace(name, other) for other in ("127.0.0.1", "localhost", "[::1]")
                }
    return frozenset(origins)
