"""The master's `/health`: 503 as soon as its database cannot be read, or cannot be written."""

import shutil
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from time import monotonic
from types import SimpleNamespace
from typing import Any

import pytest
from django.db import OperationalError, connection
from django.test import Client

from master_app import database_check
from master_app.database_check import LOCK_SECONDS, RESERVED_BYTES, check_database
from master_app.models import Node
from mini_dropbox import shared_check
from tests.support.scraping import Scrape

pytestmark = pytest.mark.django_db(transaction=True)

JSON = {"Accept": "application/json"}


def health(client: Client) -> tuple[int, Any]:
    """Return what is found out now, however short ago it was asked before."""
    check_database._ended = None
    answer = client.get("/health", headers=JSON)
    return answer.status_code, answer.json()


def assert_well(client: Client) -> None:
    status, body = health(client)
    assert (status, body["status"]) == (200, "ok")


@contextmanager
def another_connection() -> Iterator[sqlite3.Connection]:
    name = connection.settings_dict["NAME"]
    with closing(sqlite3.connect(name, isolation_level=None)) as other:
        yield other


def test_a_database_that_is_locked_for_long(client: Client) -> None:
    with another_connection() as other:
        other.execute("BEGIN IMMEDIATE")
        began = monotonic()
        status, body = health(client)
        took = monotonic() - began
        # Text for people says the same.
        assert client.get("/health").content.decode() == body["detail"]
        other.execute("ROLLBACK")

    assert (status, body["code"]) == (503, "database_locked")
    assert body["detail"].startswith("The database has been locked for 2 seconds")
    assert LOCK_SECONDS * 0.9 < took < LOCK_SECONDS + 3
    assert_well(client)


def test_a_lock_that_passes_is_waited_for(client: Client) -> None:
    with another_connection() as other:
        other.execute("BEGIN IMMEDIATE")
        status: list[int] = []
        thread = threading.Thread(target=lambda: status.append(health(client)[0]))
        thread.start()
        thread.join(0.3)
        assert thread.is_alive()
        other.execute("ROLLBACK")
        thread.join(10)
    assert status == [200]


def test_a_database_that_can_only_be_read(client: Client) -> None:
    with connection.cursor() as cursor:
        cursor.execute("PRAGMA query_only = 1")
    try:
        status, body = health(client)
    finally:
        with connection.cursor() as cursor:
            cursor.execute("PRAGMA query_only = 0")

    assert (status, body["code"]) == (503, "database_read_only")
    assert "cannot be written" in body["detail"]
    assert_well(client)


def test_a_full_disk(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patched:
        patched.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=RESERVED_BYTES - 1))
        status, body = health(client)
    assert (status, body["code"]) == (503, "database_full")
    assert_well(client)


@pytest.mark.parametrize("kind", ["full", "read_only", "failed"])
def test_a_write_that_fails(
    client: Client,
    kind: str,
    failing_database: dict[str, OperationalError],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fail() -> None:
        raise failing_database[kind]

    with monkeypatch.context() as patched:
        patched.setattr(database_check, "_write", fail)
        status, body = health(client)
    assert (status, body["code"]) == (503, f"database_{kind}")
    assert_well(client)


def test_a_database_that_cannot_be_read(
    client: Client,
    failing_database: dict[str, OperationalError],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fail() -> None:
        raise failing_database["failed"]

    with monkeypatch.context() as patched:
        patched.setattr(Node.objects, "exists", fail)
        status, body = health(client)
    assert (status, body["code"]) == (503, "database_failed")
    assert "cannot be read" in body["detail"]
    assert_well(client)


def test_many_who_ask_cost_one_write(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    written: list[int] = []
    monkeypatch.setattr(database_check, "_write", lambda: written.append(1))
    monkeypatch.setattr(shared_check, "monotonic", lambda: 1000.0)
    check_database._ended = None
    for _ in range(20):
        assert client.get("/health").status_code == 200
    assert len(written) == 1


def test_a_check_leaves_the_usual_patience_behind(client: Client) -> None:
    with connection.cursor() as cursor:
        cursor.execute("PRAGMA busy_timeout")
        before = cursor.fetchone()
        assert_well(client)
        cursor.execute("PRAGMA busy_timeout")
        assert cursor.fetchone() == before


def test_the_metrics_say_so_as_well(client: Client) -> None:
    check_database._ended = None
    assert Scrape.of(client.get("/metrics").content.decode()).get("database_usable") == 1
    with another_connection() as other:
        other.execute("BEGIN IMMEDIATE")
        check_database._ended = None
        seen = Scrape.of(client.get("/metrics").content.decode())
        other.execute("ROLLBACK")
    assert seen.get("database_usable") == 0
    assert seen.has("cluster_files")
