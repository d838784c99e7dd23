import json
from typing import Any

import pytest
from django.test import AsyncClient, Client

from master_app import selectors
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


def test_an_unverified_record_shows_its_claim(client: Client) -> None:
    Blob.objects.all().delete()
    body = {"hash": "test123", "name": "t", "size": 1, "replicas": ["9999"]}
    client.post("/register", json.dumps(body), content_type="application/json")
    found = client.get("/get", {"hash": "test123"}).json()
    assert (found["replicas"], found["verified"], found["sha256"]) == (["9999"], False, None)
