"""Registrations that wait on disk for the master."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from node_app.database import NodeDatabase
from node_app.outbox import BATCH, Outbox
from tests.support.registrations import registration


def refusals(database: NodeDatabase) -> list[tuple[str, str]]:
    """Return name and reason of what is kept as refused."""
    rows = database.read("SELECT registration, reason FROM refused ORDER BY registration")
    return [(json.loads(text)["name"], reason) for text, reason in rows]


@pytest.fixture
def database(tmp_path: Path) -> Iterator[NodeDatabase]:
    opened = NodeDatabase(tmp_path / "node.sqlite3")
    yield opened
    opened.close()


def test_registrations_come_out_whole_and_in_the_order_they_went_in(
    database: NodeDatabase,
) -> None:
    outbox = Outbox(database)
    registrations = [registration(number) for number in range(10)]

    outbox.add(registrations[:4])
    outbox.add(registrations[4:])

    waiting, _ = outbox.oldest()
    assert waiting == registrations
    assert len(outbox) == 10


def test_an_empty_outbox_has_nothing_to_say(database: NodeDatabase) -> None:
    outbox = Outbox(database)

    outbox.add([])

    assert outbox.oldest() == ([], 0)
    assert len(outbox) == 0


def test_only_what_was_delivered_is_forgotten(database: NodeDatabase) -> None:
    outbox = Outbox(database)
    registrations = [registration(number) for number in range(BATCH + 5)]
    outbox.add(registrations)

    batch, last_id = outbox.oldest()
    outbox.add([registration(9999)])
    outbox.remove_up_to(last_id)

    assert batch == registrations[:BATCH]
    rest, _ = outbox.oldest()
    assert rest == [*registrations[BATCH:], registration(9999)]


def test_registrations_survive_a_restart(tmp_path: Path) -> None:
    first = NodeDatabase(tmp_path / "node.sqlite3")
    Outbox(first).add([registration(1), registration(2)])
    first.close()

    second = NodeDatabase(tmp_path / "node.sqlite3")
    waiting, _ = Outbox(second).oldest()
    second.close()

    assert waiting == [registration(1), registration(2)]


def test_ids_are_not_used_again_so_that_nothing_new_is_forgotten_with_the_old(
    database: NodeDatabase,
) -> None:
    outbox = Outbox(database)
    outbox.add([registration(1)])
    _, last_id = outbox.oldest()
    outbox.remove_up_to(last_id)

    outbox.add([registration(2)])
    outbox.remove_up_to(last_id)

    assert len(outbox) == 1


def test_what_is_refused_is_kept_with_the_reason_once(database: NodeDatabase) -> None:
    outbox = Outbox(database)

    outbox.refuse([(registration(1), "a collision"), (registration(2), "no such name")])
    outbox.refuse([(registration(1), "another reason")])
    outbox.refuse([])

    assert outbox.refused_count() == 2
    assert len(outbox) == 0
    assert refusals(database) == [
        (registration(1).name, "a collision"),
        (registration(2).name, "no such name"),
    ]


def test_a_database_from_before_there_were_refusals_takes_them(tmp_path: Path) -> None:
    old = NodeDatabase(tmp_path / "node.sqlite3")
    old.write("DROP TABLE refused", ()).result()
    old.close()

    new = NodeDatabase(tmp_path / "node.sqlite3")
    Outbox(new).refuse([(registration(1), "a reason")])
    assert Outbox(new).refused_count() == 1
    new.close()
