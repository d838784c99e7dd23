"""Seedream's Django application."""

from django.apps import AppConfig


class SeedreamAppConfig(AppConfig):
    """Images from a prompt, kept like any other file."""

    name = "seedream_app"
    verbose_name = "Image generation"

    def ready(self) -> None:
        from seedream_app import checks  # noqa: F401, PLC0415  registers the system checks
