import json
from typing import Any

import pytest
from django.test import Client

from master_app.models import Blob, File, Replica
from tests.support.records import add_file, add_node

pytestmark = pytest.mark.django_db

EXAMPLE = {"hash": "test123", "name": "test.txt", "size": 1024, "replicas": ["8001", "8002"]}


def register(client: Client, **changes: Any) -> Any:
    body = json.dumps({**EXAMPLE, **changes})
    return client.post("/register", body, content_type="application/json")


def test_the_documented_example_is_registered_and_found(client: Client) -> None:
    response = register(client)
    assert response.status_code == 200
    assert response.json() == {"message": "File registered", "hash": "test123"}
    found = client.get("/get", {"hash": "test123"}).json()
    assert {key: found[key] for key in EXAMPLE} == EXAMPLE
    assert found["verified"] is False


def test_a_claim_makes_no_replica(client: Client) -> None:
    add_node("8001")
    register(client)
    assert not Replica.objects.exists()


def test_the_same_again_changes_nothing(client: Client) -> None:
    register(client)
    register(client)
    assert (Blob.objects.count(), File.objects.count()) == (1, 1)


def test_another_name_for_the_hash_adds_a_file(client: Client) -> None:
    register(client)
    register(client, name="other.txt")
    assert list(File.objects.order_by("id").values_list("name", flat=True)) == [
        "test.txt",
        "other.txt",
    ]
    assert Blob.objects.count() == 1


def test_a_path_is_cut_to_its_last_part(client: Client) -> None:
    register(client, name="C:\\temp\\../etc/passwd")
    assert File.objects.get().name == "passwd"


def test_a_size_that_contradicts_a_verified_blob_is_refused(client: Client) -> None:
    add_node("8001")
    file = add_file("report.pdf", replicas=("8001",))
    response = register(client, hash=file.blob.hash, size=file.blob.size + 1)
    assert response.status_code == 409
    assert response.json()["code"] == "size_conflict"
    assert File.objects.count() == 1


def test_a_claim_about_a_verified_blob_adds_a_name_and_no_replica(client: Client) -> None:
    add_node("8001")
    file = add_file("report.pdf", replicas=("8001",))
    response = register(client, hash=file.blob.hash, size=file.blob.size, name="copy.pdf")
    assert response.status_code == 200
    found = client.get("/get", {"hash": file.blob.hash}).json()
    assert (found["name"], found["replicas"], found["verified"]) == ("copy.pdf", ["8001"], True)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("hash", ""),
        ("hash", "../../etc/hostname"),
        ("hash", "a" * 129),
        ("hash", "test123\n"),
        ("hash", None),
        ("name", ""),
        ("name", "a" * 256),
        ("name", "line\r\nbreak"),
        ("name", "nul\0"),
        ("name", ".."),
        ("name", 7),
        ("size", -1),
        ("size", "1024"),
        ("size", 1.5),
        ("size", True),
        ("size", 2**63),
        ("size", None),
        ("replicas", "8001"),
        ("replicas", ["../8001"]),
        ("replicas", [["8001"]]),
        ("replicas", ["8001"] * 1001),
    ],
)
def test_a_bad_field_is_named_and_nothing_is_kept(client: Client, field: str, value: Any) -> None:
    response = register(client, **{field: value})
    assert response.status_code == 400
    body = response.json()
    assert body["code"] == "invalid"
    assert list(body["errors"]) == [field]
    assert body["detail"].startswith(f"{field}: ")
    assert not Blob.objects.exists()


@pytest.mark.parametrize("body", ["", "{", "[]", "null", '"text"', "{'hash': 1}", '{"size": NaN}'])
def test_a_body_that_is_no_object_is_refused(client: Client, body: str) -> None:
    response = client.post("/register", body, content_type="application/json")
    assert response.status_code == 400
    assert set(response.json()) >= {"detail", "code"}


def test_a_form_is_refused_with_what_is_taken(client: Client) -> None:
    response = client.post("/register", EXAMPLE)
    assert response.status_code == 415
    assert response.json()["code"] == "unsupported_media_type"


def test_a_wrong_method_is_told_the_right_one(client: Client) -> None:
    response = client.get("/register")
    assert response.status_code == 405
    assert "POST" in response["Allow"]
    assert response.json()["code"] == "method_not_allowed"
