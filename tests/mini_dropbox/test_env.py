"""Settings: read once, typed, and refused with one line that says what is wrong."""

import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mini_dropbox import env
from mini_dropbox.env import (
    AuthMode,
    BlobStoreKind,
    Compression,
    ConfigurationError,
    Env,
    Role,
    SeedreamProvider,
    parse_base_url,
)


def read(**settings: str) -> Env:
    return env.read({f"MINI_DROPBOX_{name}": value for name, value in settings.items()})


def test_nothing_has_to_be_set() -> None:
    settings = read()

    assert settings.role is Role.MASTER
    assert settings.data_dir == env.PROJECT_DIR / "data"
    assert settings.node_id == "8001"
    assert settings.node_url == "http://127.0.0.1:8001"
    assert settings.master_urls == ("http://127.0.0.1:9000",)
    assert (settings.replication_factor, settings.write_quorum) == (2, 1)
    assert settings.max_upload_bytes == 10 * 1024 * 1024
    assert settings.heartbeat_seconds == 2.0
    assert settings.auth is AuthMode.AUTO
    assert settings.blob_store is BlobStoreKind.LOCAL
    assert settings.blob_storage_options == {}
    assert settings.compression is Compression.ZSTD
    assert settings.compress_after_seconds == 60.0
    assert (settings.scrub_days, settings.scrub_mb_per_second) == (30.0, 20.0)
    assert settings.seedream_provider is None
    assert not settings.debug
    assert settings.cluster_secret is settings.secret_key is None


def test_every_setting_is_read() -> None:
    settings = read(
        ROLE="node",
        DATA_DIR="/srv/files",
        NODE_ID="rack-3_a",
        NODE_URL="https://files.example:8443/node/",
        MASTER_URL="http://one:9000, http://two:9000/",
        REPLICATION_FACTOR="3",
        WRITE_QUORUM="2",
        MAX_UPLOAD_BYTES="1",
        CLUSTER_SECRET="a secret of many characters",
        HEARTBEAT_SECONDS="0.5",
        AUTH="open",
        SECRET_KEY="a key of many characters",
        ALLOWED_HOSTS="files.example, 10.0.0.1,",
        DEBUG="yes",
        LOG_LEVEL="debug",
        BLOB_STORE="storage",
        BLOB_STORAGE_BACKEND="some.Storage",
        BLOB_STORAGE_OPTIONS='{"bucket_name": "b", "use_ssl": false}',
        COMPRESSION="off",
        COMPRESS_AFTER_SECONDS="0",
        SCRUB_DAYS="7",
        SCRUB_MB_PER_SECOND="0.5",
        SEEDREAM_PROVIDER="ark",
    )

    assert settings.role is Role.NODE
    assert settings.data_dir == Path("/srv/files")
    assert settings.node_id == "rack-3_a"
    assert settings.node_url == "https://files.example:8443/node"
    assert settings.master_urls == ("http://one:9000", "http://two:9000")
    assert (settings.replication_factor, settings.write_quorum) == (3, 2)
    assert settings.max_upload_bytes == 1
    assert settings.cluster_secret == "a secret of many characters"
    assert settings.heartbeat_seconds == 0.5
    assert settings.auth is AuthMode.OPEN
    assert settings.secret_key == "a key of many characters"
    assert settings.allowed_hosts == ("files.example", "10.0.0.1")
    assert settings.debug
    assert settings.log_level == "DEBUG"
    assert settings.blob_store is BlobStoreKind.STORAGE
    assert settings.blob_storage_backend == "some.Storage"
    assert settings.blob_storage_options == {"bucket_name": "b", "use_ssl": False}
    assert settings.compression is Compression.OFF
    assert settings.compress_after_seconds == 0
    assert (settings.scrub_days, settings.scrub_mb_per_second) == (7.0, 0.5)
    assert settings.seedream_provider is SeedreamProvider.ARK


BAD_VALUES = [
    ("ROLE", "slave", "one of master, node"),
    ("NODE_ID", "../8001", "letters"),
    ("NODE_ID", "-8001", "letters"),
    ("NODE_ID", "a" * 65, "1 to 64"),
    ("NODE_ID", "8001\nX-Header: 1", "letters"),
    ("NODE_URL", "127.0.0.1:8001", "http://"),
    ("NODE_URL", "ftp://host", "http://"),
    ("NODE_URL", "http://", "http://"),
    ("NODE_URL", "http://host:port", "http://"),
    ("NODE_URL", "http://host:70000", "http://"),
    ("NODE_URL", "http://[::1", "http://"),
    ("NODE_URL", "http://host?query", "http://"),
    ("MASTER_URL", "http://one,", "addresses with commas"),
    ("MASTER_URL", "one two", "addresses with commas"),
    ("REPLICATION_FACTOR", "0", "at least 1"),
    ("REPLICATION_FACTOR", "two", "whole number"),
    ("REPLICATION_FACTOR", "1.5", "whole number"),
    ("REPLICATION_FACTOR", "9" * 5000, "whole number"),
    ("WRITE_QUORUM", "0", "at least 1"),
    ("WRITE_QUORUM", "3", "at most MINI_DROPBOX_REPLICATION_FACTOR, which is 2"),
    ("MAX_UPLOAD_BYTES", "0", "at least 1"),
    ("MAX_FILE_BYTES", "50 GB", "whole number"),
    ("MAX_UPLOAD_BYTES", "10 MB", "whole number"),
    ("HEARTBEAT_SECONDS", "0", "0.05 to 3600"),
    ("HEARTBEAT_SECONDS", "nan", "0.05 to 3600"),
    ("HEARTBEAT_SECONDS", "inf", "0.05 to 3600"),
    ("HEARTBEAT_SECONDS", "soon", "number of seconds"),
    ("AUTH", "none", "one of auto, required, open"),
    ("DEBUG", "maybe", "true or false"),
    ("LOG_LEVEL", "loud", "one of DEBUG, INFO, WARNING, ERROR"),
    ("BLOB_STORE", "s3", "one of local, storage"),
    ("COMPRESSION", "gzip", "one of zstd, off"),
    ("COMPRESS_AFTER_SECONDS", "-1", "0 to 2592000"),
    ("SCRUB_DAYS", "0", "0.01 to 3650"),
    ("SCRUB_DAYS", "monthly", "a number from"),
    ("SCRUB_MB_PER_SECOND", "0", "0.1 to 10000"),
    ("SCRUB_MB_PER_SECOND", "nan", "0.1 to 10000"),
    ("SUPERVISED", "2", "true or false"),
    ("SEEDREAM_PROVIDER", "other", "one of ark, kie, placeholder"),
    ("SEEDREAM_BASE_URL", "ark.example", "http://"),
    ("SEEDREAM_UPLOAD_URL", "javascript:alert(1)", "http://"),
]


@pytest.mark.parametrize(("name", "value", "takes"), BAD_VALUES)
def test_a_bad_value_is_refused_with_one_line_that_says_what_it_takes(
    name: str, value: str, takes: str
) -> None:
    with pytest.raises(ConfigurationError) as caught:
        read(**{name: value})

    message = str(caught.value)
    assert re.match(rf"MINI_DROPBOX_{name}=", message)
    assert repr(value) in message or f"={value} " in message
    assert "it takes" in message
    assert takes in message
    assert "\n" not in message


@pytest.mark.parametrize(
    "value", ["{", "[]", '"text"', "5", '{"secret_key": "hush"', "[" * 100_000]
)
def test_options_that_may_hold_credentials_are_refused_without_showing_them(value: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        read(BLOB_STORAGE_OPTIONS=value)

    message = str(caught.value)
    assert message.startswith("MINI_DROPBOX_BLOB_STORAGE_OPTIONS is not usable: it takes a JSON")
    assert "hush" not in message
    assert len(message) < 200


def test_another_database_is_refused_rather_than_ignored() -> None:
    with pytest.raises(ConfigurationError) as caught:
        read(DATABASE_URL="postgres://user:hush@db.example/files")

    message = str(caught.value)
    assert message.startswith("MINI_DROPBOX_DATABASE_URL is not usable: ")
    assert "SQLite in the data folder" in message
    assert "hush" not in message
    assert "\n" not in message
    assert read(DATABASE_URL=" ") == read()


@pytest.mark.parametrize("name", ["CLUSTER_SECRET", "SECRET_KEY"])
def test_a_key_that_can_be_guessed_is_refused_without_showing_it(name: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        read(**{name: "hush" * 3 + "123"})

    message = f"MINI_DROPBOX_{name} is not usable: it takes at least 16 characters."
    assert str(caught.value) == message
    read(**{name: "hush" * 4})


@pytest.mark.parametrize("name", ["NODE_ID", "WRITE_QUORUM", "AUTH", "BLOB_STORAGE_OPTIONS"])
def test_a_blank_value_counts_as_not_set(name: str) -> None:
    assert read(**{name: "  "}) == read()


def test_the_first_of_several_bad_values_is_named() -> None:
    with pytest.raises(ConfigurationError):
        read(ROLE="x", AUTH="y")


@given(value=st.text(max_size=60))
def test_an_address_is_read_or_refused_and_reads_the_same_again(value: str) -> None:
    try:
        address = parse_base_url(value)
    except ValueError:
        return
    assert parse_base_url(address) == address


def test_settings_for_children_stand_on_top_of_the_own_environment(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("MINI_DROPBOX_AUTH", "open")
    monkeypatch.setenv("MINI_DROPBOX_NODE_ID", "8001")

    environ = env.child_environment(NODE_ID="8002", ROLE="node")

    child = env.read(environ)
    assert (child.auth, child.node_id, child.role) == (AuthMode.OPEN, "8002", Role.NODE)
    assert env.read().node_id == "8001"


def test_secrets_are_not_in_what_is_printed_of_the_settings() -> None:
    settings = read(
        CLUSTER_SECRET="hush-1 and more of it",
        SECRET_KEY="hush-2 and more of it",
        SEEDREAM_API_KEY="hush-3",
        BLOB_STORAGE_OPTIONS='{"secret_key": "hush-4"}',
    )

    assert "hush" not in repr(settings)


def test_a_setting_can_be_put_for_this_process() -> None:
    environ: dict[str, str] = {}

    env.put("NODE_ID", "8123", environ)

    assert env.read(environ).node_id == "8123"
