"""What the master and the nodes say to one another, and the names they use on the wire."""

import enum
import re
import secrets
import unicodedata
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Final, Self

# What `/register` accepts as a hash: the original's documentation registers `test123`.
RECORD_HASH_PATTERN: Final = re.compile(r"[A-Za-z0-9_-]{1,128}")
# A blob's address. Nothing that does not match this ever reaches a file system.
BLOB_HASH_PATTERN: Final = re.compile(r"[0-9a-f]{32}")
SHA256_PATTERN: Final = re.compile(r"[0-9a-f]{64}")
# What names a cluster, or a node's data folder; made at random.
IDENTITY_PATTERN: Final = re.compile(r"[0-9a-f]{32}")

MAX_NAME_CHARACTERS: Final = 255
_SLASH: Final = re.compile(r"[/\\]")
MAX_SIZE: Final = 2**63 - 1
# The year 9999, whose last moments are beyond what some time zones' calendars hold.
MAX_MOMENT: Final = 253_370_764_800

HEARTBEAT_PATH: Final = "/internal/heartbeat"
REGISTRATIONS_PATH: Final = "/internal/registrations"
PEER_BLOBS_PATH: Final = "/internal/blobs/"
RECEIPTS_PATH: Final = "/internal/receipts"
COPIES_PATH: Final = "/internal/copies"
# So many copies may be ordered at once.
MAX_COPIES: Final = 256
REMOVALS_PATH: Final = "/internal/removals"
MAX_REMOVALS: Final = 1000
INVENTORY_PATH: Final = "/internal/inventory"
INVENTORY_NAMES_PATH: Final = "/internal/inventory/names"
# So many blobs may be asked for at once.
MAX_INVENTORY_PAGE: Final = 1000
# The code of the refusal of a node whose data folder belongs to another cluster.
FOREIGN_CLUSTER: Final = "foreign_cluster"
LOSSES_PATH: Final = "/internal/losses"
SCRUB_PATH: Final = "/internal/scrub"


class WireError(ValueError):
    """A message does not have the form that this module describes."""


def new_identity() -> str:
    """Return a name for a cluster or a data folder that no other one has."""
    return secrets.token_hex(16)


def is_blob_hash(value: str) -> bool:
    """Tell whether `value` is a real MD5: 32 lower-case hexadecimal digits."""
    return BLOB_HASH_PATTERN.fullmatch(value) is not None


def clean_file_name(value: str) -> str:
    """Return the last part of the path `value` in NFC; WireError unless it is a usable name.

    A name has 1 to 255 characters, none of them a control character or a lone surrogate, and
    is not `.` or `..`. Both kinds of slash separate parts, as browsers on Windows send paths.
    """
    # What is ASCII and printable has one form and no control characters; most names are.
    is_plain = value.isascii() and value.isprintable()
    name = _SLASH.split(value)[-1].strip()
    if not is_plain:
        name = unicodedata.normalize("NFC", name).strip()
    if not name or name in {".", ".."}:
        raise WireError("The name is empty; send a file name of 1 to 255 characters.")
    if len(name) > MAX_NAME_CHARACTERS:
        raise WireError("The name is too long; send a file name of at most 255 characters.")
    # Cc are control characters, Cs lone surrogates, which no UTF-8 can carry.
    if not is_plain and any(unicodedata.category(character) in {"Cc", "Cs"} for character in name):
        raise WireError("The name has control characters; send a file name without them.")
    return name


@dataclass(frozen=True)
class NodeEntry:
    """One storage node of the cluster map; `weight` is relative (capacity in GiB).

    `writable` is what the node says of itself; `is_active`, whether an operator wants it to take
    blobs.
    """

    node_id: str
    url: str
    state: str
    weight: float
    writable: bool
    is_active: bool = True

    @property
    def is_taker(self) -> bool:
        """Whether new replicas may go there."""
        return self.state == "healthy" and self.writable and self.is_active


@dataclass(frozen=True)
class ClusterMap:
    """The master's answer to a heartbeat: who is there, and how many copies are wanted."""

    replication_factor: int
    write_quorum: int
    nodes: tuple[NodeEntry, ...]
    # Empty in the map of a master or a node of an earlier version.
    cluster_id: str = ""

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        try:
            nodes = tuple(
                NodeEntry(
                    node_id=str(node["node_id"]),
                    url=str(node["url"]),
                    state=str(node["state"]),
                    weight=float(node["weight"]),
                    writable=bool(node["writable"]),
                    is_active=bool(node.get("is_active", True)),
                )
                for node in data["nodes"]
            )
            return cls(
                replication_factor=int(data["replication_factor"]),
                write_quorum=int(data["write_quorum"]),
                nodes=nodes,
                cluster_id=str(data.get("cluster_id", "")),
            )
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            raise WireError(f"This is not a cluster map: {error}") from error

    def healthy(self) -> tuple[NodeEntry, ...]:
        """Return the nodes that new replicas may go to."""
        return tuple(node for node in self.nodes if node.is_taker)


@dataclass(frozen=True, kw_only=True)
class Heartbeat:
    """What a node says of itself every `HEARTBEAT_SECONDS`; sizes in bytes.

    `capacity_bytes` is None where the back end has no size (an object store). `used_bytes` are
    the blobs' contents, `stored_bytes` what they take as they are kept, compressed or not.
    `cluster_id` is whose the node's folder is, empty for a new one, `store_id` names the folder.
    """

    node_id: str
    url: str
    version: str
    capacity_bytes: int | None
    free_bytes: int | None
    used_bytes: int
    blob_count: int
    writable: bool
    stored_bytes: int | None = None
    # How many registrations the master has still to be told.
    outbox_count: int | None = None
    cluster_id: str = ""
    store_id: str = ""

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True)
class Sender:
    """Which node, with which data folder, tells the master of uploads."""

    node_id: str
    store_id: str


@dataclass(frozen=True, kw_only=True)
class Registration:
    """One upload that a node has stored: its blob, its name and who holds verified replicas."""

    hash: str
    sha256: str
    size: int
    name: str
    content_type: str
    replicas: tuple[str, ...]
    uploaded_at: float

    def to_json(self) -> dict[str, Any]:
        # Flat, so that there is nothing to copy deeply; every upload passes here.
        return dict(vars(self))


@dataclass(frozen=True, kw_only=True)
class Holding:
    """A blob that a node has, under one of its names; `size` in bytes, `stored_at` unix seconds."""

    hash: str
    sha256: str
    size: int
    name: str
    content_type: str
    stored_at: float

    def to_json(self) -> dict[str, Any]:
        return dict(vars(self))

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        """Return the holding; WireError unless each part of it has its form."""
        try:
            holding = cls(**data)
            texts = (holding.hash, holding.sha256, holding.name, holding.content_type)
            is_right = (
                all(isinstance(text, str) for text in texts)
                and is_blob_hash(holding.hash)
                and SHA256_PATTERN.fullmatch(holding.sha256) is not None
                and type(holding.size) is int
                and 0 <= holding.size <= MAX_SIZE
                and 0 <= float(holding.stored_at) <= MAX_MOMENT
                and clean_file_name(holding.name) == holding.name
            )
        except (TypeError, ValueError) as error:
            raise WireError(f"This is no holding: {error}") from error
        if not is_right:
            raise WireError(f"This is no holding: {data}")
        return holding


@dataclass(frozen=True, kw_only=True)
class CopyOrder:
    """A replica that a node is to make from a peer's; `size` in bytes, `sources` are node ids."""

    hash: str
    sha256: str
    size: int
    name: str
    content_type: str
    sources: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        """Return the order; WireError unless each part of it has its form."""
        try:
            order = cls(**{**data, "sources": tuple(data["sources"])})
        except (KeyError, TypeError) as error:
            raise WireError(f"This is not an order for a copy: {error}") from error
        texts = (order.hash, order.sha256, order.name, order.content_type, *order.sources)
        if not all(isinstance(text, str) for text in texts) or type(order.size) is not int:
            raise WireError("An order for a copy has texts, and a size that is a number.")
        if not is_blob_hash(order.hash) or not SHA256_PATTERN.fullmatch(order.sha256):
            raise WireError("An order for a copy names its content by MD5 and SHA-256.")
        return order


class CopyStatus(enum.StrEnum):
    """What became of an order for a copy."""

    MADE = "made"
    HAD = "had"
    FAILED = "failed"


@dataclass(frozen=True, kw_only=True)
class CopyResult:
    """A node's answer to one order; `without` are the sources that say they have no such blob."""

    hash: str
    status: CopyStatus
    reason: str = ""
    without: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        try:
            return cls(
                hash=str(data["hash"]),
                status=CopyStatus(data["status"]),
                reason=str(data["reason"]),
                without=tuple(str(node_id) for node_id in data["without"]),
            )
        except (KeyError, TypeError, ValueError) as error:
            raise WireError(f"This is not the result of a copy: {error}") from error


@dataclass(frozen=True, kw_only=True)
class RemovalOrder:
    """A blob that no file names any more, to be removed where nobody has stored it again.

    A node that has stored or found this content within `untouched_seconds` keeps it: the
    registration of that upload may be on its way.
    """

    hash: str
    sha256: str
    untouched_seconds: float

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        """Return the order; WireError unless each part of it has its form."""
        try:
            order = cls(
                hash=str(data["hash"]),
                sha256=str(data["sha256"]),
                untouched_seconds=float(data["untouched_seconds"]),
            )
        except (KeyError, TypeError, ValueError) as error:
            raise WireError(f"This is not an order for a removal: {error}") from error
        if not is_blob_hash(order.hash) or not SHA256_PATTERN.fullmatch(order.sha256):
            raise WireError("An order for a removal names its content by MD5 and SHA-256.")
        # A number that is none would compare as false with every silence.
        if not order.untouched_seconds >= 0:
            raise WireError("An order for a removal says how many seconds of silence it asks for.")
        return order


class RemovalStatus(enum.StrEnum):
    """What became of an order for a removal."""

    REMOVED = "removed"
    ABSENT = "absent"
    KEPT = "kept"


@dataclass(frozen=True, kw_only=True)
class RemovalResult:
    """A node's answer to one order; `reason` says why a blob was kept."""

    hash: str
    status: RemovalStatus
    reason: str = ""

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        try:
            status = RemovalStatus(data["status"])
            return cls(hash=str(data["hash"]), status=status, reason=str(data["reason"]))
        except (KeyError, TypeError, ValueError) as error:
            raise WireError(f"This is not the result of a removal: {error}") from error


@dataclass(frozen=True, kw_only=True)
class Loss:
    """A copy that a node has no more: why (`damaged`, `unreadable` or `missing`), and who noticed.

    `found_by` is `read`, `scrub` or `upload`; `at` is in unix seconds, by the node's clock.
    """

    hash: str
    reason: str
    found_by: str
    at: float

    def to_json(self) -> dict[str, Any]:
        return dict(vars(self))
