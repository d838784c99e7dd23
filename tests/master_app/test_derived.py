from typing import Any

import hypothesis
import pytest
from django.contrib.contenttypes.models import ContentType
from django.core import serializers
from django.core.management import call_command
from django.db import connection
from hypothesis import strategies as st

from master_app import derived
from master_app.models import Blob, File, Node, Replica
from master_app.name_search import files_named
from master_app.services import file_register, registrations_apply
from tests.support.records import add_file, add_node, registration

pytestmark = pytest.mark.django_db


def execute(*statements: str) -> None:
    with connection.cursor() as cursor:
        for statement in statements:
            cursor.execute(statement)


def check_index() -> None:
    """Let SQLite compare the index with the names; it raises where they differ."""
    execute(
        f"INSERT INTO {derived.NAMES} ({derived.NAMES}, rank) VALUES ('integrity-check', 1)"  # noqa: S608
    )


actions = st.one_of(
    st.tuples(st.just("register"), st.integers(0, 5), st.integers(0, 3)),
    st.tuples(st.just("announce"), st.integers(0, 5), st.integers(0, 3)),
    st.tuples(st.just("rename"), st.integers(0, 5), st.integers(0, 3)),
    st.tuples(st.just("delete file"), st.integers(0, 5), st.just(0)),
    st.tuples(st.just("delete blob"), st.integers(0, 5), st.just(0)),
    st.tuples(st.just("delete replica"), st.integers(0, 5), st.just(0)),
)


def act(action: str, blob: int, name: int) -> None:
    entry = registration(f"name {name}", f"content {blob}".encode() * (blob + 1))
    match action:
        case "register":
            registrations_apply(registrations=[entry])
        case "announce" if not Blob.objects.filter(hash=entry.hash, verified=True).exists():
            file_register(blob_hash=entry.hash, name=entry.name, size=99, replicas=[])
        case "rename":
            for file in File.objects.filter(blob__hash=entry.hash)[:1]:
                File.objects.filter(pk=file.pk).update(name=f"renamed {name} {file.pk}")
        case "delete file":
            File.objects.filter(blob__hash=entry.hash).delete()
        case "delete blob":
            Blob.objects.filter(hash=entry.hash).delete()
        case "delete replica":
            kept = Replica.objects.filter(blob__hash=entry.hash).values_list("pk", flat=True)
            Replica.objects.filter(pk__in=list(kept[:1])).delete()


@hypothesis.given(steps=st.lists(actions, max_size=25))
@hypothesis.settings(
    suppress_health_check=[hypothesis.HealthCheck.function_scoped_fixture], deadline=None
)
def test_totals_and_names_are_those_of_the_rows_whatever_happens(
    steps: list[tuple[str, int, int]],
) -> None:
    for node_id in ("8001", "8002"):
        if not Node.objects.filter(node_id=node_id).exists():
            add_node(node_id)
    for step in steps:
        act(*step)
    assert derived.totals() == derived.count_anew()
    for text in ("name", "renamed"):
        expected = set(File.objects.filter(name__icontains=text).values_list("pk", flat=True))
        assert set(files_named(File.objects.all(), [text]).values_list("pk", flat=True)) == expected
    for stale in (Replica, File, Blob):
        stale.objects.all().delete()


def test_a_verified_blob_counts_with_its_bytes_and_an_announced_one_without() -> None:
    add_node("8001")
    file_register(blob_hash="test123", name="a", size=7, replicas=[])
    add_file("b", b"12345", replicas=("8001",))
    assert derived.totals() == derived.Totals(
        files=2, blobs=2, verified_blobs=1, verified_bytes=5, replicas=1
    )


@pytest.mark.parametrize(
    "damage",
    [
        ("DROP TRIGGER master_app_file_in",),
        ("DROP TRIGGER master_app_file_name_out",),
        ("DROP TABLE master_app_totals",),
        ("DROP TABLE master_app_file_names",),
        ("CREATE TRIGGER master_app_old AFTER INSERT ON master_app_file BEGIN SELECT 1; END",),
    ],
    ids=str,
)
def test_what_is_missing_or_left_over_is_mended_after_a_migration(damage: tuple[str, ...]) -> None:
    add_file("before.txt")
    execute(*damage)
    derived.ensure(using="default")
    add_file("after.txt")
    assert derived.totals() == derived.count_anew()
    assert derived.names_are_indexed()
    assert files_named(File.objects.all(), [".txt"]).count() == 2


@pytest.mark.parametrize("inhibit_post_migrate", [True, False])
def test_after_a_flush_new_files_are_found_and_can_be_deleted(
    *, inhibit_post_migrate: bool
) -> None:
    for number in range(3):
        add_file(f"before {number}.txt")
    call_command("flush", interactive=False, inhibit_post_migrate=inhibit_post_migrate)
    ContentType.objects.clear_cache()
    assert [add_file(name).pk for name in ("one", "two")] == [1, 2], "numbers begin anew"
    assert derived.names_are_indexed()
    assert files_named(File.objects.all(), ["one"]).count() == 1
    File.objects.get(name="two").delete()
    assert not files_named(File.objects.all(), ["two"]).exists()
    add_file("four")
    assert files_named(File.objects.all(), ["four"]).count() == 1
    assert derived.totals() == derived.count_anew()
    check_index()


def test_a_file_that_is_loaded_under_an_old_number_is_found_and_can_be_deleted() -> None:
    files = [add_file(f"before {number}.txt") for number in range(3)]
    saved = serializers.serialize("json", files[:1])
    files[0].delete()
    for loaded in serializers.deserialize("json", saved):
        loaded.save()
    assert [file.name for file in files_named(File.objects.all(), ["before 0"])] == ["before 0.txt"]
    check_index()
    File.objects.get(name="before 0.txt").delete()
    assert not files_named(File.objects.all(), ["before 0"]).exists()
    check_index()


def test_what_is_whole_is_left_alone(django_assert_max_num_queries: Any) -> None:
    with django_assert_max_num_queries(5):
        derived.ensure(using="default")
