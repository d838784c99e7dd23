"""`manage.py resume_generation_jobs`: takes up image generations that a stop interrupted."""

from typing import Any

from django.core.management.base import BaseCommand

from seedream_app import services


class Command(BaseCommand):
    """The master does the same by itself while it runs."""

    help = "Finish image generations whose process has gone: collect them, or mark them failed."

    def handle(self, *args: Any, **options: Any) -> None:
        resumed = services.generation_resume_pending()
        self.stdout.write(f"Unfinished image generations taken up: {resumed}")
