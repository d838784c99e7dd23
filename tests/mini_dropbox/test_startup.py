"""What has to hold before a server may start."""

from pathlib import Path

import pytest

from mini_dropbox import env, startup
from mini_dropbox.env import ConfigurationError, Env


def settings_with(folder: Path, **settings: str) -> Env:
    settings = {"DATA_DIR": str(folder), **settings}
    return env.read({f"MINI_DROPBOX_{name}": value for name, value in settings.items()})


LOOPBACK = ["127.0.0.1", "127.8.9.10", "::1", "[::1]", "localhost"]
ELSEWHERE = ["", "0.0.0.0", "::", "[::]", "192.168.1.2", "files.example", "localhost.example"]


@pytest.mark.parametrize("host", LOOPBACK)
def test_a_server_may_listen_where_only_this_machine_reaches_it(tmp_path: Path, host: str) -> None:
    startup.check(settings_with(tmp_path), host)
    assert startup.is_loopback(host)


@pytest.mark.parametrize("host", ELSEWHERE)
def test_a_server_may_not_listen_where_strangers_reach_it(tmp_path: Path, host: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        startup.check(settings_with(tmp_path), host)

    message = str(caught.value)
    assert "listen on 127.0.0.1" in message
    assert "\n" not in message
    assert host in message


@pytest.mark.parametrize("auth", ["auto", "open"])
@pytest.mark.parametrize("host", ["0.0.0.0", "10.0.0.1"])
def test_no_setting_opens_a_server_to_strangers(tmp_path: Path, auth: str, host: str) -> None:
    with pytest.raises(ConfigurationError):
        startup.check(settings_with(tmp_path, AUTH=auth), host)


def test_a_node_needs_the_clusters_secret(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="MINI_DROPBOX_CLUSTER_SECRET"):
        startup.check(settings_with(tmp_path, ROLE="node"), "127.0.0.1")

    secret = "a secret of many characters"
    startup.check(settings_with(tmp_path, ROLE="node", CLUSTER_SECRET=secret), "127.0.0.1")
    (tmp_path / "cluster_secret").write_text("secret\n")
    startup.check(settings_with(tmp_path, ROLE="node"), "127.0.0.1")


def test_accounts_cannot_be_required_before_there_are_any(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="MINI_DROPBOX_AUTH='required'"):
        startup.check(settings_with(tmp_path, AUTH="required"), "127.0.0.1")


@pytest.mark.parametrize(
    ("host", "hosts"),
    [
        ("127.0.0.2", "localhost,127.0.0.2"),
        ("::1", "localhost,[::1]"),
        ("localhost", "localhost"),
    ],
)
def test_a_server_answers_to_its_own_address_beside_the_allowed_names(
    host: str, hosts: str
) -> None:
    assert startup.allowed_hosts_with(host, ["localhost"]) == hosts


@pytest.mark.parametrize(
    ("value", "address"),
    [
        ("", ("127.0.0.1", 9000)),
        ("8001", ("127.0.0.1", 8001)),
        (":8001", ("127.0.0.1", 8001)),
        ("localhost:8001", ("localhost", 8001)),
        ("0.0.0.0:8001", ("0.0.0.0", 8001)),
        ("[::1]:8001", ("::1", 8001)),
    ],
)
def test_addresses_are_read_as_runserver_takes_them(value: str, address: tuple[str, int]) -> None:
    assert startup.parse_address(value, default_port=9000) == address


@pytest.mark.parametrize("value", ["0", "65536", "-1", "http", "80a", "\u0668", "host:", "8001:x"])
def test_what_is_no_port_is_refused(value: str) -> None:
    with pytest.raises(ConfigurationError, match="is not a port: it takes"):
        startup.parse_address(value, default_port=9000)
