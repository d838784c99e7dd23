"""How the first page shows a file: its kind, and a name that is cut in the middle."""

import unicodedata
from pathlib import PurePosixPath
from typing import Final

from django import template

from master_app.models import File
from master_app.thumbnails import thumbnail_url
from master_app.wording import human_size, time_ago

register = template.Library()

_KIND_OF_SUFFIX: Final = {
    suffix: kind
    for kind, suffixes in {
        "image": "jpg jpeg png webp gif bmp tif tiff svg heic avif ico psd",
        "video": "mp4 mov mkv webm avi m4v mpg",
        "audio": "mp3 wav flac ogg oga m4a aac opus aiff",
        "archive": "zip tar gz tgz bz2 xz zst 7z rar iso dmg deb rpm jar whl",
        "sheet": "csv tsv xls xlsx ods numbers parquet",
        "slides": "ppt pptx odp key",
        "code": "py js ts go rs c h cpp java rb php sh html css json yaml yml toml xml sql ipynb",
        "pdf": "pdf",
        "text": "txt md rst log doc docx odt rtf tex pages epub",
    }.items()
    for suffix in suffixes.split()
}
_KIND_OF_MAIN_TYPE: Final = {"image": "image", "video": "video", "audio": "audio", "text": "text"}

LONG_NAME_CHARACTERS: Final = 24
TAIL_CHARACTERS: Final = 9
_ZERO_WIDTH_JOINER: Final = "\u200d"


@register.filter
def kind(file: File) -> str:
    """Return the icon's name for a file, from its suffix or else its content type."""
    suffix = PurePosixPath(file.name).suffix.lstrip(".").lower()
    main_type = file.content_type.partition("/")[0]
    return _KIND_OF_SUFFIX.get(suffix) or _KIND_OF_MAIN_TYPE.get(main_type, "file")


register.filter("thumbnail_url", thumbnail_url)
register.filter("human_size", human_size)
register.filter("time_ago", time_ago)


@register.filter
def name_parts(name: str) -> tuple[str, str]:
    """Split a long name so that its start may be cut and its end, with the suffix, stays."""
    if len(name) <= LONG_NAME_CHARACTERS:
        return name, ""
    cut = len(name) - TAIL_CHARACTERS
    # What a reader sees as one character stays whole: marks and joiners belong to what precedes.
    while cut > 0 and (_joins(name[cut]) or name[cut - 1] == _ZERO_WIDTH_JOINER):
        cut -= 1
    return name[:cut], name[cut:]


def _joins(character: str) -> bool:
    return character == _ZERO_WIDTH_JOINER or unicodedata.category(character).startswith("M")
