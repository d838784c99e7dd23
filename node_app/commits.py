"""What a store is asked to keep, and how far it has got with each."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from types import TracebackType

from node_app.blobindex import BlobIndex, BlobRecord
from node_app.blobwriter import BlobWriter, Digests
from node_app.compression import may_gain
from node_app.disk import as_node_error
from node_app.errors import NodeError

# Whether the content was there before, or what kept it from being stored.
Outcome = bool | NodeError


@dataclass(frozen=True)
class Incoming:
    """A received content, and what its record shall say of it."""

    writer: BlobWriter
    name: str
    content_type: str


class Commit:
    """One content on its way into a store. What fails for it fails for no other."""

    def __init__(self, incoming: Incoming) -> None:
        self._incoming = incoming
        self.writer = incoming.writer
        self.digests: Digests = incoming.writer.digests()
        # Whether it was the same as what stands under its name, before the locks.
        self.was_compared = False
        self.found = False
        self.has_record = False
        # What the file looked like once it was in its place.
        self.stamp = ""
        self.error: NodeError | None = None

    @property
    def is_new(self) -> bool:
        return self.error is None and not self.found

    @property
    def needs_record(self) -> bool:
        return self.error is None and not self.has_record

    def __enter__(self) -> None:
        """Begin a step; what goes wrong in it becomes this commit's own outcome."""

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> bool:
        if isinstance(error, OSError):
            error = as_node_error(error)
        if not isinstance(error, NodeError):
            return False
        self.error = error
        return True

    def outcome(self) -> Outcome:
        return self.error or self.found

    def note_name(self, record: BlobRecord, index: BlobIndex) -> None:
        """Let the index know under which name the content has come again."""
        index.add_name(record, name=self._incoming.name, content_type=self._incoming.content_type)

    def record(self) -> BlobRecord:
        digests, content_type = self.digests, self._incoming.content_type
        now = time.time()
        return BlobRecord(
            hash=digests.md5,
            sha256=digests.sha256,
            size=digests.size,
            name=self._incoming.name,
            content_type=content_type,
            stored_at=now,
            # What cannot gain by compression is never tried.
            stored_size=None if may_gain(digests.size, content_type) else digests.size,
            stamp=self.stamp,
            verified_at=now,
        )


def going_on(commits: Sequence[Commit]) -> list[Commit]:
    """Return those that nothing has kept from being stored so far."""
    return [commit for commit in commits if commit.error is None]


def without_repetition(commits: Sequence[Commit]) -> list[list[Commit]]:
    """Split into groups, in order, none of which has the same address twice."""
    groups: list[dict[str, Commit]] = [{}]
    for commit in commits:
        if commit.digests.md5 in groups[-1]:
            groups.append({})
        groups[-1][commit.digests.md5] = commit
    return [list(group.values()) for group in groups]
