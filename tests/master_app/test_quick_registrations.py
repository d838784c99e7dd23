"""Registrations in front of Django: what they answer is what the view answers."""

import asyncio
import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import pytest
from django.db import OperationalError
from django.test import Client

from master_app.api import quick_registrations
from master_app.api.quick_registrations import MAX_BYTES, QuickRegistrations
from master_app.models import File
from mini_dropbox.asgi_types import Message, Receive, Scope, Send
from mini_dropbox.request_threads import REQUEST_THREADS
from mini_dropbox.signing import Signer
from mini_dropbox.wire import REGISTRATIONS_PATH
from tests.support.records import add_node, registration

pytestmark = pytest.mark.django_db(transaction=True)

SECRET = "the secret of the tests"


@dataclass
class Django:
    """Stands for Django: remembers what it was asked."""

    bodies: list[bytes] = field(default_factory=list)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        message = await receive()
        self.bodies.append(message.get("body", message["type"].encode()))
        await send({"type": "http.response.start", "status": 299, "headers": []})
        await send({"type": "http.response.body", "body": b"{}"})


@pytest.fixture
def django() -> Django:
    return Django()


@pytest.fixture(autouse=True)
def threads_end() -> Iterator[None]:
    yield
    REQUEST_THREADS.close()


def headers_of(body: bytes, **changes: str | None) -> dict[str, str]:
    signature = Signer(SECRET, "8001").sign(
        "POST", REGISTRATIONS_PATH, hashlib.sha256(body).hexdigest()
    )
    headers = {
        "content-type": "application/json",
        "content-length": str(len(body)),
        "authorization": signature,
        **changes,
    }
    return {name: value for name, value in headers.items() if value is not None}


async def ask(
    django: Django,
    body: bytes,
    headers: Mapping[str, str],
    *,
    method: str = "POST",
    pieces: int = 1,
) -> tuple[int, Any]:
    """Return status and JSON of the answer; the body comes in `pieces`."""
    size = len(body) // pieces + 1
    parts = [body[start : start + size] for start in range(0, max(len(body), 1), size)]
    messages = [
        {"type": "http.request", "body": part, "more_body": number < len(parts) - 1}
        for number, part in enumerate(parts)
    ]
    sent: list[Message] = []

    async def receive() -> Message:
        if messages:
            return messages.pop(0)
        return await asyncio.Event().wait()  # type: ignore[return-value]  # A client that stays.

    async def send(message: Message) -> None:
        sent.append(message)

    scope = {
        "type": "http",
        "method": method,
        "path": REGISTRATIONS_PATH,
        "query_string": b"",
        "headers": [(name.encode(), value.encode()) for name, value in headers.items()],
    }
    await QuickRegistrations(django)(scope, receive, send)
    content = b"".join(message.get("body", b"") for message in sent)
    return sent[0]["status"], json.loads(content)


def group(*names: str) -> bytes:
    entries = [registration(name, replicas=("8001",)).to_json() for name in names]
    return json.dumps({"registrations": entries}).encode()


async def test_a_signed_group_is_recorded_without_django(django: Django) -> None:
    await asyncio.to_thread(add_node, "8001")

    body = group("a.txt", "b.txt")

    status, answer = await ask(django, body, headers_of(body))

    assert status == 200
    assert [result["status"] for result in answer["results"]] == ["registered"] * 2
    assert django.bodies == []
    assert await asyncio.to_thread(File.objects.count) == 2


@pytest.mark.parametrize(
    "body",
    [
        group("a.txt"),
        b"{}",
        b"[]",
        b"{",
        b"[" * 100_000,
        b"\xff",
        group("a.txt").replace(b"a.txt", b"../.."),
        group("a.txt").replace(b"8001", b"not an id!"),
    ],
    ids=lambda body: repr(body[:20]),
)
async def test_the_answer_is_that_of_the_view(django: Django, client: Client, body: bytes) -> None:
    await asyncio.to_thread(add_node, "8001")

    quick = await ask(django, body, headers_of(body), pieces=3)

    view = await asyncio.to_thread(
        client.post,
        REGISTRATIONS_PATH,
        body,
        content_type="application/json",
        headers={"Authorization": headers_of(body)["authorization"]},
    )
    assert django.bodies == []
    assert quick == (view.status_code, view.json())


async def test_another_body_than_the_signed_one_is_refused(django: Django) -> None:
    status, answer = await ask(django, group("a.txt"), headers_of(group("b.txt")))

    assert (status, answer["code"]) == (401, "not_signed")


async def test_a_database_that_does_not_answer_is_told_as_everywhere(
    django: Django, monkeypatch: pytest.MonkeyPatch
) -> None:
    def locked(_: object) -> None:
        raise OperationalError("database is locked")

    monkeypatch.setattr(quick_registrations, "apply_registrations", locked)

    body = group("a.txt")
    status, answer = await ask(django, body, headers_of(body))

    assert (status, answer["code"]) == (503, "database_unavailable")


async def test_a_fault_of_ours_is_logged_and_not_shown(
    django: Django, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(_: object) -> None:
        raise RuntimeError("a secret of the house")

    monkeypatch.setattr(quick_registrations, "apply_registrations", fail)

    body = group("a.txt")
    status, answer = await ask(django, body, headers_of(body))

    assert (status, answer["code"]) == (500, "server_error")
    assert "secret" not in str(answer)
    assert "a secret of the house" in caplog.text


@pytest.mark.parametrize(
    "changes",
    [
        {"authorization": None},
        {"authorization": "MiniDropbox-HMAC node=1,signature=00"},
        {"content-type": "application/json; charset=utf-8"},
        {"content-type": None},
        {"content-length": None},
        {"content-length": str(MAX_BYTES + 1)},
        {"content-length": "-1"},
        {"content-length": "0"},
    ],
    ids=str,
)
async def test_what_is_unusual_goes_to_django_whole(
    django: Django, changes: dict[str, str | None]
) -> None:
    body = group("a.txt")

    status, _ = await ask(django, body, headers_of(body, **changes))

    assert status == 299
    assert django.bodies == [body]


async def test_another_method_goes_to_django(django: Django) -> None:
    status, _ = await ask(django, b"", headers_of(b""), method="GET")

    assert (status, django.bodies) == (299, [b""])
