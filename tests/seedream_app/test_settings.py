"""Which provider the settings mean, and a key that is never shown."""

import pytest

from mini_dropbox import env
from mini_dropbox.env import ConfigurationError, SeedreamProvider
from seedream_app.providers.choice import configured_provider, provider_named
from tests.seedream_app.conftest import API_KEY

PREFIX = "MINI_DROPBOX_SEEDREAM_"


@pytest.mark.parametrize(
    ("settings", "name"),
    [
        ({}, "placeholder"),
        ({"API_KEY": API_KEY}, "ark"),
        ({"API_KEY": API_KEY, "PROVIDER": "ark"}, "ark"),
        ({"API_KEY": API_KEY, "PROVIDER": "kie"}, "kie"),
        ({"API_KEY": API_KEY, "PROVIDER": "placeholder"}, "placeholder"),
        ({"PROVIDER": "ark"}, "placeholder"),
        ({"PROVIDER": "kie"}, "placeholder"),
        ({"API_KEY": "  "}, "placeholder"),
    ],
)
def test_the_provider_follows_from_the_settings(settings: dict[str, str], name: str) -> None:
    environment = env.read({PREFIX + key: value for key, value in settings.items()})
    assert configured_provider(environment).name == name


def test_the_same_settings_give_the_same_provider_with_its_connections() -> None:
    environment = env.read({PREFIX + "API_KEY": API_KEY})
    first = provider_named(SeedreamProvider.ARK, environment)
    assert provider_named(SeedreamProvider.ARK, environment) is first


def test_the_settings_as_text_do_not_show_the_key() -> None:
    assert API_KEY not in repr(env.read({PREFIX + "API_KEY": API_KEY}))


@pytest.mark.parametrize("value", ["two words", "line\nbreak", "schlüssel"])
def test_a_key_that_no_header_can_carry_stops_the_start_without_being_shown(value: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        env.read({PREFIX + "API_KEY": value})
    assert PREFIX + "API_KEY" in str(caught.value)
    assert value not in str(caught.value)
