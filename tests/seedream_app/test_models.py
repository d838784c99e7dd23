"""What the database refuses to believe of a job."""

from datetime import datetime

import pytest
from django.db import IntegrityError, transaction
from django.utils import timezone

from seedream_app.models import GenerationJob

NOW: datetime = timezone.now()


@pytest.mark.parametrize(
    "fields",
    [
        {"status": "lost", "lease_until": NOW},
        {"status": "queued", "lease_until": None},
        {"status": "running", "lease_until": NOW, "started_at": None},
        {"status": "running", "lease_until": None, "started_at": NOW},
        {"status": "succeeded", "finished_at": None, "started_at": NOW},
        {"status": "succeeded", "finished_at": NOW, "lease_until": NOW},
        {"status": "succeeded", "finished_at": NOW, "error_code": "why"},
        {"status": "failed", "finished_at": NOW, "error_code": ""},
        {"status": "queued", "lease_until": NOW, "error_code": "why"},
    ],
)
def test_a_job_that_cannot_be_is_refused(fields: dict[str, object]) -> None:
    with pytest.raises(IntegrityError), transaction.atomic():
        GenerationJob.objects.create(
            prompt="a cat", provider="ark", model="m", created_at=NOW, **fields
        )
