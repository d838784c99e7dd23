import json
from typing import Any

import pytest
from asgiref.sync import async_to_sync
from django.test import AsyncClient, Client, RequestFactory

from master_app import selectors
from master_app.api.contract import ListView
from master_app.models import Blob
from tests.support.records import add_file, add_node

pytestmark = pytest.mark.django_db


def test_a_record_names_its_replicas_and_digests(client: Client) -> None:
    for node_id in ("8001", "8002"):
        add_node(node_id)
    file = add_file("report.pdf", content_type="application/pdf")
    found = client.get("/get", {"hash": file.blob.hash}).json()
    assert found == {
        "hash": file.blob.hash,
        "name": "report.pdf",
        "size": file.blob.size,
        "replicas": ["8001", "8002"],
        "verified": True,
        "sha256": file.blob.sha256,
        "content_type": "application/pdf",
        "created_at": file.created_at.isoformat(),
    }


def test_without_a_hash_the_answer_says_how_to_ask(client: Client) -> None:
    response = client.get("/get")
    assert response.status_code == 400
    assert response.json()["code"] == "missing_hash"


@pytest.mark.parametrize("value", ["unknown", "0" * 32, "../../etc/hostname", "a\0b", "x" * 999])
def test_what_nobody_registered_is_not_found(client: Client, value: str) -> None:
    response = client.get("/get", {"hash": value})
    assert response.status_code == 404
    assert response.json()["code"] == "unknown_hash"


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("count", [0, 1, 7])
async def test_the_list_is_one_array_of_all_files(
    async_client: AsyncClient, monkeypatch: pytest.MonkeyPatch, count: int
) -> None:
    monkeypatch.setattr(selectors, "LIST_PAGE_ROWS", 3)
    await _run(add_node, "8001")
    for number in range(count):
        await _run(add_file, f"file {number} ä.txt")
    response: Any = await async_client.get("/list")
    assert response["Content-Type"] == "application/json"
    body = b"".join([chunk async for chunk in response.streaming_content])
    assert [record["name"] for record in json.loads(body)] == [
        f"file {number} ä.txt" for number in range(count)
    ]


@pytest.mark.django_db(transaction=True)
async def test_the_list_reads_page_by_page(
    async_client: AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(selectors, "LIST_PAGE_ROWS", 2)
    for number in range(5):
        await _run(add_file, f"{number}")
    response: Any = await async_client.get("/list")
    chunks = [chunk async for chunk in response.streaming_content]
    assert [chunk.count(b'"name"') for chunk in chunks] == [2, 2, 1, 0]


async def _run(function: Any, *arguments: Any) -> Any:
    from asgiref.sync import sync_to_async  # noqa: PLC0415  only here is a loop in the way

    return await sync_to_async(function)(*arguments)


def body_of(response: Any) -> bytes:
    async def gathered() -> bytes:
        return b"".join([chunk async for chunk in response])

    return async_to_sync(gathered)()


def test_the_head_of_the_list_reads_no_files(django_assert_num_queries: Any) -> None:
    add_file("a.txt")
    request = RequestFactory()
    with django_assert_num_queries(0):
        # The tests' client would drop a body that the server had gathered for nothing.
        head = ListView.as_view()(request.head("/list"))
        assert body_of(head) == b""
    whole = ListView.as_view()(request.get("/list"))
    assert (head.status_code, head.headers) == (200, whole.headers)


def test_a_record_is_the_same_in_the_list_as_alone(client: Client) -> None:
    for node_id in ("8010", "8002", "8001"):
        add_node(node_id)
    add_file("whole.txt", content_type="text/plain", replicas=("8010", "8002"))
    add_file("lost.txt", replicas=())
    body = {"hash": "test123", "name": "t", "size": 1, "replicas": ["9999", "1"]}
    client.post("/register", json.dumps(body), content_type="application/json")
    listed = json.loads(body_of(client.get("/list")))
    assert [record["replicas"] for record in listed] == [["8002", "8010"], [], ["9999", "1"]]
    for record in listed:
        assert record == client.get("/get", {"hash": record["hash"]}).json()


def test_an_unverified_record_shows_its_claim(client: Client) -> None:
    Blob.objects.all().delete()
    body = {"hash": "test123", "name": "t", "size": 1, "replicas": ["9999"]}
    client.post("/register", json.dumps(body), content_type="application/json")
    found = client.get("/get", {"hash": "test123"}).json()
    assert (found["replicas"], found["verified"], found["sha256"]) == (["9999"], False, None)
