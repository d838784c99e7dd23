"""Which provider answers, by the settings."""

from functools import lru_cache

from mini_dropbox.env import Env, SeedreamProvider
from seedream_app.providers.ark import ArkProvider
from seedream_app.providers.base import Provider
from seedream_app.providers.kie import KieProvider
from seedream_app.providers.placeholder import PlaceholderProvider


def configured_provider(env: Env) -> Provider:
    """Return the provider that `env` names; with a key alone `ark`, without one the placeholder."""
    return provider_named(env.seedream_provider or SeedreamProvider.ARK, env)


def provider_named(name: SeedreamProvider, env: Env) -> Provider:
    """Return `name` as far as it can work: without a key the placeholder stands in for it."""
    if env.seedream_api_key is None or name is SeedreamProvider.PLACEHOLDER:
        return PlaceholderProvider()
    shared = {
        "api_key": env.seedream_api_key,
        "base_url": env.seedream_base_url,
        "model": env.seedream_model,
    }
    if name is SeedreamProvider.KIE:
        return _kie(**shared, upload_url=env.seedream_upload_url)
    return _ark(**shared, read_seconds=env.seedream_timeout_seconds)


# One provider a set of settings, so that its connections are used again.
_ark = lru_cache(maxsize=4)(ArkProvider)
_kie = lru_cache(maxsize=4)(KieProvider)
