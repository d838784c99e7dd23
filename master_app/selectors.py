"""Every read of the master's database beyond one table."""

from bisect import insort
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from django.conf import settings
from django.db.models import Count, Exists, OuterRef, Prefetch, Q, QuerySet, Subquery
from django.db.models.functions import Coalesce

from master_app import derived
from master_app.errors import UnknownHash
from master_app.models import Blob, File, Node, NodeMode, NodeState, Replica
from master_app.name_search import NEWEST_FOUND, files_named
from master_app.prepared import PreparedQuery

LIST_PAGE_ROWS = 1000
# One content may have any number of names.
SHOWN_NAMES = 20


# What a file's record is made of, by `_record`.
_RECORD_COLUMNS = (
    "blob__hash",
    "name",
    "blob__size",
    "blob__verified",
    "blob__claimed_replicas",
    "blob__sha256",
    "content_type",
    "created_at",
)
_NEWEST_FILE = PreparedQuery(
    lambda hashes: (
        File.objects.filter(blob__hash=hashes[0]).order_by("-id").values_list(*_RECORD_COLUMNS)[:1]
    )
)
_HOLDERS = PreparedQuery(
    lambda hashes: (
        Replica.objects.filter(blob__hash=hashes[0])
        .order_by("node__node_id")
        .values_list("node__node_id")
    )
)


def file_record(*, blob_hash: str) -> dict[str, Any]:
    """Return the object that `/get` shows for a blob's newest file; UnknownHash without one."""
    for row in _NEWEST_FILE.rows(blob_hash):
        return _record(row, [holder[0] for holder in _HOLDERS.rows(blob_hash)])
    message = f"No file is registered under {blob_hash}; /list shows what there is."
    raise UnknownHash(message)


def _record(row: Sequence[Any], holders: list[str]) -> dict[str, Any]:
    blob_hash, name, size, verified, claimed, sha256, content_type, created_at = row
    return {
        "hash": blob_hash,
        "name": name,
        "size": size,
        "replicas": holders if verified else claimed,
        "verified": verified,
        "sha256": sha256 or None,
        "content_type": content_type or None,
        "created_at": created_at.isoformat(),
    }


def file_records() -> Iterator[list[dict[str, Any]]]:
    """Yield every file's record in pages by key, so that memory stays flat at any number."""
    last_id = 0
    while page := _list_page(last_id):
        holders = _holders(File.objects.filter(pk__gt=last_id, pk__lte=page[-1][0]))
        last_id = page[-1][0]
        yield [_record(row, holders[blob_id]) for _, blob_id, *row in page]


def _list_page(after_id: int) -> list[tuple[Any, ...]]:
    """Return the next files as plain rows: objects for all of them would take most of the time."""
    files = File.objects.filter(pk__gt=after_id).order_by("pk")
    return list(files.values_list("pk", "blob_id", *_RECORD_COLUMNS)[:LIST_PAGE_ROWS])


def _holders(files: QuerySet[File]) -> Mapping[int, list[str]]:
    """Return the ids of the nodes with a replica, by the key of the blob; none for the others."""
    replicas = Replica.objects.filter(blob__in=files.values("blob"))
    held = list(replicas.values_list("blob_id", "node_id"))
    # The nodes are few, and asked for last: who has a replica is among them then.
    nodes = dict(Node.objects.values_list("pk", "node_id"))
    holders: defaultdict[int, list[str]] = defaultdict(list)
    for blob_id, node in held:
        insort(holders[blob_id], nodes[node])
    return holders


def latest_files(*, limit: int, name_contains: str = "") -> list[File]:
    """Return the newest files with blob and replicas at hand, or those whose name has a text."""
    files = File.objects.select_related("blob").prefetch_related("blob__replicas__node")
    if name_contains:
        return list(files_named(files, [name_contains]).order_by(NEWEST_FOUND)[:limit])
    return list(files.order_by("-created_at", "-id")[:limit])


def blob_named_by(*, blob_hash: str, names: Q) -> Blob | None:
    """Return a blob with the nodes that hold it at hand, if one of its files fulfils `names`."""
    fitting = File.objects.filter(names, blob=OuterRef("pk"))
    blobs = Blob.objects.filter(Exists(fitting), hash=blob_hash)
    return blobs.prefetch_related("replicas__node").first()


def blobs_with_names() -> QuerySet[Blob]:
    """Return the blobs with their replicas at hand, the `newest_files` of each and `file_count`."""
    newest = Prefetch("files", File.objects.order_by("-id")[:SHOWN_NAMES], to_attr="newest_files")
    return Blob.objects.annotate(
        file_count=_count_by_blob(File.objects.all(), blob=OuterRef("pk"))
    ).prefetch_related("replicas__node", newest)


def other_names(*, file: File) -> list[File]:
    """Return the newest other files that name the same bytes."""
    return [other for other in files_of(blob=file.blob, limit=10) if other.pk != file.pk]


def files_of(*, blob: Blob, limit: int) -> list[File]:
    """Return the newest files that name a blob."""
    return list(File.objects.filter(blob=blob).order_by("-id")[:limit])


def newest_replicas(*, node: Node, limit: int) -> list[Replica]:
    """Return what a node took last, with its blobs at hand."""
    return list(Replica.objects.filter(node=node).select_related("blob").order_by("-id")[:limit])


def blobs_with_counts() -> QuerySet[Blob]:
    """Return the blobs with `replica_count`, of those in reach, and `file_count`."""
    return Blob.objects.annotate(
        replica_count=_count_by_blob(Replica.objects.in_reach(), blob=OuterRef("pk")),
        file_count=_count_by_blob(File.objects.all(), blob=OuterRef("pk")),
    )


def files_with_counts() -> QuerySet[File]:
    """Return the files with their blob at hand and `replica_count`, of those in reach."""
    return File.objects.select_related("blob").annotate(
        replica_count=_count_by_blob(Replica.objects.in_reach(), blob=OuterRef("blob"))
    )


def _count_by_blob(rows: QuerySet[Any], *, blob: OuterRef) -> Coalesce:
    """Count by subquery: it runs for the rows of one page, where a join would group them all."""
    counted = rows.filter(blob=blob).order_by().values("blob")
    return Coalesce(Subquery(counted.annotate(n=Count("*")).values("n")), 0)


@dataclass(frozen=True)
class ClusterSummary:
    """The cluster at a glance. Sizes are bytes."""

    nodes: Sequence[Node]
    healthy: int
    file_count: int
    blob_count: int
    replica_count: int
    logical_bytes: int
    replication_factor: int

    @property
    def is_healthy(self) -> bool:
        return bool(self.nodes) and self.healthy == len(self.nodes)

    @property
    def used_bytes(self) -> int:
        """The contents of all replicas together."""
        return sum(node.used_bytes for node in self.nodes)

    @property
    def saved_bytes(self) -> int:
        """What compression saves of them."""
        return sum(node.saved_bytes for node in self.nodes)


def cluster_summary() -> ClusterSummary:
    """Return the nodes and what the cluster holds."""
    nodes = list(Node.objects.members())
    totals = derived.totals()
    return ClusterSummary(
        nodes=nodes,
        healthy=sum(node.state is NodeState.HEALTHY for node in nodes),
        file_count=totals.files,
        blob_count=totals.verified_blobs,
        replica_count=totals.replicas,
        logical_bytes=totals.verified_bytes,
        replication_factor=settings.ENV.replication_factor,
    )


def healthy_nodes() -> list[Node]:
    """Return the nodes that can take an upload now."""
    active = Node.objects.in_state(NodeState.HEALTHY).filter(mode=NodeMode.ACTIVE)
    return list(active.filter(writable=True))
