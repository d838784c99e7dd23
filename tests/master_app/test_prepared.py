import gc
import threading
import weakref

import pytest
from django.db import connections
from django.db.backends.base.base import BaseDatabaseWrapper

from master_app.models import Node
from master_app.prepared import PreparedQuery
from tests.support.records import add_node

NODES = PreparedQuery(
    lambda node_ids: Node.objects.filter(node_id__in=node_ids).order_by("pk").values_list("node_id")
)


@pytest.mark.django_db
def test_a_query_is_made_once_for_each_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    add_node("8001")
    assert NODES.rows("8001") == [("8001",)]
    monkeypatch.delattr(PreparedQuery, "_compile")
    assert NODES.rows("8001") == [("8001",)]
    assert NODES.rows("8002") == []


@pytest.mark.django_db(transaction=True)
def test_the_connections_of_threads_that_ended_are_let_go() -> None:
    wrappers: list[weakref.ref[BaseDatabaseWrapper]] = []
    found: list[object] = []

    def ask() -> None:
        try:
            found.append(NODES.rows("8001", "8002"))
            wrappers.append(weakref.ref(connections["default"]))
        finally:
            connections.close_all()

    for _ in range(3):
        thread = threading.Thread(target=ask)
        thread.start()
        thread.join()
    gc.collect()
    assert found == [[], [], []]
    assert [wrapper() for wrapper in wrappers] == [None, None, None]
