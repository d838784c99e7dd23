"""Reads whole copies past the page cache, and says what their bytes are.

A node has it done by a process of its own. In one of its threads it would hold up requests: at the
lowest priority a thread that has the interpreter may wait long for a processor, and everybody
else waits for the interpreter.
"""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from pathlib import Path
from typing import IO, Any, Final, Protocol, cast

from node_app.blobstore import CHUNK_BYTES, BlobReader, digests_of
from node_app.blobwriter import Digests
from node_app.compression import DAMAGED, CompressedReader
from node_app.disk import storage_errors
from node_app.errors import BlobDamaged, BlobNotFound, StoreFailed
from node_app.giving_way import take_lowest_priority
from node_app.local_blobstore import LocalBlobReader, open_copy

PROJECT_DIR: Final = Path(__file__).resolve().parents[1]

# Called with how many bytes of the disk were read since the last time; what it raises ends the
# reading.
Rest = Callable[[int], None]


class Reading(Protocol):
    """Reads copies, on behalf of one thread."""

    def digests(self, path: Path, rest: Rest, *, every: int) -> Digests:
        """Read the copy whose plain form is, or was, at `path`, with a rest every so many bytes.

        BlobNotFound, BlobDamaged, or StoreFailed as the disk says.
        """

    def end(self) -> None:
        """Give up what is kept for further readings."""

    def interrupt(self) -> None:
        """End a reading that is under way, from any thread: it fails."""


class ReadingHere:
    """Reads in this process."""

    def digests(self, path: Path, rest: Rest, *, every: int) -> Digests:
        with closing(open_copy(str(path))) as reader, storage_errors():
            return digests_of(_pieces(reader, rest, every))

    def end(self) -> None:
        pass

    def interrupt(self) -> None:
        pass


class ReadingProcess:
    """Reads in a process that is started for the first copy, and for the next one after `end`.

    A question is a line of JSON, `{"path": …, "every": …}`. Answers are `{"read": …}`, after which
    an empty line says to go on, and in the end the digests or what is wrong. It ends with its
    input.
    """

    def __init__(self) -> None:
        self._process: subprocess.Popen[str] | None = None

    def digests(self, path: Path, rest: Rest, *, every: int) -> Digests:
        process = self._running()
        is_over = False
        try:
            answer = _ask(process, json.dumps({"path": str(path), "every": every}))
            while "read" in answer:
                rest(answer["read"])
                answer = _ask(process, "")
            is_over = True
        finally:
            if not is_over:
                # It waits for a word, or is dead.
                self.end()
        return _outcome(answer)

    def end(self) -> None:
        process, self._process = self._process, None
        if process is not None:
            # A line that it has not taken cannot be given to it any more.
            with suppress(OSError), process:
                process.kill()

    def interrupt(self) -> None:
        process = self._process
        if process is not None:
            process.kill()

    def _running(self) -> "subprocess.Popen[str]":
        if self._process is None:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "node_app.copy_reading"],
                cwd=PROJECT_DIR,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
            )
        return self._process


def _ask(process: "subprocess.Popen[str]", line: str) -> dict[str, Any]:
    """Return the answer to a line; StoreFailed when the process is dead."""
    questions, answers = cast("IO[str]", process.stdin), cast("IO[str]", process.stdout)
    try:
        questions.write(f"{line}\n")
        questions.flush()
        answer: dict[str, Any] = json.loads(answers.readline())
    except (OSError, ValueError):
        raise StoreFailed("The process that reads copies has ended.") from None
    return answer


def _outcome(answer: dict[str, Any]) -> Digests:
    if "md5" in answer:
        return Digests(**answer)
    if answer["failure"] == "missing":
        raise BlobNotFound("This node has no such blob.")
    if answer["failure"] == "damaged":
        raise BlobDamaged(DAMAGED)
    with storage_errors():
        raise OSError(answer["failure"], os.strerror(answer["failure"]))


def _pieces(reader: BlobReader, rest: Rest, every: int) -> Iterator[bytes]:
    """Yield a content piece by piece; the bytes that count are those of its file."""
    file = reader.file if isinstance(reader, CompressedReader) else reader
    if isinstance(file, LocalBlobReader):
        file.pass_cache_by()
    stored_share = getattr(file, "size", reader.size) / max(1, reader.size)
    unsaid = 0
    for offset in range(0, reader.size, CHUNK_BYTES):
        piece = reader.read_at(offset, CHUNK_BYTES)
        yield piece
        unsaid += len(piece)
        if unsaid >= every or offset + len(piece) >= reader.size:
            rest(round(unsaid * stored_share))
            unsaid = 0


def main() -> None:
    """Answer the questions of standard input."""
    # Who asks for the end closes the input, or kills.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    take_lowest_priority()
    if hasattr(os, "SCHED_IDLE"):
        # Whoever wants the processor has it at once.
        os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
    reading = ReadingHere()
    for line in sys.stdin:
        _say(_answer(reading, **json.loads(line)))


def _answer(reading: ReadingHere, path: str, every: int) -> dict[str, Any]:
    def rest(count: int) -> None:
        _say({"read": count})
        if not sys.stdin.readline():
            sys.exit()

    try:
        return vars(reading.digests(Path(path), rest, every=every))
    except BlobNotFound:
        return {"failure": "missing"}
    except BlobDamaged:
        return {"failure": "damaged"}
    except StoreFailed as error:
        if not isinstance(error.__cause__, OSError):
            raise
        return {"failure": error.__cause__.errno}


def _say(answer: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(answer) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
