"""Disks of a server's own that lose power, fill up and fail: loop-mounted ext4, and tmpfs."""

import contextlib
import fcntl
import os
import struct
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.waiting import eventually

MIB = 1024 * 1024
# ext4's ioctl 'X', 125 stops a file system at once. Source: Linux, include/uapi/linux/ext4.h
SHUTDOWN = (2 << 30) | (4 << 16) | (ord("X") << 8) | 125
# Nothing that has not reached the disk by itself is written any more.
WITHOUT_FLUSH = struct.pack("I", 2)

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root may mount file systems")


class Disk:
    """An ext4 file system in a file, mounted on `folder`."""

    def __init__(self, image: Path, folder: Path, *, mebibytes: int) -> None:
        self.folder = folder
        self._image = image
        with image.open("wb") as file:
            file.truncate(mebibytes * MIB)
        _run("mkfs.ext4", "-q", "-F", str(image))
        folder.mkdir(parents=True, exist_ok=True)
        self._mount()

    def cut_power(self) -> None:
        """Let nothing more reach the disk, as if its machine had stopped in this moment."""
        descriptor = os.open(self.folder, os.O_RDONLY)
        try:
            fcntl.ioctl(descriptor, SHUTDOWN, WITHOUT_FLUSH)
        finally:
            os.close(descriptor)
        self._assert_nothing_can_be_written()

    def become_read_only(self) -> None:
        """Do what ext4 does when it finds its disk broken."""
        _run("mount", "-o", "remount,abort", str(self.folder))
        self._assert_nothing_can_be_written()

    def mount_again(self) -> None:
        """Come back with what has reached the disk; whoever had files open must have ended."""
        unmount(self.folder)
        self._mount()

    def _assert_nothing_can_be_written(self) -> None:
        with pytest.raises(OSError, match=r"Input/output|Read-only"):
            (self.folder / "written").touch()

    def _mount(self) -> None:
        _run("mount", "-o", "loop", str(self._image), str(self.folder))


@contextlib.contextmanager
def ext4(image: Path, folder: Path, *, mebibytes: int = 192) -> Iterator[Disk]:
    """Mount a new ext4 file system on `folder`, and unmount it in the end."""
    disk = Disk(image, folder, mebibytes=mebibytes)
    try:
        yield disk
    finally:
        unmount(folder)


@contextlib.contextmanager
def tmpfs(folder: Path, *, mebibytes: int, inodes: int = 100_000) -> Iterator[None]:
    """Mount a file system of this size on `folder`, and unmount it in the end."""
    folder.mkdir(parents=True, exist_ok=True)
    options = f"size={mebibytes}m,nr_inodes={inodes}"
    _run("mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder))
    try:
        yield
    finally:
        unmount(folder)


@contextlib.contextmanager
def filled(folder: Path, *, leaving: int = 0) -> Iterator[None]:
    """Take all room of a file system but `leaving` bytes, and give it back in the end."""
    ballast = folder / "ballast"
    try:
        with ballast.open("wb") as file:
            # Whoever writes there as well may take some of it first.
            eventually(lambda: _has_filled(file.fileno(), leaving), what=f"{folder} is full")
        yield
    finally:
        ballast.unlink()


def _has_filled(ballast: int, leaving: int) -> bool:
    """Let a file take all room but `leaving` bytes; return whether no more than that is left."""
    room = os.fstatvfs(ballast)
    free = room.f_bavail * room.f_frsize - leaving
    if free > 0:
        with contextlib.suppress(OSError):
            os.posix_fallocate(ballast, os.fstat(ballast).st_size, free)
    return free <= 0


@contextlib.contextmanager
def without_inodes(folder: Path) -> Iterator[None]:
    """Take all inodes of a file system, and give them back in the end."""
    crowd = folder / "crowd"
    crowd.mkdir()
    try:
        with contextlib.suppress(OSError):
            for number in range(os.statvfs(folder).f_favail + 1):
                (crowd / str(number)).touch()
        yield
    finally:
        for path in crowd.iterdir():
            path.unlink()
        crowd.rmdir()


def unmount(folder: Path) -> None:
    """Unmount a file system as soon as nobody uses it; at once, but lazily, after a while."""
    try:
        eventually(lambda: _has_unmounted(folder), 10, what=f"{folder} is unmounted")
    except AssertionError:
        _run("umount", "-l", str(folder))
        raise


def _has_unmounted(folder: Path) -> bool:
    return subprocess.run(["umount", str(folder)], check=False, capture_output=True).returncode == 0


def _run(*command: str) -> None:
    subprocess.run(command, check=True, capture_output=True, timeout=60)
