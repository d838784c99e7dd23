"""Web pages of other sites cannot make the master do anything."""

from typing import Any

import pytest
from django.contrib.auth import get_user_model
from django.test import Client

from master_app.models import File
from seedream_app.models import GenerationJob

pytestmark = pytest.mark.django_db

RECORD = {"hash": "test123", "name": "test.txt", "size": 1}
FOREIGN = [
    "http://evil.example",
    "http://127.0.0.1.evil.example:9000",
    "http://localhost:9001",
    "http://localhost",
    "https://localhost:9000",
    "ftp://localhost:9000",
    "http://[::1",
    "http://localhost:port",
    "localhost:9000",
    "null",
    "",
]
OWN = [
    "http://localhost:9000",
    "http://127.0.0.1:9000",
    "http://127.9.9.9:9000",
    "http://[::1]:9000",
]


def register(client: Client, host: str = "localhost:9000", **headers: str) -> Any:
    headers = {"Host": host, **headers}
    return client.post("/register", RECORD, content_type="application/json", headers=headers)


@pytest.mark.parametrize("origin", FOREIGN)
def test_a_page_of_another_site_registers_nothing(client: Client, origin: str) -> None:
    answer = register(client, Origin=origin)

    assert answer.status_code == 403
    assert answer.json().keys() == {"detail", "code"}
    assert answer.json()["code"] == "foreign_origin"
    assert not File.objects.exists()


def test_a_page_of_another_site_generates_no_image(client: Client) -> None:
    answer = client.post(
        "/seedream/generate", {"prompt": "a bill"}, headers={"Origin": "http://evil.example"}
    )

    assert answer.status_code == 403
    assert not GenerationJob.objects.exists()


@pytest.mark.parametrize("host", ["localhost:9000", "127.0.0.1:9000", "[::1]:9000"])
@pytest.mark.parametrize("origin", OWN)
def test_our_own_pages_may_register_under_each_name_of_this_machine(
    client: Client, host: str, origin: str
) -> None:
    # A browser takes two names of this machine for two sites.
    headers = {"Origin": origin, "Sec-Fetch-Site": "cross-site"}

    assert register(client, host, **headers).status_code == 200


def test_a_port_that_goes_without_saying_is_the_same_port(client: Client) -> None:
    assert register(client, "localhost", Origin="http://127.0.0.1:80").status_code == 200


def test_a_public_name_is_its_own_origin_and_no_other(client: Client, settings: Any) -> None:
    settings.ALLOWED_HOSTS = ["files.example"]

    assert register(client, "files.example", Origin="http://files.example").status_code == 200
    for origin in ("http://localhost", "http://www.files.example", "https://files.example"):
        assert register(client, "files.example", Origin=origin).status_code == 403


def test_programs_send_no_origin_and_are_let_through(client: Client) -> None:
    assert register(client).status_code == 200


@pytest.mark.parametrize(("site", "status"), [("cross-site", 403), ("same-origin", 200)])
def test_without_an_origin_the_browser_may_still_say_that_the_page_is_foreign(
    client: Client, site: str, status: int
) -> None:
    assert register(client, **{"Sec-Fetch-Site": site}).status_code == status


@pytest.mark.parametrize("method", ["get", "head", "options"])
def test_reading_is_nobodys_harm(client: Client, method: str) -> None:
    headers = {"Origin": "http://evil.example", "Sec-Fetch-Site": "cross-site"}

    assert getattr(client, method)("/list", headers=headers).status_code == 200


@pytest.mark.parametrize("method", ["put", "patch", "delete"])
def test_every_method_that_may_change_something_is_refused(client: Client, method: str) -> None:
    headers = {"Origin": "http://evil.example"}

    assert getattr(client, method)("/register", headers=headers).status_code == 403


def test_the_admin_keeps_its_own_tokens() -> None:
    get_user_model()._default_manager.create_superuser("admin", password="password of the test")
    client = Client(enforce_csrf_checks=True)
    form = {"username": "admin", "password": "password of the test"}

    answer = client.post("/admin/login/", form, headers={"Origin": "http://testserver"})

    assert answer.status_code == 403
    assert b"CSRF" in answer.content
