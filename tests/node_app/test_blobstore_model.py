"""The local blob store against a model, under random uploads, damage, removals and restarts."""

import tempfile
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from node_app.blobindex import BlobIndex, Totals
from node_app.blobwriter import MEMORY_BYTES
from node_app.errors import BlobNotFound, HashCollision
from tests.support.blob_backends import JournalBackend, LocalBackend, md5, sha256
from tests.support.md5_collision import colliding_pair

CONTENTS = [b"", b"a", b"b" * 1000, bytes(MEMORY_BYTES + 1), *colliding_pair()]


class StoreAgainstModel(RuleBasedStateMachine):
    """`known` is what was acknowledged and not deleted; `intact` is what nobody has damaged."""

    def __init__(self) -> None:
        super().__init__()
        self.known: dict[str, bytes] = {}
        self.intact: set[str] = set()

    @initialize()
    def start(self) -> None:
        self.folder = tempfile.TemporaryDirectory()
        self.backend = self.opened(Path(self.folder.name) / "node")

    @staticmethod
    def opened(folder: Path) -> LocalBackend:
        return LocalBackend(folder)

    def teardown(self) -> None:
        self.backend.close()
        self.folder.cleanup()

    @rule(content=st.sampled_from(CONTENTS))
    def store(self, content: bytes) -> None:
        key = md5(content)
        if self.known.get(key, content) != content:
            with pytest.raises(HashCollision):
                self.backend.put(content)
            return
        assert self.backend.put(content) == (key in self.intact)
        self.known[key] = content
        self.intact.add(key)
        assert self.backend.get(key) == content

    @precondition(lambda self: any(self.known[key] for key in self.intact))
    @rule(data=st.data())
    def flip_a_bit(self, data: st.DataObject) -> None:
        key = self._choose(data, *(key for key in self.intact if self.known[key]))
        content = bytearray(self.known[key])
        content[data.draw(st.integers(0, len(content) - 1))] ^= 1 << data.draw(st.integers(0, 7))
        self._damage(key, bytes(content))

    @precondition(lambda self: any(self.known[key] for key in self.intact))
    @rule(data=st.data())
    def truncate(self, data: st.DataObject) -> None:
        key = self._choose(data, *(key for key in self.intact if self.known[key]))
        length = data.draw(st.integers(0, len(self.known[key]) - 1))
        self._damage(key, self.known[key][:length])

    @precondition(lambda self: self.intact)
    @rule(data=st.data())
    def lose(self, data: st.DataObject) -> None:
        self._damage(self._choose(data, *self.intact), None)

    @precondition(lambda self: self.known)
    @rule(data=st.data())
    def delete(self, data: st.DataObject) -> None:
        key = self._choose(data, *self.known)
        assert not self.backend.store.delete(key, sha256=sha256(b"another"))
        assert self.backend.store.delete(key, sha256=sha256(self.known.pop(key)))
        self.intact.discard(key)

    @rule()
    def compress(self) -> None:
        self.backend.compress()

    @rule()
    def reopen(self) -> None:
        self.backend.reopen()

    @invariant()
    def what_is_intact_is_read_back(self) -> None:
        for key in self.intact:
            assert self.backend.get(key) == self.known[key]

    @invariant()
    def only_what_is_intact_is_verified(self) -> None:
        for content in CONTENTS:
            expected = md5(content) in self.intact and self.known[md5(content)] == content
            assert self.backend.store.verify(md5(content), sha256(content)) == expected

    @invariant()
    def what_is_unknown_is_not_there(self) -> None:
        for key in {md5(content) for content in CONTENTS} - set(self.known):
            with pytest.raises(BlobNotFound):
                self.backend.store.open(key)

    @invariant()
    def the_index_knows_what_was_acknowledged(self) -> None:
        assert self.backend.rows() == sorted(self.known)
        total = sum(map(len, self.known.values()))
        totals = self.backend.store.totals()
        assert replace(totals, saved=0) == Totals(len(self.known), total)
        assert totals == BlobIndex(self.backend.database).totals()

    def _damage(self, key: str, content: bytes | None) -> None:
        self.backend.plant(key, content)
        self.intact.discard(key)

    @staticmethod
    def _choose(data: st.DataObject, *keys: str) -> str:
        return data.draw(st.sampled_from(sorted(keys)))


class JournalAgainstModel(StoreAgainstModel):
    """The same, where a restart mends what the journal still has."""

    backend: JournalBackend

    @staticmethod
    def opened(folder: Path) -> LocalBackend:
        return JournalBackend(folder)

    @rule()
    def settle(self) -> None:
        self.backend.journal.settle()
        assert self.backend.waiting() == []

    @rule()
    def reopen(self) -> None:
        mended = self.backend.waiting()
        super().reopen()
        self.intact.update(mended)
        assert self.backend.waiting() == []


TestStoreAgainstModel = StoreAgainstModel.TestCase
TestJournalAgainstModel = JournalAgainstModel.TestCase
TestStoreAgainstModel.settings = TestJournalAgainstModel.settings = settings(
    max_examples=40,
    stateful_step_count=25,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
)
