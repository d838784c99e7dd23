import hashlib
import io
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import pytest
from django.db.models.signals import post_init
from django.test import Client
from PIL import Image
from pytest_django import Settings

from master_app.errors import ImageTooLarge, NotAnImage
from master_app.models import File, Node
from master_app.thumbnails import MAX_SOURCE_BYTES, SIDE_PIXELS, make_thumbnail, thumbnail_url
from tests.support.blob_server import BlobServer
from tests.support.records import add_file, add_node

SVG = (
    b'<svg xmlns="http://www.w3.org/2000/svg" width="9" height="9"><script>alert(1)</script></svg>'
)

StoreImage = Callable[..., File]


def picture(
    form: str, size: tuple[int, int] = (800, 600), mode: str = "RGB", **save: object
) -> bytes:
    out = io.BytesIO()
    Image.new(mode, size, "red" if mode != "P" else 3).save(out, form, **save)
    return out.getvalue()


def png_chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def png_that_announces(width: int, height: int) -> bytes:
    """Return a PNG of a few bytes whose header promises that many pixels."""
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(b"\0" * 1000)), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(png_chunk(*chunk) for chunk in chunks)


def opened(thumbnail: bytes) -> Image.Image:
    image = Image.open(io.BytesIO(thumbnail))
    image.load()
    return image


@pytest.fixture(autouse=True)
def master_dir(settings: Settings, tmp_path: Path) -> Path:
    settings.MASTER_DIR = tmp_path
    return tmp_path


@pytest.fixture
def store(db: None, blob_server: BlobServer) -> StoreImage:
    """Return what stores bytes on a node that serves them, and registers them as a file."""
    add_node("8001", url=blob_server.url)

    def store(name: str, content: bytes, content_type: str = "") -> File:
        blob_server.blobs[hashlib.md5(content).hexdigest()] = content
        return add_file(name, content=content, content_type=content_type, replicas=("8001",))

    return store


@pytest.mark.parametrize("form", ["PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF"])
def test_an_image_becomes_a_small_webp_of_the_same_shape(form: str) -> None:
    thumbnail = opened(make_thumbnail(picture(form)))
    assert thumbnail.format == "WEBP"
    assert thumbnail.size == (SIDE_PIXELS, 240)
    red, green, blue = thumbnail.convert("RGB").getpixel((100, 100))
    assert red > 240
    assert max(green, blue) < 15


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGBA", "I;16"])
def test_every_kind_of_pixel_is_understood(mode: str) -> None:
    source = io.BytesIO()
    Image.new(mode, (640, 640)).save(source, "PNG")
    assert opened(make_thumbnail(source.getvalue())).size == (SIDE_PIXELS, SIDE_PIXELS)


def test_transparency_is_kept() -> None:
    source = io.BytesIO()
    Image.new("RGBA", (640, 640), (0, 0, 0, 0)).save(source, "PNG")
    assert opened(make_thumbnail(source.getvalue())).convert("RGBA").getpixel((9, 9))[3] == 0


def test_a_small_image_is_not_blown_up() -> None:
    assert opened(make_thumbnail(picture("PNG", (20, 10)))).size == (20, 10)


def test_a_photo_taken_sideways_is_shown_upright_and_without_its_metadata() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # Orientation: turn by 90 degrees.
    exif[0x010F] = "Camera"
    thumbnail = opened(make_thumbnail(picture("JPEG", (800, 400), exif=exif)))
    assert thumbnail.size == (160, SIDE_PIXELS)
    assert not thumbnail.getexif()


def test_only_the_first_frame_of_an_animation_is_read() -> None:
    frames = [Image.new("RGB", (64, 64), colour) for colour in ("red", "blue", "green")]
    source = io.BytesIO()
    frames[0].save(source, "GIF", save_all=True, append_images=frames[1:])
    thumbnail = opened(make_thumbnail(source.getvalue()))
    assert getattr(thumbnail, "n_frames", 1) == 1
    assert thumbnail.convert("RGB").getpixel((9, 9))[0] > 200


@pytest.mark.parametrize("side", [7_100, 10_000, 60_000])
def test_an_image_of_too_many_pixels_is_refused_before_it_is_decoded(side: int) -> None:
    with pytest.raises(ImageTooLarge):
        make_thumbnail(png_that_announces(side, side))


@pytest.mark.parametrize(
    "content",
    [b"", b"plain text", SVG, b"%PDF-1.7\n", b"%!PS-Adobe-3.0 EPSF-3.0\n", picture("PNG")[:60]],
    ids=["nothing", "text", "svg", "pdf", "postscript", "cut off"],
)
def test_bytes_that_are_no_image_are_refused(content: bytes) -> None:
    with pytest.raises(NotAnImage):
        make_thumbnail(content)


@pytest.mark.filterwarnings("ignore::UserWarning:PIL")  # It says so when it skips bad metadata.
@pytest.mark.parametrize("form", ["PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF"])
def test_damaged_images_end_in_a_thumbnail_or_in_a_refusal(form: str) -> None:
    source = picture(form, (64, 48))
    for position in range(0, len(source), max(1, len(source) // 150)):
        damaged = bytearray(source)
        damaged[position] ^= 0xFF
        try:
            opened(make_thumbnail(bytes(damaged)))
        except (NotAnImage, ImageTooLarge):
            continue


def test_the_thumbnail_of_a_stored_image_is_served_and_may_be_kept_for_ever(
    client: Client, store: StoreImage
) -> None:
    file = store("beach.png", picture("PNG"), "image/png")
    url = thumbnail_url(file)
    assert url == f"/thumbnails/{file.blob.hash}"
    response = client.get(url)
    assert response.status_code == 200
    assert response["Content-Type"] == "image/webp"
    assert "immutable" in response["Cache-Control"]
    assert response["X-Content-Type-Options"] == "nosniff"
    assert opened(response.content).width == SIDE_PIXELS
    again = client.get(url, headers={"If-None-Match": response["ETag"]})
    assert again.status_code == 304
    assert not again.content
    assert client.head(url).status_code == 200


def test_a_thumbnail_is_made_once(
    client: Client, store: StoreImage, blob_server: BlobServer, master_dir: Path
) -> None:
    file = store("beach.png", picture("PNG"))
    first = client.get(thumbnail_url(file))
    second = client.get(thumbnail_url(file))
    assert first.content == second.content
    assert blob_server.asked == [file.blob.hash]
    kept = [path for path in (master_dir / "thumbnails").rglob("*") if path.is_file()]
    assert [path.name for path in kept] == [f"{file.blob.hash}.webp"]


def test_a_thumbnail_that_cannot_be_kept_is_served_all_the_same(
    client: Client, store: StoreImage, master_dir: Path
) -> None:
    file = store("beach.png", picture("PNG"))
    (master_dir / "thumbnails").write_text("a file where the folder should be")
    assert client.get(thumbnail_url(file)).status_code == 200


def test_an_svg_is_never_rendered(client: Client, store: StoreImage) -> None:
    honest = store("drawing.svg", SVG, "image/svg+xml")
    assert thumbnail_url(honest) is None
    assert client.get(f"/thumbnails/{honest.blob.hash}").status_code == 404
    disguised = store("drawing.png", SVG + b" ", "image/png")
    response = client.get(thumbnail_url(disguised))
    assert response.status_code == 404
    assert response.json()["code"] == "not_an_image"
    assert b"script" not in response.content


def test_a_bomb_is_refused_over_http(client: Client, store: StoreImage) -> None:
    file = store("bomb.png", png_that_announces(60_000, 60_000), "image/png")
    response = client.get(thumbnail_url(file))
    assert response.status_code == 404
    assert response.json()["code"] == "image_too_large"


def test_bytes_that_no_file_calls_an_image_are_not_fetched(
    client: Client, store: StoreImage, blob_server: BlobServer
) -> None:
    file = store("notes.txt", b"hello", "text/plain")
    assert thumbnail_url(file) is None
    response = client.get(f"/thumbnails/{file.blob.hash}")
    assert response.status_code == 404
    assert response.json()["code"] == "unknown_image"
    assert not blob_server.asked


def test_one_of_many_names_makes_an_image_and_none_of_them_is_loaded(
    client: Client, store: StoreImage
) -> None:
    content = picture("PNG")
    file = store("BEACH.PNG", content, "application/octet-stream")
    for number in range(30):
        add_file(f"{number}.bin", content, replicas=("8001",))
    loaded: list[File] = []

    def note(instance: File, **_: object) -> None:
        loaded.append(instance)

    post_init.connect(note, sender=File)
    try:
        response = client.get(f"/thumbnails/{file.blob.hash}")
    finally:
        post_init.disconnect(note, sender=File)
    assert response.status_code == 200
    assert not loaded


@pytest.mark.django_db
def test_a_source_of_too_many_bytes_is_not_fetched(client: Client, blob_server: BlobServer) -> None:
    add_node("8001", url=blob_server.url)
    file = add_file("huge.png", replicas=("8001",), size=MAX_SOURCE_BYTES + 1)
    assert thumbnail_url(file) is None
    assert client.get(f"/thumbnails/{file.blob.hash}").json()["code"] == "image_too_large"
    assert not blob_server.asked


def test_other_bytes_from_a_node_are_refused_and_not_kept(
    client: Client, store: StoreImage, blob_server: BlobServer, master_dir: Path
) -> None:
    file = store("beach.png", picture("PNG"))
    right = blob_server.blobs[file.blob.hash]
    blob_server.blobs[file.blob.hash] = picture("PNG", (10, 10))
    response = client.get(thumbnail_url(file))
    assert response.json()["code"] == "blob_unavailable"
    assert response["Cache-Control"] == "no-store"
    assert not (master_dir / "thumbnails").exists()
    blob_server.blobs[file.blob.hash] = right
    assert client.get(thumbnail_url(file)).status_code == 200


def test_a_node_that_is_down_gives_404_that_may_pass(client: Client, store: StoreImage) -> None:
    file = store("beach.png", picture("PNG"))
    Node.objects.update(url="http://127.0.0.1:1")
    response = client.get(thumbnail_url(file))
    assert response.status_code == 404
    assert response.json()["code"] == "blob_unavailable"
    assert response["Cache-Control"] == "no-store"


@pytest.mark.parametrize(
    "value", ["..", "%2e%2e", "test123", "A" * 32, "0" * 31, "0" * 33, "0" * 32 + "%0a"]
)
@pytest.mark.django_db
def test_only_real_hashes_reach_the_file_system(
    client: Client, value: str, master_dir: Path
) -> None:
    response = client.get(f"/thumbnails/{value}")
    assert response.status_code == 404
    assert not list(master_dir.iterdir())


@pytest.mark.django_db
def test_a_thumbnail_takes_no_writes() -> None:
    response = Client(enforce_csrf_checks=True).post(f"/thumbnails/{'0' * 32}")
    assert response.status_code == 405
    assert "GET" in response["Allow"]
