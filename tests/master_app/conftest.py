from collections.abc import Iterator

import pytest
from pytest_django import Settings

from master_app.admin import dashboard
from master_app.replica_health import HealthCounter
from tests.support.blob_server import BlobServer, serve_blobs


@pytest.fixture(autouse=True)
def quick_passwords(settings: Settings) -> None:
    """Hash passwords cheaply: most tests of the admin sign somebody in."""
    settings.PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]


@pytest.fixture(autouse=True)
def nothing_counted_before(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let each test have its own count of replicas, however long the one before took."""
    monkeypatch.setattr(dashboard, "HEALTH_COUNTER", HealthCounter())


@pytest.fixture
def blob_server() -> Iterator[BlobServer]:
    with serve_blobs() as server:
        yield server
