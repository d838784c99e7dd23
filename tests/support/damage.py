"""What happens to files on a disk."""

import os
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

from node_app.local_blobstore import stamp_of

Damage = Callable[[Path], None]


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    write(path, bytes(data))


def flip_the_last(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    write(path, bytes(data))


def truncate(path: Path) -> None:
    write(path, path.read_bytes()[:-1])


def zero(path: Path) -> None:
    write(path, bytes(path.stat().st_size))


def empty(path: Path) -> None:
    write(path, b"")


def delete(path: Path) -> None:
    path.unlink()


def write(path: Path, data: bytes) -> None:
    """Write in place, so that it shows: the clock of file systems has coarse ticks."""
    before = path.stat()
    path.write_bytes(data)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns + 10**9))


def silence(database: Path, blob_hash: str, path: Path) -> None:
    """Let the index of a node take a file's present look for that of the good one."""
    with closing(sqlite3.connect(database, timeout=10)) as connection, connection:
        sql = "UPDATE blob SET stamp = ? WHERE hash = ?"
        assert connection.execute(sql, (stamp_of(path.stat()), blob_hash)).rowcount == 1


IN_PLACE = [flip, flip_the_last, truncate, zero, empty]
ALL = [*IN_PLACE, delete]
