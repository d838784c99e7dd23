"""System checks of image generation; `master_app.checks` has the others."""

from typing import Any

from django.conf import settings
from django.core.checks import CheckMessage, Warning, register  # noqa: A004  its name there

from mini_dropbox.env import SeedreamProvider


@register
def provider_has_a_key(**_: Any) -> list[CheckMessage]:
    env = settings.ENV
    keyless = {None, SeedreamProvider.PLACEHOLDER}
    if env.seedream_provider in keyless or env.seedream_api_key is not None:
        return []
    return [
        Warning(
            f"MINI_DROPBOX_SEEDREAM_PROVIDER is {env.seedream_provider}, but there is no key for "
            "it, so the placeholder draws.",
            hint="Set MINI_DROPBOX_SEEDREAM_API_KEY.",
            id="mini_dropbox.W007",
        )
    ]
