"""Fetching results: bounded, from public hosts, and images only."""

import gzip
import socket
from io import BytesIO

import pytest
from PIL import Image

from seedream_app import image_download
from seedream_app.errors import ProviderTimeout, ResultRefused, ResultUnreachable
from seedream_app.image_download import PrivateAddress, fetch_image, public_addresses
from seedream_app.images import CheckedImage
from tests.seedream_app.conftest import API_KEY
from tests.seedream_app.fakes.pictures import picture
from tests.seedream_app.fakes.server import Behaviour, FakeServer, Hangup, Reply, Silence


def fetch(host: FakeServer, *replies: Behaviour, path: str = "/1.png") -> CheckedImage:
    """Fetch from a host that is trusted as a provider's own would be."""
    host.replies.extend(replies)
    return fetch_image(host.url + path, trusted_origins=frozenset({host.origin}))


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "BMP", "TIFF", "GIF", "MPO"])
def test_images_of_every_type_are_taken_for_what_they_are(host: FakeServer, kind: str) -> None:
    reply = Reply(body=picture(70, 50, kind), headers={"Content-Type": "text/plain"})
    image = fetch(host, reply)
    assert (image.width, image.height) == (70, 50)
    assert image.format == ("jpeg" if kind == "MPO" else kind.lower())


def test_nothing_but_the_image_is_asked_of_its_host(host: FakeServer) -> None:
    fetch(host, Reply(body=picture()))
    [request] = host.requests
    assert request.headers["Authorization"] is None
    assert request.headers["Cookie"] is None
    assert API_KEY not in str(request.headers)


@pytest.mark.parametrize("location", ["/2.png", "2.png?x=1"])
def test_a_redirect_within_the_host_is_followed(host: FakeServer, location: str) -> None:
    moved = Reply(status=302, headers={"Location": location})
    assert fetch(host, moved, moved, moved, Reply(body=picture())).width == 64


def test_the_fourth_redirect_is_one_too_many(host: FakeServer) -> None:
    moved = Reply(status=302, headers={"Location": "/again"})
    with pytest.raises(ResultRefused, match="redirects"):
        fetch(host, *[moved] * 4)
    assert len(host.requests) == 4


@pytest.mark.parametrize("name", ["127.0.0.1", "localhost", "127.1", "2130706433"])
def test_a_redirect_to_this_machine_is_refused(
    host: FakeServer, canary: FakeServer, name: str
) -> None:
    with pytest.raises(ResultRefused, match="public internet"):
        fetch(host, Reply(status=302, headers={"Location": f"http://{name}:{canary.port}/x"}))


@pytest.mark.parametrize(
    "location",
    [
        "http://169.254.169.254/latest/meta-data/",
        "http://10.0.0.1/",
        "http://192.168.1.1/",
        "http://172.16.0.1/",
        "http://0.0.0.0/",
        "http://100.64.0.1/",
        "http://[::1]/",
        "http://[fe80::1]/",
        "http://[fd00::1]/",
        "http://[::ffff:127.0.0.1]/",
        "http://[64:ff9b::7f00:1]/",
        "http://[2002:7f00:1::]/",
        "http://224.0.0.1/",
        "https://127.0.0.1/",
    ],
)
def test_private_addresses_are_refused_wherever_they_stand(host: FakeServer, location: str) -> None:
    with pytest.raises(ResultRefused):
        fetch(host, Reply(status=302, headers={"Location": location}))
    with pytest.raises(ResultRefused):
        fetch_image(location, trusted_origins=frozenset())


def test_a_private_host_is_refused_unless_it_is_the_providers_own(canary: FakeServer) -> None:
    other_port = frozenset({("127.0.0.1", canary.port + 1)})
    with pytest.raises(ResultRefused, match="public internet"):
        fetch_image(f"{canary.url}/1.png", trusted_origins=other_port)


def test_a_trusted_host_may_not_be_reached_through_another(
    host: FakeServer, canary: FakeServer
) -> None:
    host.replies.append(Reply(status=302, headers={"Location": f"{canary.url}/1.png"}))
    with pytest.raises(ResultRefused, match="public internet"):
        fetch_image(f"{host.url}/1.png", trusted_origins=frozenset({host.origin, canary.origin}))


def test_a_name_counts_by_all_its_addresses(monkeypatch: pytest.MonkeyPatch) -> None:
    def resolve(*_: object, **__: object) -> list[object]:
        return [
            (socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, 80))
            for address in ("93.184.215.14", "10.0.0.1")
        ]

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    with pytest.raises(PrivateAddress):
        public_addresses("two-faced.example", 80)


def test_the_connection_goes_to_the_address_that_was_checked(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    reached: list[object] = []
    answers = iter(["93.184.215.14", "127.0.0.1"])

    def resolve(*_: object, **__: object) -> list[object]:
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (next(answers), 80))]

    def connect(address: object, *_: object, **__: object) -> None:
        reached.append(address)
        raise ConnectionRefusedError

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    monkeypatch.setattr(image_download, "create_connection", connect)
    with pytest.raises(ResultUnreachable):
        fetch_image("http://rebinding.example/1.png", trusted_origins=frozenset())
    assert reached == [("93.184.215.14", 80)]


@pytest.mark.parametrize(
    "url", ["file:///etc/passwd", "ftp://example.com/1.png", "data:image/png;base64,AA", "", "//"]
)
def test_only_http_is_spoken(url: str) -> None:
    with pytest.raises(ResultRefused, match="http"):
        fetch_image(url, trusted_origins=frozenset())


@pytest.mark.parametrize("url", ["http://[::1", "http://example.com:port/", "http://a b/"])
def test_a_malformed_address_is_refused(url: str) -> None:
    with pytest.raises((ResultRefused, ResultUnreachable)):
        fetch_image(url, trusted_origins=frozenset())


def test_too_many_bytes_are_refused_by_their_announcement(host: FakeServer) -> None:
    with pytest.raises(ResultRefused, match="bytes"):
        fetch(host, Reply(body=b"", says_length=image_download.MAX_RESULT_BYTES + 1))


def test_too_many_bytes_are_refused_as_they_come(
    host: FakeServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(image_download, "MAX_RESULT_BYTES", 1000)
    compressed = Reply(body=gzip.compress(bytes(500_000)), headers={"Content-Encoding": "gzip"})
    with pytest.raises(ResultRefused, match="bytes"):
        fetch(host, compressed)


def test_too_many_pixels_are_refused_before_they_are_decoded(host: FakeServer) -> None:
    buffer = BytesIO()
    Image.new("1", (7000, 6000)).save(buffer, "PNG")
    with pytest.raises(ResultRefused, match="7000x6000"):
        fetch(host, Reply(body=buffer.getvalue()))


def test_a_decompression_bomb_is_refused(host: FakeServer) -> None:
    buffer = BytesIO()
    Image.new("1", (20000, 20000)).save(buffer, "PNG")
    assert len(buffer.getvalue()) < 100_000
    with pytest.raises(ResultRefused):
        fetch(host, Reply(body=buffer.getvalue()))


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"<html>Not found</html>",
        b'<svg xmlns="http://www.w3.org/2000/svg"/>',
        b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n",
        picture(kind="ICO"),
        picture(kind="PPM"),
        picture(kind="PNG")[:-30],
        picture(200, 200, kind="JPEG")[:400],
        b"\x89PNG\r\n\x1a\n" + bytes(100),
        b"II*\x00" + b"\xff" * 50,
    ],
    ids=[
        "empty",
        "HTML",
        "SVG",
        "EPS",
        "ICO",
        "PPM",
        "cut PNG",
        "cut JPEG",
        "sham PNG",
        "sham TIFF",
    ],
)
def test_what_is_no_whole_image_of_a_known_type_is_refused(host: FakeServer, body: bytes) -> None:
    with pytest.raises(ResultRefused, match="cannot be kept"):
        fetch(host, Reply(body=body, headers={"Content-Type": "image/png"}))


@pytest.mark.parametrize(
    "behaviour",
    [Reply(status=403), Reply(status=404), Hangup(), Reply(body=picture(), says_length=90_000)],
    ids=["403", "404", "dropped", "cut off"],
)
def test_a_host_that_does_not_deliver_is_said_to_be_so(
    host: FakeServer, behaviour: Behaviour
) -> None:
    with pytest.raises(ResultUnreachable):
        fetch(host, behaviour)


def test_a_silent_host_is_a_time_out(host: FakeServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(image_download, "READ_SECONDS", 0.2)
    with pytest.raises(ProviderTimeout):
        fetch(host, Silence())
