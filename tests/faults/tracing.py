"""System calls of a running server that fail because a test says so."""

import contextlib
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from tests.support.waiting import eventually

needs_strace = pytest.mark.skipif(shutil.which("strace") is None, reason="strace is not installed")

SYNCS = ("fsync", "fdatasync", "syncfs")
READS = ("read", "pread64", "preadv", "preadv2", "sendfile")


@contextlib.contextmanager
def failing(
    process: psutil.Process, calls: tuple[str, ...], *paths: Path, error: str = "EIO"
) -> Iterator[None]:
    """Let these calls of a process fail, on these files alone if there are any.

    AssertionError when none has failed in the end.
    """
    names = ",".join(calls)
    options = ["-e", f"trace={names}", "-e", f"inject={names}:error={error}"]
    where = [option for path in paths for option in ("-P", str(path))]
    with tempfile.NamedTemporaryFile() as trace:
        command = ["strace", "-f", "-qq", "-o", trace.name, *options, *where]
        tracer = subprocess.Popen([*command, "-p", str(process.pid)])
        try:
            eventually(lambda: _is_traced(process, tracer.pid), what="strace is attached")
            yield
        finally:
            tracer.terminate()
            tracer.wait(10)
        assert b"(INJECTED)" in Path(trace.name).read_bytes(), "no call has failed"


def _is_traced(process: psutil.Process, tracer: int) -> bool:
    """Tell whether every thread of a process is traced."""
    tasks = Path(f"/proc/{process.pid}/task").iterdir()
    return all(f"TracerPid:\t{tracer}\n" in (task / "status").read_text() for task in tasks)
