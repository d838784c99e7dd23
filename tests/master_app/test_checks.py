"""Deployment mistakes have numbers, and a normal checkout has none of them."""

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from django.core import checks
from pytest_django import Settings

from mini_dropbox import secret_files
from mini_dropbox.env import SeedreamProvider

Configure = Callable[..., None]


@pytest.fixture
def configure(settings: Settings, tmp_path: Path) -> Configure:
    """Set fields of the environment's settings; the data folder is an empty one."""
    tmp_path.chmod(0o755)
    settings.DEBUG = False
    settings.MASTER_DIR = tmp_path / "master"
    settings.MASTER_DIR.mkdir(mode=0o755)

    def set_fields(**fields: Any) -> None:
        fields = {"data_dir": tmp_path, "cluster_secret": None, "secret_key": None, **fields}
        settings.ENV = dataclasses.replace(settings.ENV, **fields)

    set_fields()
    return set_fields


def found() -> list[str]:
    """Return the numbers of what is wrong; each says what to do about it."""
    messages = checks.run_checks()
    assert all(message.hint for message in messages)
    return [str(message.id) for message in messages]


def test_a_first_start_makes_no_mistakes(configure: Configure, settings: Settings) -> None:
    secret_files.read_or_create(settings.ENV.data_dir / "cluster_secret")
    secret_files.read_or_create(settings.MASTER_DIR / "secret_key")
    secret_files.read_or_create(settings.MASTER_DIR / "admin_password")

    assert found() == []


def test_debugging(configure: Configure, settings: Settings) -> None:
    settings.DEBUG = True

    assert found() == ["mini_dropbox.W001"]


@pytest.mark.parametrize("name", ["cluster_secret", "master/secret_key", "master/admin_password"])
@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620])
def test_a_secret_that_others_can_read_or_change(
    configure: Configure, settings: Settings, name: str, mode: int
) -> None:
    path = settings.ENV.data_dir / name
    path.write_text("a secret of many characters")
    path.chmod(mode)

    assert found() == ["mini_dropbox.W002"]
    path.chmod(0o600)
    assert found() == []


def test_any_host(configure: Configure, settings: Settings) -> None:
    settings.ALLOWED_HOSTS = ["files.example", "*"]

    assert found() == ["mini_dropbox.W003"]


def test_a_single_copy(configure: Configure) -> None:
    configure(replication_factor=1)

    assert found() == ["mini_dropbox.W004"]


@pytest.mark.parametrize("name", [".", "master"])
def test_a_folder_that_others_can_write(
    configure: Configure, settings: Settings, name: str
) -> None:
    folder = settings.ENV.data_dir / name
    folder.chmod(0o775)
    assert found() == []

    folder.chmod(0o757)
    assert found() == ["mini_dropbox.W005"]


def test_one_key_for_two_uses(configure: Configure) -> None:
    key = "a key of many characters"
    configure(cluster_secret=key, secret_key=key)

    assert found() == ["mini_dropbox.W006"]
    configure(cluster_secret=key, secret_key=f"another {key}")
    assert found() == []


@pytest.mark.parametrize("provider", [SeedreamProvider.ARK, SeedreamProvider.KIE])
def test_a_provider_without_a_key(configure: Configure, provider: SeedreamProvider) -> None:
    configure(seedream_provider=provider, seedream_api_key=None)

    assert found() == ["mini_dropbox.W007"]
    configure(seedream_provider=provider, seedream_api_key="key")
    assert found() == []
