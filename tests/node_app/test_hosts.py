"""The names that a node answers to."""

import pytest

from node_app.dataplane.hosts import Hosts
from node_app.dataplane.http import Request
from node_app.errors import BadHost


async def nothing(*_: object) -> None:
    """Stand for the server, which is not asked."""


def request(host: bytes | None, version: str = "1.1") -> Request:
    headers = [] if host is None else [(b"host", host)]
    scope = {"method": "GET", "path": "/retrieve", "http_version": version, "headers": headers}
    return Request(scope, nothing, nothing)  # type: ignore[arg-type]


def is_known(hosts: Hosts, host: bytes | None, version: str = "1.1") -> bool:
    try:
        hosts.check(request(host, version))
    except BadHost:
        return False
    return True


@pytest.mark.parametrize(
    ("node_url", "host"),
    [
        ("http://node_3.Internal:8003", b"NODE_3.internal:8003"),
        ("https://files.example/node", b"files.example"),
        ("http://[FD00::7]:8003", b"[fd00::7]:8003"),
        ("http://10.0.0.7:8003", b"10.0.0.7"),
    ],
)
def test_the_name_in_its_own_url(node_url: str, host: bytes) -> None:
    assert is_known(Hosts(node_url, ()), host)
    assert is_known(Hosts(node_url, ()), b"localhost:1")
    assert not is_known(Hosts("http://127.0.0.1:8003", ()), host)


def test_any_name_where_the_settings_say_so() -> None:
    assert is_known(Hosts("http://127.0.0.1:8003", ("*",)), b"whatever.example:80")


def test_a_name_under_a_domain_that_the_settings_allow() -> None:
    hosts = Hosts("http://127.0.0.1:8003", (".Lan",))

    assert is_known(hosts, b"nas.LAN:8003")
    assert not is_known(hosts, b"lan.example")


@pytest.mark.parametrize(
    "host", [b"", b":", b":80", b".", b"127.0.0.1:80:80", b"\xff", b"localhost/x", b"[::1"]
)
def test_what_is_no_name_is_refused(host: bytes) -> None:
    assert not is_known(Hosts("http://127.0.0.1:8003", ()), host)


def test_only_old_clients_may_leave_it_out() -> None:
    hosts = Hosts("http://127.0.0.1:8003", ())

    assert is_known(hosts, None, "1.0")
    assert not is_known(hosts, None)
    assert not is_known(hosts, b"rebound.example", "1.0")
