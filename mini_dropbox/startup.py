"""What has to hold before a server may start, and the addresses that it takes."""

import ipaddress
from collections.abc import Sequence

from mini_dropbox import secret_files
from mini_dropbox.env import AuthMode, ConfigurationError, Env, Role


def check(settings: Env, host: str) -> None:
    """Raise ConfigurationError, with what to do about it, when a server may not start."""
    if settings.auth is AuthMode.REQUIRED:
        message = (
            "MINI_DROPBOX_AUTH='required' is not usable yet, because there are no accounts: "
            "leave it at 'auto', which lets in whoever can reach 127.0.0.1."
        )
        raise ConfigurationError(message)
    require_loopback(host)
    if settings.role is Role.NODE:
        secret_files.cluster_secret(settings)


def is_loopback(host: str) -> bool:
    """Tell whether only processes of this machine can reach `host`."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def require_loopback(host: str) -> None:
    """Raise ConfigurationError when others than this machine could reach `host`."""
    if not is_loopback(host):
        message = (
            f"{host or 'every interface'} can be reached from other machines, and Mini-Dropbox "
            "has no accounts yet to keep strangers out: listen on 127.0.0.1 or ::1."
        )
        raise ConfigurationError(message)


def allowed_hosts_with(host: str, allowed: Sequence[str]) -> str:
    """Return the setting ALLOWED_HOSTS of a server on `host`: its own address, and `allowed`."""
    own = f"[{host}]" if ":" in host else host
    return ",".join(dict.fromkeys([*allowed, own]))


def parse_address(value: str, *, default_port: int) -> tuple[str, int]:
    """Split `port`, `host:port` or `[ipv6]:port`, as runserver takes them."""
    if not value:
        return "127.0.0.1", default_port
    host, _, port = value.rpartition(":")
    return host.strip("[]") or "127.0.0.1", parse_port(port)


def parse_port(value: str) -> int:
    """Return a TCP port; ConfigurationError unless it is a number from 1 to 65535."""
    if not (value.isascii() and value.isdigit() and 0 < int(value) < 65536):
        message = f"{value!r} is not a port: it takes a number from 1 to 65535."
        raise ConfigurationError(message)
    return int(value)
