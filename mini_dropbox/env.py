"""The only reader of the process environment.

Every setting is read once, typed, and refused with one line that names the
variable, the value and what it takes.
"""

import enum
import json
import os
import re
from collections.abc import Callable, Mapping, MutableMapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, TypeVar
from urllib.parse import urlsplit

PREFIX: Final = "MINI_DROPBOX_"
PROJECT_DIR: Final = Path(__file__).resolve().parent.parent

DEFAULT_MASTER_PORT: Final = 9000
DEFAULT_NODE_PORT: Final = 8001

# Below this a key can be guessed from what it has signed.
MIN_KEY_CHARACTERS: Final = 16

_HEADER_VALUE_PATTERN: Final = re.compile(r"[!-~]+")
NODE_ID_PATTERN: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")


class ConfigurationError(Exception):
    """A setting has a value that the program cannot work with."""


class Role(enum.StrEnum):
    """What this process is."""

    MASTER = "master"
    NODE = "node"


class AuthMode(enum.StrEnum):
    """Who is let in; see docs/architecture.md."""

    AUTO = "auto"
    REQUIRED = "required"
    OPEN = "open"


class BlobStoreKind(enum.StrEnum):
    """Where a node keeps its blobs."""

    LOCAL = "local"
    STORAGE = "storage"


class Compression(enum.StrEnum):
    """What a node does with blobs at rest."""

    ZSTD = "zstd"
    OFF = "off"


class SeedreamProvider(enum.StrEnum):
    """Who generates images."""

    ARK = "ark"
    KIE = "kie"
    PLACEHOLDER = "placeholder"


@dataclass(frozen=True, kw_only=True)
class Env:
    """All settings of one process. Sizes are bytes, times are seconds."""

    role: Role
    data_dir: Path
    node_id: str
    node_url: str
    master_urls: tuple[str, ...]
    replication_factor: int
    write_quorum: int
    max_upload_bytes: int
    max_file_bytes: int
    cluster_secret: str | None = field(repr=False)
    heartbeat_seconds: float
    auth: AuthMode
    secret_key: str | None = field(repr=False)
    allowed_hosts: tuple[str, ...]
    debug: bool
    log_level: str
    blob_store: BlobStoreKind
    blob_storage_backend: str
    blob_storage_options: dict[str, object] = field(repr=False)
    compression: Compression
    compress_after_seconds: float
    repair_grace_seconds: float
    collect_grace_seconds: float
    repair_mb_per_second: float
    scrub_days: float
    scrub_mb_per_second: float
    supervised: bool
    seedream_api_key: str | None = field(repr=False)
    seedream_provider: SeedreamProvider | None
    seedream_base_url: str | None
    seedream_upload_url: str | None
    seedream_model: str | None
    seedream_timeout_seconds: float


T = TypeVar("T")
E = TypeVar("E", bound=enum.StrEnum)


class _Reader:
    """Typed look-ups in one mapping of environment variables; a blank counts as not set."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        self._environ = environ

    def text(self, name: str) -> str | None:
        return self._environ.get(PREFIX + name, "").strip() or None

    def secret(self, name: str) -> str | None:
        """Return a value for an HTTP header; what is wrong with it is said without showing it."""
        value = self.text(name)
        if value is not None and not _HEADER_VALUE_PATTERN.fullmatch(value):
            message = f"{PREFIX}{name} is not usable: it takes ASCII characters without spaces."
            raise ConfigurationError(message)
        return value

    def key(self, name: str) -> str | None:
        """Return what signs; one that is too short is refused without showing it."""
        value = self.text(name)
        if value is not None and len(value) < MIN_KEY_CHARACTERS:
            message = (
                f"{PREFIX}{name} is not usable: it takes at least {MIN_KEY_CHARACTERS} characters."
            )
            raise ConfigurationError(message)
        return value

    def parsed(self, name: str, default: T, parse: Callable[[str], T], takes: str) -> T:
        value = self.text(name)
        if value is None:
            return default
        try:
            return parse(value)
        except (ValueError, KeyError):
            message = f"{PREFIX}{name}={value!r} is not usable: it takes {takes}."
            raise ConfigurationError(message) from None

    def integer(self, name: str, default: int, *, minimum: int) -> int:
        def parse(value: str) -> int:
            number = int(value)
            if number < minimum:
                raise ValueError
            return number

        return self.parsed(name, default, parse, f"a whole number of at least {minimum}")

    def seconds(
        self, name: str, default: float, *, minimum: float = 0.05, maximum: int = 3600
    ) -> float:
        return self.number(
            name, default, minimum=minimum, maximum=maximum, kind="a number of seconds"
        )

    def number(
        self,
        name: str,
        default: float,
        *,
        minimum: float,
        maximum: int,
        kind: str = "a number",
    ) -> float:
        def parse(value: str) -> float:
            number = float(value)
            if not minimum <= number <= maximum:
                raise ValueError
            return number

        return self.parsed(name, default, parse, f"{kind} from {minimum:g} to {maximum}")

    def choice(self, name: str, default: E, kind: type[E]) -> E:
        return self.parsed(name, default, kind, "one of " + ", ".join(kind))

    def optional_choice(self, name: str, kind: type[E]) -> E | None:
        return self.parsed(name, None, kind, "one of " + ", ".join(kind))

    def json_object(self, name: str) -> dict[str, object]:
        """Return an object that may hold credentials; a bad one is refused without showing it."""
        try:
            parsed = json.loads(self.text(name) or "{}")
        except (ValueError, RecursionError):
            parsed = None
        if not isinstance(parsed, dict):
            message = f"{PREFIX}{name} is not usable: it takes a JSON object of options."
            raise ConfigurationError(message)
        return parsed

    def url(self, name: str, default: str | None) -> str | None:
        return self.parsed(name, default, parse_base_url, "an http:// or https:// address")

    def names(self, name: str) -> tuple[str, ...]:
        value = self.text(name) or ""
        return tuple(part.strip() for part in value.split(",") if part.strip())


def parse_base_url(value: str) -> str:
    """Return `value` without its trailing slash; ValueError unless it is http(s)://host[:port][/path]."""
    parts = urlsplit(value)
    if parts.scheme not in {"http", "https"} or not parts.hostname or parts.query or parts.fragment:
        raise ValueError(value)
    _ = parts.port  # A port that is not a number raises ValueError here.
    return value.rstrip("/")


def _parse_base_urls(value: str) -> tuple[str, ...]:
    return tuple(parse_base_url(part.strip()) for part in value.split(","))


def _parse_node_id(value: str) -> str:
    if not NODE_ID_PATTERN.fullmatch(value):
        raise ValueError(value)
    return value


def _parse_boolean(value: str) -> bool:
    return {"1": True, "true": True, "yes": True, "0": False, "false": False, "no": False}[
        value.lower()
    ]


def _parse_log_level(value: str) -> str:
    if value.upper() not in {"DEBUG", "INFO", "WARNING", "ERROR"}:
        raise ValueError(value)
    return value.upper()


def read(environ: Mapping[str, str] = os.environ) -> Env:
    """Read every setting from `environ`; ConfigurationError names the first bad one."""
    reader = _Reader(environ)
    if is_set("DATABASE_URL", environ):
        message = (
            f"{PREFIX}DATABASE_URL is not usable: this version keeps its books in SQLite in the "
            "data folder alone, so leave it unset."
        )
        raise ConfigurationError(message)
    node_id = reader.parsed(
        "NODE_ID",
        str(DEFAULT_NODE_PORT),
        _parse_node_id,
        "1 to 64 letters, digits, hyphens or underscores",
    )
    node_port = int(node_id) if node_id.isdigit() else DEFAULT_NODE_PORT
    master_urls = reader.parsed(
        "MASTER_URL",
        _parse_base_urls(f"http://127.0.0.1:{DEFAULT_MASTER_PORT}"),
        _parse_base_urls,
        "one or more http:// or https:// addresses with commas between them",
    )
    replication_factor = reader.integer("REPLICATION_FACTOR", 2, minimum=1)
    write_quorum = reader.integer("WRITE_QUORUM", 1, minimum=1)
    if write_quorum > replication_factor:
        message = (
            f"{PREFIX}WRITE_QUORUM={write_quorum} is not usable: it takes at most "
            f"{PREFIX}REPLICATION_FACTOR, which is {replication_factor}."
        )
        raise ConfigurationError(message)
    return Env(
        role=reader.choice("ROLE", Role.MASTER, Role),
        data_dir=Path(reader.text("DATA_DIR") or PROJECT_DIR / "data").absolute(),
        node_id=node_id,
        node_url=reader.url("NODE_URL", None) or f"http://127.0.0.1:{node_port}",
        master_urls=master_urls,
        replication_factor=replication_factor,
        write_quorum=write_quorum,
        max_upload_bytes=reader.integer("MAX_UPLOAD_BYTES", 10 * 1024 * 1024, minimum=1),
        max_file_bytes=reader.integer("MAX_FILE_BYTES", 50 * 1024**3, minimum=1),
        cluster_secret=reader.key("CLUSTER_SECRET"),
        heartbeat_seconds=reader.seconds("HEARTBEAT_SECONDS", 2.0),
        auth=reader.choice("AUTH", AuthMode.AUTO, AuthMode),
        secret_key=reader.key("SECRET_KEY"),
        allowed_hosts=reader.names("ALLOWED_HOSTS"),
        debug=reader.parsed("DEBUG", False, _parse_boolean, "true or false"),
        log_level=reader.parsed(
            "LOG_LEVEL", "INFO", _parse_log_level, "one of DEBUG, INFO, WARNING, ERROR"
        ),
        blob_store=reader.choice("BLOB_STORE", BlobStoreKind.LOCAL, BlobStoreKind),
        blob_storage_backend=reader.text("BLOB_STORAGE_BACKEND")
        or "storages.backends.s3.S3Storage",
        blob_storage_options=reader.json_object("BLOB_STORAGE_OPTIONS"),
        compression=reader.choice("COMPRESSION", Compression.ZSTD, Compression),
        compress_after_seconds=reader.seconds(
            "COMPRESS_AFTER_SECONDS", 60.0, minimum=0, maximum=30 * 24 * 3600
        ),
        repair_grace_seconds=reader.seconds(
            "REPAIR_GRACE_SECONDS", 600.0, minimum=0, maximum=7 * 24 * 3600
        ),
        collect_grace_seconds=reader.seconds(
            "COLLECT_GRACE_SECONDS", 24 * 3600.0, minimum=0, maximum=365 * 24 * 3600
        ),
        repair_mb_per_second=reader.number(
            "REPAIR_MB_PER_SECOND", 100.0, minimum=0.1, maximum=100_000
        ),
        scrub_days=reader.number("SCRUB_DAYS", 30.0, minimum=0.01, maximum=3650),
        scrub_mb_per_second=reader.number("SCRUB_MB_PER_SECOND", 20.0, minimum=0.1, maximum=10_000),
        supervised=reader.parsed("SUPERVISED", False, _parse_boolean, "true or false"),
        seedream_api_key=reader.secret("SEEDREAM_API_KEY"),
        seedream_provider=reader.optional_choice("SEEDREAM_PROVIDER", SeedreamProvider),
        seedream_base_url=reader.url("SEEDREAM_BASE_URL", None),
        seedream_upload_url=reader.url("SEEDREAM_UPLOAD_URL", None),
        seedream_model=reader.text("SEEDREAM_MODEL"),
        seedream_timeout_seconds=reader.seconds("SEEDREAM_TIMEOUT_SECONDS", 300.0),
    )


def put(name: str, value: str, environ: MutableMapping[str, str] = os.environ) -> None:
    """Set one setting for this process and the children that it starts."""
    environ[PREFIX + name] = value


def is_set(name: str, environ: Mapping[str, str] = os.environ) -> bool:
    """Tell whether the environment says anything of a setting."""
    return _Reader(environ).text(name) is not None


def child_environment(**settings: str) -> dict[str, str]:
    """Return this process's environment with `settings` (names without the prefix) on top."""
    return {**os.environ, **{PREFIX + name: value for name, value in settings.items()}}
