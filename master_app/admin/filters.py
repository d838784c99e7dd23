"""What the admin's lists can be filtered by, as conditions that an index or one scan answers."""

from typing import Any, ClassVar

from django.contrib.admin import SimpleListFilter
from django.db.models import Exists, OuterRef, Q, QuerySet
from django.http import HttpRequest

from master_app.models import Node, NodeState, Replica
from master_app.replica_health import ReplicaHealth, in_health

CONTENT_KINDS = {
    "image": ("Images", Q(content_type__startswith="image/")),
    "video": ("Videos", Q(content_type__startswith="video/")),
    "audio": ("Audio", Q(content_type__startswith="audio/")),
    "text": ("Text", Q(content_type__startswith="text/")),
    "pdf": ("PDF", Q(content_type="application/pdf")),
    "archive": (
        "Archives",
        Q(
            content_type__in=(
                "application/zip",
                "application/gzip",
                "application/x-gzip",
                "application/x-tar",
                "application/x-bzip2",
                "application/x-xz",
                "application/zstd",
                "application/x-7z-compressed",
                "application/vnd.rar",
            )
        ),
    ),
    "unknown": ("Unknown", Q(content_type__in=("", "application/octet-stream"))),
}


class ContentKindFilter(SimpleListFilter):
    """Files by the kind of their content."""

    title = "kind"
    parameter_name = "kind"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [(key, title) for key, (title, _) in CONTENT_KINDS.items()]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        kind = CONTENT_KINDS.get(self.value() or "")
        return queryset.filter(kind[1]) if kind else queryset


class _HealthFilter(SimpleListFilter):
    title = "replica health"
    parameter_name = "health"
    verified: ClassVar[str]

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [(health.value, str(health.label)) for health in ReplicaHealth]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        value = self.value()
        if value is None or value not in ReplicaHealth:
            return queryset
        return queryset.filter(in_health(ReplicaHealth(value), verified=self.verified))


class FileHealthFilter(_HealthFilter):
    """Files by the replicas of their blob."""

    verified = "blob__verified"


class BlobHealthFilter(_HealthFilter):
    """Blobs by their replicas."""

    verified = "verified"


class _VerifiedFilter(SimpleListFilter):
    title = "verified"
    parameter_name = "verified"
    verified: ClassVar[str]

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [("yes", "By a node"), ("no", "By no node yet")]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        if self.value() not in {"yes", "no"}:
            return queryset
        return queryset.filter(**{self.verified: self.value() == "yes"})


class FileVerifiedFilter(_VerifiedFilter):
    """Files whose bytes a node has confirmed, and the others."""

    verified = "blob__verified"


class BlobVerifiedFilter(_VerifiedFilter):
    """The same for blobs."""

    verified = "verified"


class ReplicaNodeFilter(SimpleListFilter):
    """Replicas of one node."""

    title = "node"
    parameter_name = "node"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [(node_id, node_id) for node_id in Node.objects.values_list("node_id", flat=True)]

    def has_output(self) -> bool:
        return True

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        if self.value() is None:
            return queryset
        node = Node.objects.filter(node_id=self.value()).first()
        return self.on_node(queryset, node) if node else queryset.none()

    def on_node(self, queryset: QuerySet[Any], node: Node) -> QuerySet[Any]:
        return queryset.filter(node=node)


class BlobNodeFilter(ReplicaNodeFilter):
    """Blobs that a node has; looked up row by row, so that a page stops early."""

    # The path from the query's model to the blob.
    blob = "pk"

    def on_node(self, queryset: QuerySet[Any], node: Node) -> QuerySet[Any]:
        return queryset.filter(Exists(Replica.objects.filter(node=node, blob=OuterRef(self.blob))))


class FileNodeFilter(BlobNodeFilter):
    """Files whose blob a node has."""

    blob = "blob"


class NodeStateFilter(SimpleListFilter):
    """Nodes by how recently they were heard of."""

    title = "state"
    parameter_name = "state"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [(state.value, str(state.label)) for state in NodeState]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        return queryset.filter(state_now=self.value()) if self.value() else queryset
