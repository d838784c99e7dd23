"""Where a server may listen."""

import ipaddress

from mini_dropbox.env import ConfigurationError


def is_loopback(host: str) -> bool:
    """Tell whether only processes of this machine can reach `host`."""
    if host in {"localhost", "unix"}:
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
            "has no accounts yet to keep strangers out: listen on 127.0.0.1 or [::1]."
        )
        raise ConfigurationError(message)


def parse_address(value: str, *, default_port: int) -> tuple[str, int]:
    """Split `port`, `host:port` or `[ipv6]:port`, as runserver takes them."""
    host, _, port = value.rpartition(":")
    if not value:
        return "127.0.0.1", default_port
    if not port.isdigit() or not 0 < int(port) < 65536:
        message = f"{value!r} is not an address: it takes a port from 1 to 65535, or host:port."
        raise ConfigurationError(message)
    return host.strip("[]") or "127.0.0.1", int(port)
