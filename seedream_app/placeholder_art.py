"""Draws the placeholder's pictures: colours and shapes from the prompt's digest, and its words."""

import hashlib
import math
import random
import re
from collections.abc import Sequence
from functools import lru_cache
from io import BytesIO
from typing import Final

from PIL import Image, ImageColor, ImageDraw, ImageFilter, ImageFont, ImageOps, PngImagePlugin

from seedream_app.images import CheckedImage

LABEL: Final = "Placeholder image"
# Larger pictures would show nothing more, and take a second each to draw.
LONGEST_SIDE: Final = 2048
SHORTEST_SIDE: Final = 64
MAX_ASPECT: Final = 16
DEFAULT_SIZE: Final = "1K"
MAX_LINES: Final = 5
# More than the lines can show; measuring thousands takes seconds.
MAX_CHARACTERS: Final = 400

_SIDES_OF_WORDS: Final = {"1K": 1024, "2K": 2048, "3K": 2048, "4K": 2048}
_SHAPE_PATTERN: Final = re.compile(r"(square|portrait|landscape)(?:_hd|_(\d{1,2})_(\d{1,2}))?")
_PIXELS_PATTERN: Final = re.compile(r"(\d{2,5})x(\d{2,5})")
_WHITE: Final = (255, 255, 255)
_SUPERSAMPLING: Final = 2
_MESH: Final = 4
# From dark to light: at dawn, sea, forest, embers, violets, ice, clay, night.
_PALETTES: Final = (
    ("#1b1f4b", "#5b3b8c", "#c2538b", "#f28c6f", "#ffd29d"),
    ("#06283d", "#0f5e82", "#1f9fb5", "#7fd8be", "#f4f1c9"),
    ("#0b2b26", "#1a5e4a", "#3f9c6d", "#9fd07a", "#f6e9a8"),
    ("#2b0b23", "#7a1e48", "#c83c4d", "#f4775a", "#ffc57a"),
    ("#160f3d", "#3d2a8c", "#7656d6", "#c18bf0", "#ffd6ec"),
    ("#0d1b3e", "#24479e", "#4f86d9", "#9cc9f2", "#eaf6ff"),
    ("#2d1a1f", "#7b3b3b", "#c46a4a", "#e9a66b", "#f7dfb4"),
    ("#070b24", "#1d2a6b", "#3f4fb8", "#8a6fd1", "#f3a6c8"),
)
# Pillow's built-in font knows ASCII alone; these are common on Linux, Windows and macOS.
_BUILT_IN_FONT: Final = ""
_PROBE_POINTS: Final = 20
_FONTS: Final = (
    _BUILT_IN_FONT,
    "DejaVuSans.ttf",
    "arial.ttf",
    "Arial Unicode.ttf",
    "NotoSansCJK-Regular.ttc",
    "msyh.ttc",
    "PingFang.ttc",
)

Font = ImageFont.FreeTypeFont | ImageFont.ImageFont


def canvas_size(size: str | None) -> tuple[int, int]:
    """Return width and height for a `size` of any provider, scaled to fit; ValueError otherwise."""
    size = size or DEFAULT_SIZE
    if size in _SIDES_OF_WORDS:
        return _SIDES_OF_WORDS[size], _SIDES_OF_WORDS[size]
    if found := _PIXELS_PATTERN.fullmatch(size):
        width, height = int(found[1]), int(found[2])
        scale = min(1.0, LONGEST_SIDE / max(width, height))
    elif found := _SHAPE_PATTERN.fullmatch(size):
        # The names give the long side first: `portrait_16_9` is 9 wide and 16 high.
        long, short = int(found[2] or 1), int(found[3] or 1)
        width, height = (short, long) if found[1] == "portrait" else (long, short)
        scale = _SIDES_OF_WORDS[DEFAULT_SIZE] / max(width, height, 1)
    else:
        raise ValueError(size)
    width, height = round(width * scale), round(height * scale)
    if min(width, height) < SHORTEST_SIDE or max(width, height) > MAX_ASPECT * min(width, height):
        raise ValueError(size)
    return width, height


def draw_placeholder(
    prompt: str, *, size: str | None, references: Sequence[CheckedImage], variant: int
) -> bytes:
    """Return a PNG; the same arguments give the same picture."""
    seed = hashlib.sha256(f"{variant}:{prompt}".encode())
    for reference in references:
        seed.update(reference.content)
    chance = random.Random(seed.digest())  # noqa: S311  It draws pictures, not secrets.
    width, height = canvas_size(size)
    palette = chance.choice(_PALETTES)
    picture = _gradient(width, height, palette, chance)
    picture = _glows(picture, palette, chance)
    picture = _rings(picture, chance)
    for position, reference in enumerate(references):
        picture = _card(picture, reference, position, len(references))
    picture = _shade_below(picture)
    _write(picture, prompt[:MAX_CHARACTERS])
    return _png(picture, prompt)


def _gradient(
    width: int, height: int, palette: Sequence[str], chance: random.Random
) -> Image.Image:
    """Return a mesh of colours, light above and dark below, smooth in between."""
    mesh = Image.new("RGB", (_MESH, _MESH))
    for row in range(_MESH):
        for column in range(_MESH):
            depth = row / (_MESH - 1) * 3 + chance.uniform(-1.1, 1.1)
            shade = palette[max(0, min(3, round(3 - depth)))]
            mesh.putpixel((column, row), ImageColor.getrgb(shade))
    return mesh.resize((width, height), Image.Resampling.BICUBIC)


def _glows(picture: Image.Image, palette: Sequence[str], chance: random.Random) -> Image.Image:
    """Lay soft discs of light over the picture."""
    width, height = picture.size
    # They are blurred anyway, so a small canvas does and is much faster.
    small = (max(width // 8, 8), max(height // 8, 8))
    reach = min(small)
    for colour in (palette[3], palette[2], palette[4], palette[3]):
        mask = Image.new("L", small)
        x, y = chance.uniform(0, small[0]), chance.uniform(0, small[1] * 0.8)
        radius = reach * chance.uniform(0.16, 0.34)
        ImageDraw.Draw(mask).ellipse((x - radius, y - radius, x + radius, y + radius), fill=170)
        mask = mask.filter(ImageFilter.GaussianBlur(reach * 0.09))
        light = Image.new("RGB", picture.size, colour)
        picture.paste(light, mask=mask.resize(picture.size, Image.Resampling.BICUBIC))
    return picture


def _rings(picture: Image.Image, chance: random.Random) -> Image.Image:
    """Draw thin circles around one point, as on water."""
    width, height = picture.size
    scale = _SUPERSAMPLING
    mask = Image.new("L", (width * scale, height * scale))
    draw = ImageDraw.Draw(mask)
    x = width * scale * chance.uniform(0.55, 0.9)
    y = height * scale * chance.uniform(0.1, 0.45)
    unit = min(width, height) * scale
    gap = unit * chance.uniform(0.045, 0.07)
    for number in range(1, 10):
        radius = gap * number**1.25
        box = (x - radius, y - radius, x + radius, y + radius)
        draw.ellipse(box, outline=max(110 - 11 * number, 10), width=max(unit // 450, 1))
    disc = gap * 0.6
    draw.ellipse((x - disc, y - disc, x + disc, y + disc), fill=225)
    mask = mask.resize(picture.size, Image.Resampling.LANCZOS)
    picture.paste(_WHITE, mask=mask)
    return picture


def _card(picture: Image.Image, reference: CheckedImage, position: int, count: int) -> Image.Image:
    """Lay a reference image on the picture like a print on a table."""
    width, height = picture.size
    room = (int(width * 0.8 / count), int(height * 0.5))
    with Image.open(BytesIO(reference.content)) as opened:
        # Turned as its camera says; on white where it is transparent.
        upright = ImageOps.exif_transpose(opened).convert("RGBA")
    paper = Image.new("RGBA", upright.size, _WHITE)
    paper.alpha_composite(upright)
    photo = ImageOps.contain(paper, (max(room[0] - room[0] // 8, 8), max(room[1], 8)))
    border = max(min(width, height) // 60, 2)
    card = ImageOps.expand(photo, border, _WHITE)
    tilt = 4 if position % 2 == 0 else -3
    card = card.rotate(tilt, Image.Resampling.BICUBIC, expand=True)
    centre = (width * (position + 0.5) / count - width / 2) * 0.86 + width / 2
    left, top = round(centre - card.width / 2), round(height * 0.38 - card.height / 2)
    shadow = Image.new("L", picture.size)
    shadow.paste(card.getchannel("A").point(lambda alpha: alpha * 0.45), (left, top + border))
    picture.paste((0, 0, 0), mask=shadow.filter(ImageFilter.GaussianBlur(border)))
    picture.paste(card, (left, top), card)
    return picture


def _shade_below(picture: Image.Image) -> Image.Image:
    """Darken the lower part, so that white text can be read on any colours."""
    ramp = Image.linear_gradient("L").point(lambda value: max(0, value - 85) * 1.15)
    picture.paste((8, 10, 24), mask=ramp.resize(picture.size, Image.Resampling.BICUBIC))
    return picture


def _write(picture: Image.Image, prompt: str) -> None:
    """Write the prompt at the foot, and what the picture is above it."""
    width, height = picture.size
    draw = ImageDraw.Draw(picture, "RGBA")
    side = min(width, height)
    margin = side * 0.07
    small = ImageFont.load_default(max(side * 0.027, 8))
    lines, font = _fitted(prompt, width - 2 * margin, side)
    pitch = float(getattr(font, "size", 10)) * 1.25
    y = height - margin - pitch * len(lines)
    label_y = y - side * 0.055
    pad = side * 0.014
    box = draw.textbbox((margin + pad, label_y), LABEL, font=small, anchor="lm")
    pill = (box[0] - pad, box[1] - pad * 0.8, box[2] + pad, box[3] + pad * 0.8)
    draw.rounded_rectangle(pill, radius=(pill[3] - pill[1]) / 2, fill=(255, 255, 255, 56))
    draw.text((margin + pad, label_y), LABEL, font=small, fill=_WHITE, anchor="lm")
    for number, line in enumerate(lines):
        draw.text((margin, y + pitch * (number + 0.5)), line, font=font, fill=_WHITE, anchor="lm")


def _fitted(prompt: str, room: float, side: int) -> tuple[list[str], Font]:
    """Return the prompt in at most `MAX_LINES` lines, in the largest type that does it."""
    name, words = _drawable(prompt)
    for share in (0.085, 0.07, 0.058, 0.048, 0.04):
        font = _font(name, max(side * share, 9))
        lines = _wrapped(words, font, room)
        if len(lines) <= MAX_LINES and share * len(lines) <= 0.24:
            return lines, font
    return [*lines[: MAX_LINES - 1], lines[MAX_LINES - 1].rstrip(" .,") + " ..."], font


def _drawable(prompt: str) -> tuple[str, list[str]]:
    """Return the font that knows most of the prompt's characters, and the words it can draw.

    A prompt of which every font at hand would lose the most part is not written at all.
    """
    letters = {character for character in prompt if not character.isspace()}
    known = {name: _known(name, frozenset(letters)) for name in _FONTS}
    name = max(_FONTS, key=lambda name: len(known[name]))
    if len(known[name]) * 2 < len(letters):
        return _BUILT_IN_FONT, []
    kept = (letter for letter in prompt if letter.isspace() or letter in known[name])
    return name, "".join(kept).split()


def _known(name: str, letters: frozenset[str]) -> set[str]:
    """Return those of `letters` that the font has a shape for."""
    try:
        font = _font(name, _PROBE_POINTS)
    except OSError:
        return set()
    missing = _shape(font, "\uffff")
    return {
        letter for letter in letters if letter.isprintable() and _shape(font, letter) != missing
    }


@lru_cache(maxsize=64)
def _font(name: str, points: float) -> Font:
    """Return an installed font; OSError when this machine has none of that name."""
    if name == _BUILT_IN_FONT:
        return ImageFont.load_default(points)
    return ImageFont.truetype(name, points)


def _shape(font: Font, character: str) -> bytes:
    mask = font.getmask(character)
    return bytes(mask) + bytes(str(mask.size), "ascii")


def _wrapped(words: Sequence[str], font: Font, room: float) -> list[str]:
    """Break `words` into lines of at most `room` pixels, and words that are longer than a line."""
    lines: list[str] = []
    line = ""
    for word in words:
        candidate = f"{line} {word}".strip()
        if font.getlength(candidate) <= room:
            line = candidate
            continue
        if line:
            lines.append(line)
        line = word
        while font.getlength(line) > room:
            share = max(1, math.floor(len(line) * room / font.getlength(line)) - 1)
            lines.append(line[:share])
            line = line[share:]
    return [*lines, line] if line else lines


def _png(picture: Image.Image, prompt: str) -> bytes:
    described = PngImagePlugin.PngInfo()
    described.add_itxt("Description", prompt)
    described.add_text("Software", f"Mini-Dropbox, {LABEL.lower()}")
    buffer = BytesIO()
    picture.save(buffer, "PNG", pnginfo=described, compress_level=6)
    return buffer.getvalue()
