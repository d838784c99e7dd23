from typing import Any

import pytest
from django.test import Client

from tests.support.records import add_file, add_node

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def nodes() -> None:
    add_node("8001")
    add_node("8002", silent_seconds=3600)


def names(client: Client, **query: Any) -> list[str]:
    response = client.get("/api/v1/files/", query)
    assert response.status_code == 200, response.content
    return [file["name"] for file in response.json()["results"]]


def test_files_are_listed_newest_first_with_all_that_is_known(client: Client) -> None:
    add_file("a.txt", content_type="text/plain", uploaded_at=1_700_000_000)
    add_file("b & c.txt", uploaded_at=1_700_000_001)
    newest, oldest = client.get("/api/v1/files/").json()["results"]
    assert (newest["name"], oldest["name"]) == ("b & c.txt", "a.txt")
    assert newest["replicas"] == ["8001", "8002"]
    # The healthy one of two nodes serves, and the name survives in the link.
    assert newest["download_url"] == (
        f"http://127.0.0.1:8001/retrieve?hash={newest['hash']}&name=b+%26+c.txt"
    )


def test_pages_follow_a_cursor_and_miss_nothing(client: Client) -> None:
    for number in range(25):
        # Several files of one moment, so that the key has to tell them apart.
        add_file(f"{number}.txt", uploaded_at=1_700_000_000 + number // 5)
    found: list[str] = []
    address = "/api/v1/files/?page_size=4"
    while address:
        page = client.get(address).json()
        assert "count" not in page
        found += [file["name"] for file in page["results"]]
        address = page["next"]
    assert sorted(found) == sorted(f"{number}.txt" for number in range(25))


def test_files_can_be_filtered_and_searched(client: Client) -> None:
    add_file("small.txt", b"1", content_type="text/plain", replicas=("8001",))
    large = add_file("Large picture.png", b"2" * 100, content_type="image/png")
    assert names(client, search="PICTURE") == ["Large picture.png"]
    assert names(client, search=large.blob.hash) == ["Large picture.png"]
    assert names(client, hash=large.blob.hash) == ["Large picture.png"]
    assert names(client, node="8002") == ["Large picture.png"]
    assert names(client, max_size=1) == ["small.txt"]
    assert names(client, content_type="text/plain") == ["small.txt"]
    assert names(client, verified="false") == []


@pytest.mark.parametrize(
    "query", ["min_size=x", "created_after=soon", "cursor=nonsense", "search=%00", "name=%00"]
)
def test_a_filter_that_makes_no_sense_is_refused(client: Client, query: str) -> None:
    response = client.get(f"/api/v1/files/?{query}")
    assert response.status_code in {400, 404}
    assert set(response.json()) >= {"detail", "code"}


def test_a_blob_shows_its_replicas_and_names(client: Client) -> None:
    file = add_file("a.txt", b"content")
    add_file("b.txt", b"content")
    blob = client.get(f"/api/v1/blobs/{file.blob.hash}/").json()
    assert blob["names"] == ["a.txt", "b.txt"]
    assert [replica["node_id"] for replica in blob["replicas"]] == ["8001", "8002"]


def test_nodes_show_their_state_and_can_be_filtered_by_it(client: Client) -> None:
    everyone = client.get("/api/v1/nodes/").json()["results"]
    assert {node["node_id"]: node["state"] for node in everyone} == {
        "8001": "healthy",
        "8002": "down",
    }
    down = client.get("/api/v1/nodes/", {"state": "down"}).json()["results"]
    assert [node["node_id"] for node in down] == ["8002"]


@pytest.mark.parametrize("path", ["files/1/", "blobs/unknown/", "nodes/unknown/"])
def test_what_does_not_exist_is_not_found(client: Client, path: str) -> None:
    response = client.get(f"/api/v1/{path}")
    assert response.status_code == 404
    assert response.json()["code"] == "not_found"


@pytest.mark.parametrize("path", ["files/", "blobs/", "nodes/"])
def test_nothing_can_be_written_through_the_lists(client: Client, path: str) -> None:
    response = client.post(f"/api/v1/{path}", {}, content_type="application/json")
    assert response.status_code == 405
    assert "GET" in response["Allow"]


@pytest.mark.parametrize("path", ["files/", "blobs/"])
def test_queries_do_not_grow_with_the_rows(
    client: Client, django_assert_max_num_queries: Any, path: str
) -> None:
    for number in range(30):
        add_file(f"{number}.txt")
    with django_assert_max_num_queries(5):
        client.get(f"/api/v1/{path}")


def test_the_schema_names_every_public_path(client: Client) -> None:
    response = client.get("/api/v1/schema/", headers={"Accept": "application/json"})
    assert response.status_code == 200
    paths = set(response.json()["paths"])
    assert {"/register", "/get", "/list", "/health", "/api/v1/files/"} <= paths
    assert not any(path.startswith("/internal") for path in paths)


def test_the_documentation_page_loads_nothing_from_elsewhere(client: Client) -> None:
    page = client.get("/api/v1/docs/").content.decode()
    assert "/static/drf_spectacular_sidecar/" in page
    assert "https://" not in page


def test_health_is_text_unless_json_is_asked_for(client: Client) -> None:
    text = client.get("/health")
    assert (text.content, text["Content-Type"]) == (b"OK", "text/plain; charset=utf-8")
    assert client.get("/health", headers={"Accept": "*/*"}).content == b"OK"
    details = client.get("/health", headers={"Accept": "application/json"}).json()
    assert details["nodes"] == {"8001": "healthy", "8002": "down"}
