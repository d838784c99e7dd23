"""Upload forms, byte by byte."""

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from node_app.dataplane.form import FormFile, read_form
from node_app.dataplane.http import Request
from node_app.dataplane.receiving import PipedWriter
from node_app.errors import BadForm, BadName
from tests.support.blob_backends import LocalBackend
from tests.support.raw_http import BOUNDARY

LIMIT = 1000


@pytest.fixture
def backend(tmp_path: Path) -> Iterator[LocalBackend]:
    opened = LocalBackend(tmp_path)
    yield opened
    opened.close()


async def nothing(*_: object) -> None:
    """Stand for the way back to the client, which is not used."""


def request(body: bytes) -> Request:
    async def receive() -> dict[str, object]:
        return {"type": "http.request", "body": body, "more_body": False}

    headers = [
        (b"content-type", f"multipart/form-data; boundary={BOUNDARY}".encode()),
        (b"content-length", str(len(body)).encode()),
    ]
    scope = {"method": "POST", "path": "/upload", "headers": headers}
    return Request(scope, receive, nothing)  # type: ignore[arg-type]


async def read(backend: LocalBackend, headers: bytes) -> FormFile:
    """Read a form whose one part has these headers."""
    body = b"--%b\r\n%b\r\n\r\nx\r\n--%b--\r\n" % (BOUNDARY.encode(), headers, BOUNDARY.encode())
    with backend.store.writer() as writer:
        output = PipedWriter(writer, asyncio.to_thread, LIMIT)  # type: ignore[arg-type]
        return await read_form(request(body), output, LIMIT)


def disposition(name: bytes) -> bytes:
    return b'Content-Disposition: form-data; name="file"; filename="%b"' % name


@pytest.mark.parametrize(
    ("sent", "expected"),
    [
        ("naïve ☃ 文.txt".encode(), "naïve ☃ 文.txt"),
        ("caf\N{LATIN SMALL LETTER E WITH ACUTE}.txt".encode("latin-1"), "café.txt"),
        ("10 € “quoted”.txt".encode("cp1252"), "10 € “quoted”.txt"),
        # No Western Windows character has this byte; the rest of the name is still of use.
        (b"\x81\xe4.txt", "\N{REPLACEMENT CHARACTER}ä.txt"),
        ("文.txt".encode("gb18030"), "ÎÄ.txt"),
        ("ä".encode() + b"\xff.txt", "Ã¤ÿ.txt"),
        (b"50%22 a%20b.txt", '50" a%20b.txt'),
        ("C:\\Übung\\à.txt".encode(), "à.txt"),
        ("à\N{NO-BREAK SPACE}b.txt".encode(), "à\N{NO-BREAK SPACE}b.txt"),
    ],
)
async def test_a_name_is_kept_whatever_its_characters(
    backend: LocalBackend, sent: bytes, expected: str
) -> None:
    file = await read(backend, disposition(sent) + b"\r\nContent-Type: text/x-\xe4")

    assert file == FormFile(expected, "text/plain")


@pytest.mark.parametrize("name", [b"\x00", b"a\x1b[1m.txt", b"x\xc2\x85x", b"..", b""])
async def test_a_name_that_cannot_be_used_is_refused(backend: LocalBackend, name: bytes) -> None:
    with pytest.raises(BadName):
        await read(backend, disposition(name))


@pytest.mark.parametrize(
    "headers",
    [
        b"\xff\xfe",
        b"\xe4: x",
        b"no colon",
        b" continued",
        b"Content-Disposition: attachment",
        b"Content-Type: text/plain",
        disposition(b"a") + b"\r\nContent-Length: many",
        disposition(b"a") + b"\r\nContent-Length: 5",
        disposition(b"a") + b"\r\nX-Long: " + b"x" * 10_000,
        disposition(b"a") + b"\r\nX-Many: x" * 20,
    ],
)
async def test_a_broken_form_is_refused_in_plain_words(
    backend: LocalBackend, headers: bytes
) -> None:
    with pytest.raises(BadForm) as refused:
        await read(backend, headers)

    sentence = str(refused.value)
    assert sentence.startswith("The form ")
    assert sentence.endswith(".")
    assert not set(sentence) & set("'\"\\")
    assert "Error" not in sentence
