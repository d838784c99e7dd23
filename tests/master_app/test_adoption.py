"""What becomes of the books when nodes say what they have: adopted once, and never resurrected."""

import hashlib
import io
import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from threading import Event
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.utils import timezone

from master_app import derived, node_client
from master_app.adoption import services
from master_app.adoption.loop import adopt_due
from master_app.adoption.services import ALL_TIME, Adopted, Gap, holdings_adopt
from master_app.collection.selectors import obstacle
from master_app.collection.services import blobs_bury, files_delete
from master_app.membership import cluster_id
from master_app.models import Blob, Cluster, File, Node, RepairTask, Replica, Tombstone
from master_app.services import file_register
from mini_dropbox.wire import Holding
from tests.support.inventory_server import InventoryServer, serve_inventory
from tests.support.records import add_file, add_node

pytestmark = pytest.mark.django_db

STORED_AT = datetime(2026, 1, 1, tzinfo=UTC).timestamp()
CLUSTER, STORE = "c" * 32, "a" * 32


def holding(name: str, content: bytes | None = None, **values: Any) -> Holding:
    body = name.encode() if content is None else content
    defaults: dict[str, Any] = {
        "hash": hashlib.md5(body, usedforsecurity=False).hexdigest(),
        "sha256": hashlib.sha256(body).hexdigest(),
        "size": len(body),
        "name": name,
        "content_type": "text/plain",
        "stored_at": STORED_AT,
    }
    return Holding(**{**defaults, **values})


def adopt(
    node: Node, *holdings: Holding, adopts_blobs: bool = True, gap: Gap | None = None
) -> Adopted:
    return holdings_adopt(node=node.pk, holdings=holdings, adopts_blobs=adopts_blobs, gap=gap)[0]


def names() -> set[str]:
    return set(File.objects.values_list("name", flat=True))


def test_unknown_blobs_are_adopted_with_name_time_and_copy_and_once() -> None:
    nodes = [add_node("8001"), add_node("8002")]
    held = [holding("a.txt"), holding("b.txt")]

    assert adopt(nodes[0], *held) == Adopted(blobs=2, bytes=10, files=2, copies=2)
    assert adopt(nodes[0], *held) == Adopted()
    assert adopt(nodes[1], *held) == Adopted(copies=2)

    file = File.objects.select_related("blob").get(name="a.txt")
    assert (file.content_type, file.created_at.timestamp()) == ("text/plain", STORED_AT)
    assert (file.blob.verified, file.replica_node_ids()) == (True, ["8001", "8002"])
    assert derived.totals() == derived.count_anew()
    assert derived.names_are_indexed()


def test_further_names_are_those_of_fresh_blobs_or_of_the_time_that_is_lacking() -> None:
    node = add_node("8001")
    adopt(node, holding("a.txt"))
    again = holding("again.txt", b"a.txt")

    def take(fresh: set[str], gap: Gap | None) -> int:
        adopted, _ = holdings_adopt(
            node=node.pk, holdings=[again], adopts_blobs=True, gap=gap, fresh=fresh
        )
        return adopted.files

    assert take(set(), None) == 0
    assert take(set(), Gap(0, STORED_AT - 3600)) == 0
    assert take({holding("other.txt").hash}, None) == 0
    assert names() == {"a.txt"}
    assert take(set(), Gap(STORED_AT + 60, STORED_AT + 3600)) == 1, "clocks differ a little"
    assert take({again.hash}, ALL_TIME) == 0
    File.objects.filter(name="again.txt").delete()
    assert take({again.hash}, None) == 1


def test_a_deleted_name_of_a_known_blob_does_not_come_back() -> None:
    node = add_node("8001")
    add_file("kept.txt", b"content", replicas=("8001",))

    adopted = adopt(node, holding("deleted.txt", b"content"))

    assert adopted == Adopted()
    assert names() == {"kept.txt"}


def test_books_that_were_never_lost_note_the_copies_of_known_blobs_alone() -> None:
    node = add_node("8001")
    add_file("a.txt", replicas=())

    assert adopt(node, holding("a.txt"), holding("b.txt"), adopts_blobs=False) == Adopted(copies=1)
    assert names() == {"a.txt"}


def test_what_a_client_announced_is_confirmed() -> None:
    node = add_node("8001")
    held = holding("a.txt")
    file_register(blob_hash=held.hash, name="a.txt", size=1, replicas=["9999"])

    assert adopt(node, held, adopts_blobs=False) == Adopted()
    assert adopt(node, held) == Adopted(blobs=1, bytes=5, copies=1)
    blob = Blob.objects.get()
    assert (blob.verified, blob.size, blob.claimed_replicas) == (True, 5, [])


def test_another_content_under_one_address_is_left_alone() -> None:
    node = add_node("8001")
    add_file("a.txt", replicas=())
    other = holding("other.txt", b"a.txt", sha256="f" * 64)

    assert adopt(node, other, gap=ALL_TIME) == Adopted(conflicts=1)
    assert (names(), Replica.objects.count()) == ({"a.txt"}, 0)


def delete(name: str) -> None:
    files_delete(keys=File.objects.filter(name=name).values_list("pk", flat=True))


def bury_all() -> None:
    assert blobs_bury(keys=Blob.objects.values_list("pk", flat=True))


def test_what_was_deleted_does_not_come_back_unless_it_was_uploaded_again() -> None:
    node = add_node("8001")
    later = timezone.now().timestamp() + 1000
    for name in ("gone.txt", "new name.txt", "same name.txt"):
        add_file(name, replicas=("8001",))
        delete(name)
    bury_all()

    assert adopt(node, holding("gone.txt"), gap=ALL_TIME) == Adopted()
    assert Tombstone.objects.count() == 3
    old = holding("new name.txt")
    again = holding("another.txt", b"new name.txt", stored_at=later)
    assert adopt(node, old, gap=ALL_TIME) == Adopted()
    assert adopt(node, again, gap=None) == Adopted(blobs=1, bytes=12, files=1, copies=1)
    same = holding("same name.txt", stored_at=later)
    assert adopt(node, same) == Adopted(blobs=1, bytes=13, files=1, copies=1)
    assert names() == {"another.txt", "same name.txt"}
    assert list(Tombstone.objects.values_list("hash", flat=True)) == [holding("gone.txt").hash]


def test_a_deleted_file_that_came_again_in_the_gap_is_kept() -> None:
    node = add_node("8001")
    add_file("a.txt", replicas=("8001",))
    delete("a.txt")
    gap = Gap(STORED_AT + 1000, STORED_AT + 2000)

    adopt(node, holding("a.txt"), gap=gap)
    assert Blob.objects.get().unreferenced_at is not None
    adopt(node, holding("a.txt", stored_at=STORED_AT + 1500), gap=gap)

    assert Blob.objects.get().unreferenced_at is None
    assert names() == {"a.txt"}


def test_nothing_is_removed_while_a_node_may_have_what_is_not_on_record() -> None:
    add_node("8001", outbox_count=0, inventory_due=True)

    assert obstacle() == "node 8001 may have uploads that are not on record"

    Node.objects.update(inventory_due=False)
    assert obstacle() == ""


def test_books_know_of_which_time_they_lack_uploads() -> None:
    assert services.gap() is None
    cluster_id()
    assert services.gap() is None
    now = timezone.now()
    Cluster.objects.update(restored_at=now, known_until=now - timedelta(hours=1))

    gap = services.gap()

    assert gap == Gap(now.timestamp() - 3600, now.timestamp())
    assert [gap.has(gap.begin + offset) for offset in (-400, -200, 1800, 3800, 4100)] == [
        False, True, True, True, False,
    ]  # fmt: skip


def test_new_books_of_an_old_cluster_lack_all_before() -> None:
    assert cluster_id(of_first=CLUSTER) == CLUSTER
    gap = services.gap()
    assert gap is not None
    assert gap.has(0)
    assert gap.has(STORED_AT)


@pytest.fixture(autouse=True)
def same_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ask with short pages, so that a few blobs make several."""
    inventory, further_names = node_client.inventory, node_client.further_names
    short = {"inventory": inventory, "further_names": further_names}
    for name, function in short.items():
        monkeypatch.setattr(
            node_client, name, lambda function=function, **options: function(**options, limit=2)
        )


@contextmanager
def node_server(
    *holdings: Holding, further: tuple[Holding, ...] = (), node_id: str = "8001", store: str = STORE
) -> Iterator[InventoryServer]:
    with serve_inventory(node_id=node_id, store_id=store, cluster_id=CLUSTER) as server:
        server.holdings.extend(holdings)
        server.further.extend(further)
        yield server


def rebuild(*urls: str, **options: Any) -> str:
    said = io.StringIO()
    call_command("rebuild_metadata", node=list(urls), stdout=said, **options)
    return said.getvalue()


def test_books_are_rebuilt_from_nodes_alone_with_all_names_and_again_changes_nothing() -> None:
    held = [holding(f"{number}.txt") for number in range(7)]
    further = tuple(
        holding(f"{number} again {again}.txt", f"{number}.txt".encode())
        for number in range(7)
        for again in range(3)
    )
    with (
        node_server(*held[:5], further=further[:15]) as one,
        node_server(*held[3:], further=further[9:], node_id="8002", store="b" * 32) as other,
    ):
        said = rebuild(one.url, other.url)

        assert "Adopted from 2 nodes: 7 blobs (35 bytes), 28 files, 9 copies." in said
        assert "Known before: 0 blobs." in said
        assert "Missing: 0 blobs" in said
        assert names() == {each.name for each in (*held, *further)}
        assert cluster_id() == CLUSTER
        again = rebuild(one.url)
        assert "Adopted from 2 nodes: 0 blobs (0 bytes), 0 files, 0 copies." in again
        assert "Known before: 7 blobs." in again


def test_a_terminal_shows_how_far_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = io.StringIO()
    monkeypatch.setattr(terminal, "isatty", lambda: True)
    monkeypatch.setattr(sys, "stderr", terminal)
    with node_server(*(holding(f"{number}.txt") for number in range(3))) as server:
        call_command("rebuild_metadata", node=[server.url], stdout=io.StringIO(), stderr=terminal)

    last = terminal.getvalue().rpartition("\r")[2]
    assert last.startswith("node 8001: 100%")
    assert "3/3" in last


def test_what_no_node_has_is_reported_and_kept(tmp_path: Path) -> None:
    with node_server(holding("here.txt")) as server:
        node = add_node("8001", url=server.url, store_id=STORE)
        add_node("8002", url="http://127.0.0.1:1", silent_seconds=1000)
        add_file("here.txt", replicas=("8001",))
        add_file("gone.txt", replicas=("8001",))
        add_file("away.txt", replicas=("8001", "8002"))
        add_file("only away.txt", replicas=("8002",))
        Cluster.objects.create(cluster_id=CLUSTER, created_at=timezone.now())
        said = io.StringIO()

        with pytest.raises(CommandError, match="Not every node has been read whole"):
            call_command("rebuild_metadata", missing=tmp_path / "missing.txt", stdout=said)

    lines = [json.loads(line) for line in (tmp_path / "missing.txt").read_text().splitlines()]
    assert {line["name"]: line["away"] for line in lines} == {
        "gone.txt": [],
        "away.txt": ["8002"],
        "only away.txt": ["8002"],
    }
    assert "'away.txt', but 8002 may" in said.getvalue()
    assert "Missing: 3 blobs" in said.getvalue()
    assert "Not asked: http://127.0.0.1:1" in said.getvalue()
    assert (Blob.objects.count(), File.objects.count()) == (4, 4)
    # A node's own word counts against the record of its copies.
    assert Replica.objects.filter(node=node).count() == 1
    assert set(RepairTask.objects.values_list("blob__files__name", flat=True)) >= {
        "gone.txt",
        "away.txt",
    }


def test_a_node_of_another_cluster_is_not_read() -> None:
    Cluster.objects.create(cluster_id="d" * 32, created_at=timezone.now())
    with node_server(holding("a.txt")) as server, pytest.raises(CommandError):
        rebuild(server.url)
    assert not Node.objects.exists()
    assert not Blob.objects.exists()


def test_a_node_that_was_removed_is_not_read() -> None:
    with node_server(holding("a.txt")) as server:
        add_node("8001", url=server.url, store_id=STORE, mode="removed")
        Cluster.objects.create(cluster_id=CLUSTER, created_at=timezone.now())
        with pytest.raises(CommandError, match="name one with --node URL"):
            rebuild()
        with pytest.raises(CommandError, match="read whole"):
            rebuild(server.url)
    assert not Replica.objects.exists()


def test_without_any_node_it_says_what_to_do() -> None:
    with pytest.raises(CommandError, match="name one with --node URL"):
        rebuild()
    with pytest.raises(CommandError, match="is no node's address"):
        rebuild("8001")


def test_a_node_that_breaks_off_is_due_until_it_has_been_read_whole() -> None:
    held = [holding(f"{number}.txt") for number in range(6)]
    complaints: dict[str, str] = {}
    with node_server(*held) as server:
        add_node("8001", url=server.url, store_id=STORE, inventory_due=True)
        Cluster.objects.create(
            cluster_id=CLUSTER, created_at=timezone.now(), restored_at=timezone.now()
        )
        server.answers_left = 3
        adopt_due(complaints, Event())
        assert 0 < Blob.objects.count() < 6
        assert Node.objects.get().inventory_due
        assert list(complaints) == ["8001"]

        server.answers_left = None
        adopt_due(complaints, Event())

    assert not Node.objects.get().inventory_due
    assert names() == {each.name for each in held}
    assert complaints == {}


def test_a_disk_that_returns_brings_copies_back_and_no_files() -> None:
    with node_server(holding("known.txt"), holding("deleted long ago.txt")) as server:
        add_node("8001", url=server.url, store_id=STORE, inventory_due=True)
        Cluster.objects.create(cluster_id=CLUSTER, created_at=timezone.now())
        add_file("known.txt", replicas=())

        adopt_due({}, Event())

    assert File.objects.get().replica_node_ids() == ["8001"]
    assert not Node.objects.get().inventory_due
