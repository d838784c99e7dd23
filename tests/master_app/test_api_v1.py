import base64
from datetime import UTC, timedelta, timezone
from typing import Any
from urllib.parse import urlencode

import hypothesis
import pytest
from django.test import Client
from hypothesis import strategies as st

from tests.support.records import add_file, add_node

pytestmark = pytest.mark.django_db

# No example changes what a fixture has made.
ANY_FIXTURE = [hypothesis.HealthCheck.function_scoped_fixture]
EAST, WEST = (timezone(timedelta(hours=sign * 23, minutes=59)) for sign in (1, -1))


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
    assert (blob["names"], blob["file_count"]) == (["b.txt", "a.txt"], 2)
    assert [replica["node_id"] for replica in blob["replicas"]] == ["8001", "8002"]


@pytest.mark.parametrize("path", ["", "{hash}/"])
def test_of_many_names_a_blob_shows_the_newest_and_their_number(
    client: Client, path: str, django_assert_max_num_queries: Any
) -> None:
    blob = add_file("0.txt", b"content").blob
    for number in range(1, 25):
        add_file(f"{number}.txt", b"content")
    add_file("other.txt")
    with django_assert_max_num_queries(5):
        answer = client.get("/api/v1/blobs/" + path.format(hash=blob.hash)).json()

    shown = answer if path else next(b for b in answer["results"] if b["hash"] == blob.hash)
    assert shown["names"] == [f"{number}.txt" for number in range(24, 4, -1)]
    assert shown["file_count"] == 25


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


LISTS = ["files", "blobs", "nodes"]
OUT_OF_REACH = ["0001-01-01T00:00:00+23:59", "9999-12-31T23:59:59-23:59"]
positions = st.one_of(
    st.text(max_size=40),
    st.datetimes().map(str),
    st.datetimes(timezones=st.sampled_from([UTC, EAST, WEST])).map(str),
    st.dates().map(str),
    st.integers().map(str),
)


def cursor(position: str, **others: str) -> str:
    query = urlencode({"p": position, **others})
    return base64.b64encode(query.encode()).decode()


@pytest.mark.parametrize("path", LISTS)
@pytest.mark.parametrize(
    "position", ["abc", "-9999-99-99", "2024-13-01 00:00:00+00:00", "2024-01-01", *OUT_OF_REACH]
)
def test_a_cursor_that_leads_nowhere_is_not_found(client: Client, path: str, position: str) -> None:
    response = client.get(f"/api/v1/{path}/", {"cursor": cursor(position)})

    assert response.status_code == 404
    assert response.json() == {"detail": "Invalid cursor", "code": "not_found"}


@pytest.mark.parametrize("name", ["created_after", "created_before"])
@pytest.mark.parametrize("moment", OUT_OF_REACH)
def test_a_moment_that_no_calendar_in_utc_has_is_refused(
    client: Client, name: str, moment: str
) -> None:
    response = client.get("/api/v1/files/", {name: moment})

    assert response.status_code == 400
    body = response.json()
    assert body["code"] == "invalid"
    assert body["errors"].keys() == {name}


def assert_answered(client: Client, path: str, query: dict[str, str]) -> None:
    response = client.get(path, query)
    assert response.status_code in {200, 400, 404}, (path, query, response.content)
    if response.status_code != 200:
        assert set(response.json()) >= {"detail", "code"}


@pytest.mark.parametrize("path", LISTS)
@hypothesis.given(
    position=positions, others=st.dictionaries(st.sampled_from("or"), st.text(max_size=30))
)
@hypothesis.settings(suppress_health_check=ANY_FIXTURE, deadline=None)
def test_any_cursor_is_answered(
    client: Client, path: str, position: str, others: dict[str, str]
) -> None:
    assert_answered(client, f"/api/v1/{path}/", {"cursor": cursor(position, **others)})


@hypothesis.given(
    name=st.sampled_from(["created_after", "created_before", "min_size", "max_size", "page_size"]),
    value=st.one_of(positions, st.floats().map(str)),
)
@hypothesis.settings(suppress_health_check=ANY_FIXTURE, deadline=None)
def test_any_bound_is_answered(client: Client, name: str, value: str) -> None:
    assert_answered(client, "/api/v1/files/", {name: value})
    assert_answered(client, "/api/v1/blobs/", {name: value})


@hypothesis.given(key=st.integers(min_value=0))
@hypothesis.settings(suppress_health_check=ANY_FIXTURE, deadline=None)
def test_any_number_of_a_file_is_answered(client: Client, key: int) -> None:
    assert_answered(client, f"/api/v1/files/{key}/", {})
