"""What every back end of the blob store promises."""

import random
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import pytest

from node_app.blobwriter import MEMORY_BYTES
from node_app.errors import BlobNotFound, HashCollision
from tests.support.blob_backends import Backend, md5, sha256
from tests.support.md5_collision import COLLIDING_MD5, colliding_pair

Damage = Callable[[bytes], bytes]
NEVER_STORED = "0" * 32
SIZES = [0, 1, MEMORY_BYTES - 1, MEMORY_BYTES, MEMORY_BYTES + 1, 9 * 1024 * 1024 + 17]


def content_of(size: int, seed: int = 1) -> bytes:
    return random.Random(seed).randbytes(size)


def flipped(content: bytes) -> bytes:
    middle = len(content) // 2
    return content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :]


@pytest.mark.parametrize("size", SIZES)
def test_what_is_stored_is_read_back_with_its_digests(backend: Backend, size: int) -> None:
    content = content_of(size)

    was_there = backend.put(content, "some name.txt")

    assert not was_there
    assert backend.get(md5(content)) == content
    record = backend.store.record(md5(content))
    assert record is not None
    assert (record.hash, record.sha256, record.size) == (md5(content), sha256(content), size)
    assert (record.name, record.content_type) == ("some name.txt", "text/plain")
    assert backend.store.verify(md5(content), sha256(content))
    assert backend.planted(md5(content)) == content


@pytest.mark.parametrize("size", [0, 1000, MEMORY_BYTES + 1])
def test_the_same_bytes_are_kept_once(backend: Backend, size: int) -> None:
    content = content_of(size)
    backend.put(content, "first name")

    was_there = backend.put(content, "second name")

    assert was_there
    assert backend.blobs() == backend.rows() == [md5(content)]
    assert backend.holds() == (1, size)


@pytest.mark.parametrize("size", [1000, MEMORY_BYTES + 1000])
@pytest.mark.parametrize(
    "damage",
    [flipped, lambda c: c[:-1], lambda _: b"", lambda c: c + b"x", lambda c: bytes(len(c))],
    ids=["bit flipped", "truncated", "emptied", "too long", "zeroed"],
)
def test_a_damaged_blob_is_set_aside_and_replaced_by_the_next_upload(
    backend: Backend, size: int, damage: Damage
) -> None:
    content = content_of(size)
    backend.put(content)
    damaged = damage(content)
    backend.plant(md5(content), damaged)

    was_there = backend.put(content)

    assert not was_there
    assert backend.get(md5(content)) == content
    assert backend.planted(md5(content)) == content
    assert backend.rows() == [md5(content)]
    assert backend.holds() == (1, size)
    ((name, evidence),) = backend.quarantined().items()
    assert name.startswith(md5(content) + ".")
    assert evidence == damaged


def test_a_blob_whose_bytes_are_gone_is_stored_anew(backend: Backend) -> None:
    content = content_of(2000)
    backend.put(content)
    backend.plant(md5(content), None)

    was_there = backend.put(content)

    assert not was_there
    assert backend.get(md5(content)) == content
    assert backend.holds() == (1, 2000)


def test_a_blob_that_is_stored_anew_takes_what_it_takes_now(backend: Backend) -> None:
    content = b"a text that gains by compression " * 1000
    backend.put(content)
    backend.plant(md5(content), None)
    backend.put(content)

    record = backend.store.record(md5(content))

    assert record is not None
    stands = sum(path.stat().st_size for path in backend.folder.glob("blobs/*/*/*"))
    if stands:  # Other back ends keep theirs elsewhere, always plain.
        assert record.size - record.saved == stands


@pytest.mark.parametrize("size", [128, MEMORY_BYTES + 128])
def test_of_two_contents_with_one_md5_the_first_stays(backend: Backend, size: int) -> None:
    first, second = colliding_pair(size)
    backend.put(first)

    with pytest.raises(HashCollision):
        backend.put(second)

    assert backend.get(md5(first)) == first
    assert backend.store.verify(md5(first), sha256(first))
    assert not backend.store.verify(md5(first), sha256(second))
    assert backend.quarantined() == {}
    assert backend.holds() == (1, size)


def test_a_collision_is_refused_also_while_the_first_content_is_gone(backend: Backend) -> None:
    first, second = colliding_pair()
    backend.put(first)
    backend.plant(COLLIDING_MD5, None)

    with pytest.raises(HashCollision):
        backend.put(second)

    assert backend.planted(COLLIDING_MD5) is None
    assert not backend.put(first)
    assert backend.get(COLLIDING_MD5) == first


def test_a_collision_is_refused_also_while_the_first_content_is_damaged(backend: Backend) -> None:
    first, second = colliding_pair()
    backend.put(first)
    backend.plant(COLLIDING_MD5, b"rubbish")

    with pytest.raises(HashCollision):
        backend.put(second)

    assert not backend.put(first)
    assert backend.get(COLLIDING_MD5) == first


def test_a_collision_planted_in_place_of_a_known_content_counts_as_damage(
    backend: Backend,
) -> None:
    first, second = colliding_pair()
    backend.put(first)
    backend.plant(COLLIDING_MD5, second)

    assert not backend.store.verify(COLLIDING_MD5, sha256(first))
    assert not backend.put(first)

    assert backend.get(COLLIDING_MD5) == first
    assert list(backend.quarantined().values()) == [second]


def test_a_collision_with_a_leftover_that_nobody_verified_is_refused(backend: Backend) -> None:
    first, second = colliding_pair()
    backend.plant(COLLIDING_MD5, first)

    with pytest.raises(HashCollision):
        backend.put(second)

    assert backend.planted(COLLIDING_MD5) == first
    assert backend.rows() == []


def test_only_the_content_with_the_stated_sha256_is_deleted(backend: Backend) -> None:
    content = content_of(3000)
    backend.put(content)

    assert not backend.store.delete(md5(content), sha256=sha256(b"another"))
    assert backend.get(md5(content)) == content

    assert backend.store.delete(md5(content), sha256=sha256(content))
    assert backend.planted(md5(content)) is None
    assert backend.store.record(md5(content)) is None
    assert backend.holds() == (0, 0)
    with pytest.raises(BlobNotFound):
        backend.store.open(md5(content))


def test_a_delete_that_was_cut_off_can_be_repeated(backend: Backend) -> None:
    content = content_of(10)
    backend.put(content)
    backend.plant(md5(content), None)

    assert backend.store.delete(md5(content), sha256=sha256(content))

    assert backend.rows() == []
    assert not backend.store.delete(md5(content), sha256=sha256(content))


def test_what_was_deleted_can_be_stored_again(backend: Backend) -> None:
    content = content_of(10)
    backend.put(content)
    backend.store.delete(md5(content), sha256=sha256(content))

    assert not backend.put(content)

    assert backend.get(md5(content)) == content


def test_an_unknown_blob_is_not_there(backend: Backend) -> None:
    with pytest.raises(BlobNotFound):
        backend.store.open(NEVER_STORED)
    assert backend.store.record(NEVER_STORED) is None
    assert not backend.store.verify(NEVER_STORED, sha256(b""))
    assert not backend.store.delete(NEVER_STORED, sha256=sha256(b""))


@pytest.mark.parametrize("damage", [flipped, lambda c: c[:-1]], ids=["bit flipped", "truncated"])
def test_verify_reads_the_bytes(backend: Backend, damage: Damage) -> None:
    content = content_of(MEMORY_BYTES + 5)
    backend.put(content)
    assert backend.store.verify(md5(content), sha256(content))
    assert not backend.store.verify(md5(content), sha256(b"another"))

    backend.plant(md5(content), damage(content))

    assert not backend.store.verify(md5(content), sha256(content))


def test_a_leftover_without_a_row_is_adopted_once_its_bytes_were_compared(
    backend: Backend,
) -> None:
    content = content_of(5000)
    backend.plant(md5(content), content)
    assert backend.store.record(md5(content)) is None

    was_there = backend.put(content)

    assert was_there
    assert backend.rows() == [md5(content)]
    assert backend.get(md5(content)) == content
    assert backend.holds() == (1, 5000)


def test_a_torn_leftover_without_a_row_is_set_aside(backend: Backend) -> None:
    content = content_of(5000)
    backend.plant(md5(content), content[:4096])

    assert not backend.put(content)

    assert backend.get(md5(content)) == content
    assert list(backend.quarantined().values()) == [content[:4096]]


@pytest.mark.parametrize("size", [10, MEMORY_BYTES + 10])
def test_a_writer_that_is_not_committed_leaves_nothing_behind(backend: Backend, size: int) -> None:
    content = content_of(size)

    with backend.store.writer() as writer:
        writer.write(content)

    assert backend.temporary_files() == []
    assert backend.blobs() == backend.rows() == []


@pytest.mark.parametrize("size", [10, MEMORY_BYTES + 10])
def test_a_commit_leaves_no_temporary_file_whether_new_or_known(
    backend: Backend, size: int
) -> None:
    for _ in range(2):
        backend.put(content_of(size))

    assert backend.temporary_files() == []


def test_what_an_ended_process_had_under_way_is_removed_at_the_next_start(
    backend: Backend,
) -> None:
    writer = backend.store.writer()
    writer.write(content_of(MEMORY_BYTES + 1))
    assert len(backend.temporary_files()) == 1

    backend.reopen()

    assert backend.temporary_files() == []
    writer.close()


def test_blobs_and_totals_survive_a_restart(backend: Backend) -> None:
    contents = [content_of(size, seed=size) for size in (0, 10, 2000)]
    for content in contents:
        backend.put(content)
    backend.store.delete(md5(contents[1]), sha256=sha256(contents[1]))

    backend.reopen()

    assert backend.holds() == (2, 2000)
    assert backend.get(md5(contents[0])) == contents[0]
    assert backend.get(md5(contents[2])) == contents[2]
    assert backend.put(contents[2])


@pytest.mark.parametrize("size", [100, MEMORY_BYTES + 100])
def test_sixteen_uploads_of_one_content_at_once_end_with_one_blob(
    backend: Backend, size: int
) -> None:
    content = content_of(size)
    together = Barrier(16)

    def upload() -> bool:
        with backend.store.writer() as writer:
            writer.write(content)
            together.wait()
            return backend.store.commit(writer, name="name", content_type="")

    with ThreadPoolExecutor(16) as threads:
        futures = [threads.submit(upload) for _ in range(16)]
        were_there = [future.result() for future in futures]

    assert sorted(were_there) == [False] + [True] * 15
    assert backend.blobs() == backend.rows() == [md5(content)]
    assert backend.holds() == (1, size)
    assert backend.get(md5(content)) == content


def test_many_contents_at_once_are_all_kept(backend: Backend) -> None:
    contents = [content_of(500 + number, seed=number) for number in range(32)]

    with ThreadPoolExecutor(16) as threads:
        were_there = list(threads.map(backend.put, contents))

    assert not any(were_there)
    assert backend.rows() == sorted(map(md5, contents))
    assert all(backend.get(md5(content)) == content for content in contents)
    assert backend.holds() == (32, sum(map(len, contents)))


def test_a_blob_can_be_read_at_any_offset(backend: Backend) -> None:
    content = content_of(3 * 1024 * 1024 + 7)
    backend.put(content)
    size = len(content)
    reader = backend.store.open(md5(content))

    assert reader.size == size
    for offset, length in [
        (0, 1),
        (size - 1, 1),
        (size - 1, 1000),
        (size, 10),
        (size + 10, 10),
        (12345, 0),
        (1, 70_001),
        (70_002, 70_001),
        (99_991, 1_048_577),
        (5, 3),
        (0, size),
        (0, size + 1),
    ]:
        assert reader.read_at(offset, length) == content[offset : offset + length]
    reader.close()


def test_one_blob_is_read_by_many_threads_at_once(backend: Backend) -> None:
    content = content_of(1024 * 1024)
    backend.put(content)
    shared, own = backend.store.open(md5(content)), backend.store.open(md5(content))
    offsets = [random.Random(7).randrange(len(content)) for _ in range(40)]

    def read(offset: int) -> bool:
        readers = (shared, own) if offset % 2 else (own, shared)
        return all(
            reader.read_at(offset, 9999) == content[offset : offset + 9999] for reader in readers
        )

    with ThreadPoolExecutor(8) as threads:
        assert all(threads.map(read, offsets))
    shared.close()
    own.close()


def test_what_a_writer_took_can_be_read_back_before_and_after_the_commit(
    backend: Backend,
) -> None:
    for content in (content_of(1000), content_of(MEMORY_BYTES + 1000)):
        with backend.store.writer() as writer:
            writer.write(content)
            assert writer.read_at(500, 100) == content[500:600]
            backend.store.commit(writer, name="name", content_type="")
            assert writer.read_at(0, len(content)) == content


def test_a_probe_is_stored_and_leaves_nothing(backend: Backend) -> None:
    backend.store.probe()

    assert backend.temporary_files() == []
    assert backend.blobs() == backend.rows() == []
    assert backend.holds() == (0, 0)
