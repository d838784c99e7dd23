"""What the master knows: nodes, blobs, their replicas, and the files that name them.

All writes go through `master_app.services`, or the `services` of a part that has its own (`repair`,
`collection`), and all reads beyond one table through the `selectors` beside them.
"""

from datetime import datetime, timedelta
from urllib.parse import urlencode

from django.conf import settings
from django.db import models
from django.db.models import Case, F, Q, Value, When
from django.utils import timezone

from mini_dropbox.wire import MAX_NAME_CHARACTERS

# Heartbeats that may be missed before a node is suspect, and before it counts as down.
SUSPECT_AFTER_HEARTBEATS = 3
DOWN_AFTER_HEARTBEATS = 8


class Cluster(models.Model):
    """What this database is the books of; one row, made when the first node speaks."""

    ONE = 1

    cluster_id = models.CharField(max_length=32)
    created_at = models.DateTimeField()
    restored_at = models.DateTimeField(
        null=True, help_text="When this database took the place of one that was lost, if so."
    )
    known_until = models.DateTimeField(
        null=True, help_text="What was uploaded between this and `restored_at` nodes alone know."
    )

    class Meta:
        constraints = (models.CheckConstraint(condition=Q(pk=1), name="one_cluster"),)

    def __str__(self) -> str:
        return f"cluster {self.cluster_id}"


class NodeState(models.TextChoices):
    """How recently a node was heard of."""

    HEALTHY = "healthy"
    SUSPECT = "suspect"
    DOWN = "down"


class NodeMode(models.TextChoices):
    """What a node is to be used for; an operator's word, whatever its state."""

    ACTIVE = "active", "Active"
    READ_ONLY = "read_only", "Read-only"
    DRAINING = "draining", "Draining"
    REMOVED = "removed", "Removed"


class NodeQuerySet(models.QuerySet["Node"]):
    """Nodes, with the state that follows from their last heartbeat."""

    def with_state(self, now: datetime | None = None) -> "NodeQuerySet":
        """Annotate `state_now`, so that the database can filter and sort by state."""
        moment = now or timezone.now()
        suspect, down = state_limits()
        return self.annotate(
            state_now=Case(
                When(last_heartbeat_at__gte=moment - suspect, then=Value(NodeState.HEALTHY)),
                When(last_heartbeat_at__gte=moment - down, then=Value(NodeState.SUSPECT)),
                default=Value(NodeState.DOWN),
                output_field=models.CharField(),
            )
        )

    def members(self) -> "NodeQuerySet":
        """Return the nodes that have not been removed."""
        return self.exclude(mode=NodeMode.REMOVED)

    def in_reach(self) -> "NodeQuerySet":
        """Return the nodes that are not down."""
        return self.members().filter(last_heartbeat_at__gte=timezone.now() - state_limits()[1])

    def in_state(self, state: NodeState) -> "NodeQuerySet":
        return self.with_state().filter(Q(state_now=state))


def state_limits() -> tuple[timedelta, timedelta]:
    """Return how old a last heartbeat may be for `healthy` and for `suspect`."""
    beat = settings.ENV.heartbeat_seconds
    return (
        timedelta(seconds=beat * SUSPECT_AFTER_HEARTBEATS),
        timedelta(seconds=beat * DOWN_AFTER_HEARTBEATS),
    )


def node_state(silence: timedelta) -> NodeState:
    """Return the state of a node that was last heard of so long ago."""
    suspect, down = state_limits()
    if silence <= suspect:
        return NodeState.HEALTHY
    return NodeState.SUSPECT if silence <= down else NodeState.DOWN


class Node(models.Model):
    """A storage node, as its own heartbeats describe it. Sizes are bytes."""

    node_id = models.CharField(max_length=64, unique=True)
    url = models.CharField(max_length=255, help_text="How clients and peers reach the node.")
    version = models.CharField(max_length=32, blank=True)
    mode = models.CharField(max_length=16, choices=NodeMode, default=NodeMode.ACTIVE)
    capacity_bytes = models.BigIntegerField(null=True, help_text="Empty for an object store.")
    free_bytes = models.BigIntegerField(null=True)
    used_bytes = models.BigIntegerField(default=0, help_text="The blobs' contents together.")
    stored_bytes = models.BigIntegerField(
        null=True, help_text="What they take as they are kept, compressed or not."
    )
    blob_count = models.BigIntegerField(default=0)
    writable = models.BooleanField(default=True, help_text="Whether the node can take blobs.")
    reconciled_at = models.FloatField(
        default=0,
        editable=False,
        help_text="When its blobs were last compared with the books, by `ServiceClock`.",
    )
    outbox_count = models.BigIntegerField(
        null=True,
        help_text="Uploads that the node has still to register; empty if it does not say.",
    )
    store_id = models.CharField(
        max_length=32, blank=True, default="", help_text="Names the node's data folder."
    )
    inventory_due = models.BooleanField(
        default=False, help_text="Whether it may have what is not on record; it is asked then."
    )
    first_seen_at = models.DateTimeField()
    last_heartbeat_at = models.DateTimeField()

    objects = NodeQuerySet.as_manager()

    class Meta:
        ordering = ("node_id",)

    def __str__(self) -> str:
        return f"node {self.node_id}"

    @property
    def state(self) -> NodeState:
        """The state at this moment; `with_state` computes the same in the database."""
        return node_state(timezone.now() - self.last_heartbeat_at)

    @property
    def saved_bytes(self) -> int:
        """What compression saves on this node; nothing while it has not said."""
        return 0 if self.stored_bytes is None else self.used_bytes - self.stored_bytes


class Blob(models.Model):
    """Immutable bytes under their MD5, or a record of some that no node has confirmed."""

    hash = models.CharField(max_length=128, unique=True)
    sha256 = models.CharField(max_length=64, blank=True)
    size = models.BigIntegerField(help_text="Bytes.")
    verified = models.BooleanField(
        default=False, help_text="Whether a node has stored the bytes and computed both digests."
    )
    claimed_replicas = models.JSONField(
        default=list,
        blank=True,
        help_text="Node ids that a client named for a record that no node has confirmed.",
    )
    created_at = models.DateTimeField()
    unreferenced_at = models.FloatField(
        null=True, editable=False, help_text="Since when no file names it, by `ServiceClock`."
    )

    class Meta:
        constraints = (
            models.CheckConstraint(condition=Q(size__gte=0), name="blob_size_not_negative"),
            models.CheckConstraint(
                condition=Q(verified=False) | ~Q(sha256=""), name="verified_blob_has_sha256"
            ),
        )
        indexes = (
            models.Index(F("created_at").desc(), F("id").desc(), name="blob_newest"),
            models.Index(
                fields=("unreferenced_at",),
                condition=Q(unreferenced_at__isnull=False),
                name="blob_unreferenced",
            ),
        )

    def __str__(self) -> str:
        return self.hash

    def holders(self) -> list[Node]:
        """Return the nodes with a replica, those that are up now first."""
        nodes = [replica.node for replica in self.replicas.all()]
        return sorted(nodes, key=lambda node: (node.state is not NodeState.HEALTHY, node.node_id))

    def copies_in_reach(self) -> int:
        """Return the number of replicas on nodes that are not down."""
        return sum(replica.node.state is not NodeState.DOWN for replica in self.replicas.all())


class ReplicaQuerySet(models.QuerySet["Replica"]):
    """Replicas, wherever they are."""

    def in_reach(self) -> "ReplicaQuerySet":
        """Return the replicas on nodes that are not down; nobody knows of the others.

        The nodes are looked up first: they are few, and a join would be made for every replica.
        """
        nodes = list(Node.objects.in_reach().values_list("pk", flat=True))
        return self.filter(node__in=nodes)


class Replica(models.Model):
    """One node's verified copy of a blob."""

    # The constraint's index begins with the blob, too; each index is a page to write per row.
    blob = models.ForeignKey(
        Blob, on_delete=models.CASCADE, related_name="replicas", db_index=False
    )
    node = models.ForeignKey(Node, on_delete=models.PROTECT, related_name="replicas")
    created_at = models.DateTimeField()

    objects = ReplicaQuerySet.as_manager()

    class Meta:
        constraints = (models.UniqueConstraint(fields=("blob", "node"), name="one_replica_a_node"),)

    def __str__(self) -> str:
        return f"{self.blob} on {self.node}"


class File(models.Model):
    """A user's named entry that points to a blob."""

    # The constraint's index begins with the blob, too.
    blob = models.ForeignKey(Blob, on_delete=models.CASCADE, related_name="files", db_index=False)
    name = models.CharField(max_length=MAX_NAME_CHARACTERS, db_index=True)
    content_type = models.CharField(max_length=127, blank=True)
    created_at = models.DateTimeField()

    class Meta:
        constraints = (
            models.UniqueConstraint(fields=("blob", "name"), name="one_file_a_blob_and_name"),
        )
        indexes = (models.Index(F("created_at").desc(), F("id").desc(), name="file_newest"),)

    def __str__(self) -> str:
        return self.name

    def replica_node_ids(self) -> list[str]:
        """Return who holds the bytes: verified copies, or what the announcing client claimed."""
        if not self.blob.verified:
            return list(self.blob.claimed_replicas)
        return sorted(replica.node.node_id for replica in self.blob.replicas.all())

    def download_url(self) -> str | None:
        """Return an address that serves the bytes under this name; None without a replica.

        A node that is up now is preferred; any node would find the bytes.
        """
        holders = self.blob.holders()
        if not holders:
            return None
        return f"{holders[0].url}/retrieve?{urlencode({'hash': self.blob.hash, 'name': self.name})}"


class Lease(models.Model):
    """Who does what only one process may do at a time, and what that one last said of it."""

    name = models.CharField(max_length=32, primary_key=True)
    holder = models.CharField(max_length=128)
    expires_at = models.DateTimeField()
    state = models.JSONField(default=dict)

    def __str__(self) -> str:
        return f"{self.name}, held by {self.holder}"


class RepairTask(models.Model):
    """A blob with too few copies, until it has enough."""

    blob = models.OneToOneField(
        Blob, on_delete=models.CASCADE, primary_key=True, related_name="repair"
    )
    copies = models.PositiveSmallIntegerField(help_text="How many there were at the last look.")
    attempts = models.PositiveSmallIntegerField(default=0, help_text="How many have failed.")
    reason = models.TextField(blank=True, help_text="Why the last attempt failed.")
    try_at = models.DateTimeField(help_text="When the next attempt may begin.")
    created_at = models.DateTimeField(db_index=True)

    class Meta:
        ordering = ("copies", "blob")
        indexes = (models.Index(fields=("copies", "blob"), name="repair_most_endangered"),)

    def __str__(self) -> str:
        return f"{self.blob} with {self.copies} copies"


class MoveTask(models.Model):
    """A blob that is to be where placement wants it, until it is."""

    blob = models.OneToOneField(
        Blob, on_delete=models.CASCADE, primary_key=True, related_name="move"
    )
    attempts = models.PositiveSmallIntegerField(default=0, help_text="How many have failed.")
    reason = models.TextField(blank=True, help_text="Why the last attempt failed.")
    try_at = models.DateTimeField(help_text="When the next attempt may begin.")

    def __str__(self) -> str:
        return f"{self.blob} to be moved"


class ServiceClock(models.Model):
    """Seconds for which a master has run; whoever sets a machine's clock does not change it."""

    seconds = models.FloatField(default=0)

    def __str__(self) -> str:
        return f"{self.seconds:.0f} s"


class Tombstone(models.Model):
    """A content that was deleted for good: every node that has it is to remove it."""

    hash = models.CharField(max_length=32, unique=True)
    sha256 = models.CharField(max_length=64)
    size = models.BigIntegerField(help_text="Bytes.")
    buried_at = models.FloatField(help_text="By `ServiceClock`.")
    created_at = models.DateTimeField()

    class Meta:
        indexes = (models.Index(fields=("buried_at",), name="tombstone_age"),)

    def __str__(self) -> str:
        return self.hash


class Removal(models.Model):
    """A node that has still to remove a content, or to say that it has none."""

    tombstone = models.ForeignKey(
        Tombstone, on_delete=models.CASCADE, related_name="removals", db_index=False
    )
    node = models.ForeignKey(Node, on_delete=models.CASCADE, related_name="removals")
    try_at = models.FloatField(default=0, help_text="By `ServiceClock`.")
    reason = models.TextField(blank=True, help_text="Why the node has kept it.")

    class Meta:
        constraints = (
            models.UniqueConstraint(fields=("tombstone", "node"), name="one_removal_a_node"),
        )

    def __str__(self) -> str:
        return f"{self.tombstone} from {self.node}"


class Orphan(models.Model):
    """A content that a node has and the books do not know, as the last comparison found it."""

    node = models.ForeignKey(Node, on_delete=models.CASCADE, related_name="orphans", db_index=False)
    hash = models.CharField(max_length=32)
    sha256 = models.CharField(max_length=64)
    size = models.BigIntegerField(help_text="Bytes.")
    found_at = models.FloatField(help_text="When it was first found, by `ServiceClock`.")

    class Meta:
        constraints = (models.UniqueConstraint(fields=("node", "hash"), name="one_orphan_a_node"),)

    def __str__(self) -> str:
        return f"{self.hash} on {self.node}"
