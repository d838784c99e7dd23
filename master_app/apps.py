"""The master's Django application."""

from django.apps import AppConfig
from django.db.models.signals import post_migrate


class MasterAppConfig(AppConfig):
    """Files, blobs, replicas and nodes of one cluster."""

    name = "master_app"
    verbose_name = "Cluster"

    def ready(self) -> None:
        from master_app import checks, derived  # noqa: F401, PLC0415  registers the system checks

        post_migrate.connect(derived.ensure, sender=self)
