"""What every back end does with a copy that is not what was stored."""

import random
from contextlib import closing

import pytest

from node_app.blobstore import Check
from node_app.blobwriter import Digests
from node_app.errors import BlobDamaged, BlobNotFound
from node_app.losses import Losses
from tests.support.blob_backends import Backend, md5, sha256

CONTENT = random.Random(5).randbytes(400_000)
KEY = md5(CONTENT)
HARMED = {
    "flipped": CONTENT[:-1] + bytes([CONTENT[-1] ^ 1]),
    "truncated": CONTENT[:-1],
    "zeroed": bytes(len(CONTENT)),
    "emptied": b"",
}


def told(backend: Backend) -> list[tuple[str, str, str]]:
    losses, _ = Losses(backend.database).oldest()
    return [(loss.hash, loss.reason, loss.found_by) for loss in losses]


@pytest.mark.parametrize("harm", HARMED)
def test_a_check_sets_a_bad_copy_aside_with_evidence_and_keeps_the_loss(
    backend: Backend, harm: str
) -> None:
    backend.put(CONTENT)
    backend.plant(KEY, HARMED[harm])

    assert backend.store.check(KEY, found_by="read").result is Check.BAD

    assert list(backend.quarantined().values()) == [HARMED[harm]]
    (evidence,) = backend.evidence()
    assert evidence["expected"] == {"md5": KEY, "sha256": sha256(CONTENT), "size": len(CONTENT)}
    assert evidence["file"]["name"]
    assert told(backend) == [(KEY, "damaged", "read")]
    assert backend.planted(KEY) is None
    assert backend.rows() == []
    with pytest.raises(BlobNotFound):
        backend.store.open(KEY)
    assert backend.store.check(KEY, found_by="read").result is Check.UNKNOWN
    backend.reopen()
    assert told(backend) == [(KEY, "damaged", "read")]
    assert backend.holds() == (0, 0)


@pytest.mark.parametrize("harm", ["truncated", "emptied"])
def test_a_copy_of_another_size_is_never_opened(backend: Backend, harm: str) -> None:
    backend.put(CONTENT)
    backend.plant(KEY, HARMED[harm])

    with pytest.raises(BlobDamaged):
        backend.store.open(KEY)


def test_a_good_copy_stays(backend: Backend) -> None:
    backend.put(CONTENT)

    assert backend.store.check(KEY, found_by="scrub").result is Check.GOOD

    assert backend.get(KEY) == CONTENT
    assert (backend.quarantined(), told(backend)) == ({}, [])


def test_a_copy_that_is_gone_is_a_loss_once(backend: Backend) -> None:
    backend.put(CONTENT)
    backend.plant(KEY, None)

    results = [backend.store.check(KEY, found_by="scrub").result for _ in range(2)]

    assert results == [Check.LOST, Check.UNKNOWN]
    assert told(backend) == [(KEY, "missing", "scrub")]
    assert backend.holds() == (0, 0)


def test_a_removal_is_no_loss(backend: Backend) -> None:
    backend.put(CONTENT)
    backend.store.delete(KEY, sha256=sha256(CONTENT))

    assert backend.store.check(KEY, found_by="read").result is Check.UNKNOWN
    assert told(backend) == []


def test_a_copy_that_is_replaced_while_it_is_read_is_not_set_aside(backend: Backend) -> None:
    backend.put(CONTENT)
    backend.plant(KEY, HARMED["flipped"])

    def read(blob_hash: str) -> Digests:
        found = backend.store.digests(blob_hash)
        backend.put(CONTENT)
        return found

    assert backend.store.check(KEY, found_by="read", read=read).result is Check.CHANGED
    assert backend.get(KEY) == CONTENT


def test_only_a_back_end_with_stamps_trusts_what_it_does_not_read(backend: Backend) -> None:
    backend.put(CONTENT)
    with closing(backend.store.open(KEY)) as reader:
        is_trusted = backend.store.is_verified(KEY, reader, max_age=60)
        assert not backend.store.is_verified(KEY, reader, max_age=0)

    assert is_trusted == backend.store.has_stamps
    assert is_trusted == bool(reader.stamp)
