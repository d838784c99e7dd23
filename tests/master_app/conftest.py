import sqlite3
from collections.abc import Iterator

import pytest
from django.db import OperationalError
from pytest_django import Settings

from master_app import metrics
from master_app.admin import dashboard
from master_app.database_check import check_database
from master_app.replica_health import HealthCounter
from tests.support.blob_server import BlobServer, serve_blobs


@pytest.fixture(autouse=True)
def quick_passwords(settings: Settings) -> None:
    """Hash passwords cheaply: most tests of the admin sign somebody in."""
    settings.PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]


@pytest.fixture(autouse=True)
def nothing_counted_before(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let each test have its own count of replicas, however long the one before took."""
    counter = HealthCounter()
    monkeypatch.setattr(dashboard, "HEALTH_COUNTER", counter)
    monkeypatch.setattr(metrics, "HEALTH_COUNTER", counter)
    monkeypatch.setattr(check_database, "_ended", None)


@pytest.fixture
def failing_database() -> dict[str, OperationalError]:
    """Return what Django raises for SQLite's errors, by kind."""
    codes = {
        "locked": sqlite3.SQLITE_BUSY,
        "read_only": sqlite3.SQLITE_READONLY | 5 << 8,
        "full": sqlite3.SQLITE_FULL,
        "failed": sqlite3.SQLITE_IOERR | 4 << 8,
    }
    return {kind: _operational_error(code) for kind, code in codes.items()}


def _operational_error(code: int) -> OperationalError:
    cause = sqlite3.OperationalError("as SQLite says it")
    cause.sqlite_errorcode = code
    error = OperationalError(str(cause))
    error.__cause__ = cause
    return error


@pytest.fixture
def blob_server() -> Iterator[BlobServer]:
    with serve_blobs() as server:
        yield server
