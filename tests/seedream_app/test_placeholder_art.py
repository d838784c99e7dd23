"""The placeholder's pictures."""

from io import BytesIO

import pytest
from PIL import Image

from seedream_app.images import ALL_FORMATS, CheckedImage, check_image
from seedream_app.placeholder_art import LABEL, canvas_size, draw_placeholder
from tests.seedream_app.fakes.pictures import picture


def draw(
    prompt: str, size: str | None = "512x512", references: tuple[CheckedImage, ...] = ()
) -> bytes:
    return draw_placeholder(prompt, size=size, references=references, variant=0)


def test_the_same_prompt_gives_the_same_picture() -> None:
    assert draw("a cat") == draw("a cat")


def test_other_prompts_references_and_variants_give_other_pictures() -> None:
    reference = check_image(picture(), formats=ALL_FORMATS)
    pictures = {
        draw("a cat"),
        draw("a dog"),
        draw("a cat", references=(reference,)),
        draw("a cat", references=(reference, reference)),
        draw_placeholder("a cat", size="512x512", references=(), variant=1),
    }
    assert len(pictures) == 5


def test_it_says_what_it_is_and_of_what() -> None:
    with Image.open(BytesIO(draw("a cat"))) as image:
        assert image.info["Description"] == "a cat"
        assert LABEL.lower() in image.info["Software"]


def test_it_is_a_colourful_picture() -> None:
    with Image.open(BytesIO(draw("a cat"))) as image:
        assert len(image.getcolors(512 * 512) or []) > 1000


def test_a_reference_is_to_be_seen() -> None:
    red = check_image(picture(400, 400, colour="#ff0000"), formats=ALL_FORMATS)
    with Image.open(BytesIO(draw("a cat", references=(red,)))) as image:
        counts = {colour: count for count, colour in image.getcolors(512 * 512) or []}
    assert counts.get((255, 0, 0), 0) > 2000


@pytest.mark.parametrize("prompt", ["x" * 5000, "word " * 1000, "赛博朋克", "🦊", "\u202e\u0007 a"])
def test_any_prompt_can_be_drawn(prompt: str) -> None:
    check_image(draw(prompt), formats=ALL_FORMATS)


@pytest.mark.parametrize("size", ["64x64", "64x1024", "1024x64", "landscape_21_9"])
@pytest.mark.parametrize("count", [0, 2])
def test_any_shape_can_be_drawn(size: str, count: int) -> None:
    tall = check_image(picture(30, 400), formats=ALL_FORMATS)
    drawn = check_image(draw("a cat on a mat", size, (tall,) * count), formats=ALL_FORMATS)
    assert (drawn.width, drawn.height) == canvas_size(size)


@pytest.mark.parametrize(
    ("size", "canvas"),
    [
        (None, (1024, 1024)),
        ("1K", (1024, 1024)),
        ("2K", (2048, 2048)),
        ("4K", (2048, 2048)),
        ("4096x2048", (2048, 1024)),
        ("800x600", (800, 600)),
        ("square_hd", (1024, 1024)),
        ("portrait_16_9", (576, 1024)),
        ("landscape_4_3", (1024, 768)),
    ],
)
def test_every_providers_sizes_are_known(size: str | None, canvas: tuple[int, int]) -> None:
    assert canvas_size(size) == canvas


@pytest.mark.parametrize("size", ["huge", "0x0", "10x10", "99999x64", "64x", "portrait_0_0"])
def test_other_sizes_are_refused(size: str) -> None:
    with pytest.raises(ValueError, match=size):
        canvas_size(size)
