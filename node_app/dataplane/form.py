"""Reads an upload form as it streams in; the file's bytes go to a writer in large pieces."""

import mimetypes
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from multipart import (
    MultipartError,
    MultipartSegment,
    ParserLimitReached,
    PushMultipartParser,
    parse_options_header,
)

from mini_dropbox.wire import WireError, clean_file_name
from node_app.dataplane.http import Request, check_complete
from node_app.dataplane.receiving import PipedWriter
from node_app.errors import BadForm, BadName, LengthRequired, MissingFile, TooLarge

FIELD: Final = "file"
# Boundaries, part headers and other fields: what a form may hold beside the file.
OVERHEAD_BYTES: Final = 64 * 1024
MAX_CONTENT_TYPE: Final = 127
UNKNOWN_TYPE: Final = "application/octet-stream"


@dataclass(frozen=True)
class FormFile:
    """What the form says of its file."""

    name: str
    content_type: str


async def read_form(request: Request, output: PipedWriter, limit: int) -> FormFile:
    """Read the whole form, the field `file` into `output`.

    MissingFile, BadForm, TooLarge, Truncated or LengthRequired say what is wrong with it.
    """
    announced = request.content_length()
    if announced is None and b"transfer-encoding" not in request.headers:
        raise LengthRequired("Say how long the body is: send Content-Length.")
    if announced is not None and announced > limit + OVERHEAD_BYTES:
        raise TooLarge(f"The file is over the limit of {limit} bytes.")
    reader = _FormReader(_boundary(request), limit, announced)
    try:
        await _read_chunks(request, reader, output)
        check_complete(reader.received, announced)
        reader.close()
    except ParserLimitReached as error:
        message = "The form has more parts, or longer part headers, than an upload needs."
        raise BadForm(message) from error
    except MultipartError as error:
        # What the parser says more than its first sentence is meant for programmers.
        message = (
            f"The form is broken ({error.args[0]}); send multipart/form-data with its closing "
            "boundary."
        )
        raise BadForm(message) from error
    if reader.file is None:
        raise MissingFile(reader.what_is_missing())
    await output.finish()
    return reader.file


async def _read_chunks(request: Request, reader: "_FormReader", output: PipedWriter) -> None:
    def take(chunk: bytes | bytearray) -> None:
        for piece in reader.file_bytes(chunk):
            output.growth.total = reader.probable_size
            output.write_now(piece)

    if not await request.read_large_body(take):
        while chunk := await request.chunk():
            for piece in reader.file_bytes(chunk):
                await output.write(piece)


class _FormReader:
    """Finds the first file of the field in a form that comes in chunks."""

    def __init__(self, boundary: str, limit: int, announced: int | None) -> None:
        self._announced = announced
        self._end = len(f"\r\n--{boundary}--\r\n")
        self._parser = PushMultipartParser(
            boundary,
            max_segment_count=100,
            max_header_size=8 * 1024,
            # It keeps every byte as it is; `_decoded` knows better what they mean.
            header_charset="latin-1",
        )
        self._limit = limit
        self._parts = 0
        self._in_file = False
        self._is_text = False
        self.received = 0
        self.file: FormFile | None = None
        # Of a form that has nothing but the file, and ends as forms do.
        self.probable_size: int | None = None

    def what_is_missing(self) -> str:
        """Return a sentence for a form without a file."""
        if self._is_text:
            return f"The field {FIELD!r} is text, not a file; with curl, write {FIELD}=@NAME."
        return f"Send the file in the form field {FIELD!r}."

    def file_bytes(self, chunk: bytes | bytearray) -> Iterator[bytes | bytearray]:
        """Yield what the form's next bytes have of the file."""
        self.received += len(chunk)
        if self.received > self._limit + OVERHEAD_BYTES:
            raise TooLarge(f"The form is over the limit of {self._limit} bytes for a file.")
        for event in self._parser.parse(chunk):
            if event is None:
                self._in_file = False
            elif isinstance(event, MultipartSegment):
                self._begin_part(event)
                self._guess_size(chunk)
            elif self._in_file:
                yield event

    def _guess_size(self, chunk: bytes | bytearray) -> None:
        """Tell the file's size if all before it is in the form's first chunk."""
        self._parts += 1
        self.probable_size = None
        if self._announced is not None and self._parts == 1 and self.received == len(chunk):
            head = chunk.index(b"\r\n\r\n") + 4
            self.probable_size = self._announced - head - self._end

    def close(self) -> None:
        """MultipartError unless the form has ended."""
        self._parser.close()

    def _begin_part(self, part: MultipartSegment) -> None:
        self._is_text |= part.name == FIELD and part.filename is None
        # A second file under the same field is passed over, as the original does.
        if part.name == FIELD and part.filename is not None and self.file is None:
            name = _file_name(_decoded(part.filename))
            self.file = FormFile(name, media_type(name, part.content_type))
            self._in_file = True


def _boundary(request: Request) -> str:
    media, options = parse_options_header(request.header(b"content-type") or "")
    boundary = str(options.get("boundary", ""))
    if media != "multipart/form-data" or not boundary:
        raise MissingFile(f"Send multipart/form-data with the file in the field {FIELD!r}.")
    if len(boundary) > 200 or not boundary.isascii():
        raise BadForm("The form's boundary is not usable; let your HTTP client choose it.")
    return boundary


def _decoded(value: str) -> str:
    """Return a form's text, which is UTF-8, or Windows' Western characters from old clients."""
    data = value.encode("latin-1")
    try:
        return data.decode()
    except UnicodeDecodeError:
        return data.decode("cp1252", "replace")


def _file_name(value: str) -> str:
    try:
        return clean_file_name(value)
    except WireError as error:
        raise BadName(str(error)) from error


def media_type(name: str, claimed: str | None) -> str:
    """Return the claimed media type if it says something, else the one that the name suggests."""
    text = (claimed or "").partition(";")[0].strip().lower()
    usable = text.isascii() and text.isprintable() and text.count("/") == 1
    if usable and len(text) <= MAX_CONTENT_TYPE and text != UNKNOWN_TYPE:
        return text
    return mimetypes.guess_type(name)[0] or UNKNOWN_TYPE
