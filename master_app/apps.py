"""The master's Django application."""

from django.apps import AppConfig


class MasterAppConfig(AppConfig):
    """Files, blobs, replicas and nodes of one cluster."""

    name = "master_app"
    verbose_name = "Cluster"

    def ready(self) -> None:
        from master_app import checks  # noqa: F401, PLC0415  registers the system checks
