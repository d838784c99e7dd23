"""Secrets in files: made once, whole, and never empty."""

import os
import stat
from pathlib import Path

import pytest

from mini_dropbox import env, secret_files
from mini_dropbox.env import ConfigurationError

UNUSABLE = [b"", b"\n", b" \t\r\n", "gehörig".encode(), b"\xff\xfe"]


def test_the_first_call_makes_a_secret_that_only_its_owner_reads(tmp_path: Path) -> None:
    path = tmp_path / "master" / "secret_key"

    value, made = secret_files.read_or_create(path)

    assert made
    assert len(value) >= 32
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert list(path.parent.iterdir()) == [path]
    assert secret_files.read_or_create(path) == (value, False)


def test_a_new_secret_is_on_disk_with_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[int] = []
    fsync = os.fsync

    def recorded(descriptor: int) -> None:
        synced.append(stat.S_IFMT(os.fstat(descriptor).st_mode))
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", recorded)
    secret_files.read_or_create(tmp_path / "secret_key")

    assert synced == [stat.S_IFREG, stat.S_IFDIR]


def one_sentence(caught: pytest.ExceptionInfo[ConfigurationError], path: Path) -> bool:
    message = str(caught.value)
    return message.startswith(str(path)) and "\n" not in message and message.endswith(".")


@pytest.mark.parametrize("content", UNUSABLE)
@pytest.mark.parametrize("name", ["secret_key", "admin_password", "cluster_secret"])
def test_a_file_without_a_secret_is_refused_and_left_as_it_is(
    tmp_path: Path, name: str, content: bytes
) -> None:
    path = tmp_path / name
    path.write_bytes(content)

    with pytest.raises(ConfigurationError) as caught:
        secret_files.read_or_create(path)

    assert one_sentence(caught, path)
    assert path.read_bytes() == content


@pytest.mark.parametrize("content", UNUSABLE)
def test_a_node_refuses_a_cluster_secret_that_is_none(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "cluster_secret"
    path.write_bytes(content)

    with pytest.raises(ConfigurationError) as caught:
        secret_files.cluster_secret(env.read({"MINI_DROPBOX_DATA_DIR": str(tmp_path)}))

    assert one_sentence(caught, path)


def test_a_cluster_secret_that_cannot_be_read_is_refused_with_one_sentence(tmp_path: Path) -> None:
    path = tmp_path / "cluster_secret"
    path.mkdir()

    with pytest.raises(ConfigurationError) as caught:
        secret_files.cluster_secret(env.read({"MINI_DROPBOX_DATA_DIR": str(tmp_path)}))

    assert one_sentence(caught, path)
