"""Finds the blobs with too few copies, a page at a time, so that nothing waits for it."""

from dataclasses import dataclass, field
from typing import Final

from django.conf import settings
from django.db.models import Count, Max, Q

from master_app.models import Blob
from master_app.repair import services

PAGE_ROWS: Final = 5000


@dataclass
class Scan:
    """One walk over all blobs, for the nodes that count at its beginning."""

    counted: frozenset[int]
    position: int = 0
    end: int = field(default_factory=lambda: Blob.objects.aggregate(n=Max("pk"))["n"] or 0)
    found: int = 0

    @property
    def is_done(self) -> bool:
        return self.position >= self.end

    @property
    def percent(self) -> float:
        return 100.0 if self.is_done else round(100 * self.position / self.end, 1)

    def step(self) -> None:
        """Look at the next page, and note what is found there."""
        page = Blob.objects.filter(pk__gt=self.position, pk__lte=self.end).order_by("pk")
        keys = list(page.values_list("pk", flat=True)[:PAGE_ROWS])
        if not keys:
            self.position = self.end
            return
        last = keys[-1]
        counted = Count("replicas", filter=Q(replicas__node__in=self.counted))
        wanting = (
            Blob.objects.filter(pk__gt=self.position, pk__lte=last, verified=True)
            .annotate(copies=counted)
            .filter(copies__lt=settings.ENV.replication_factor)
        )
        copies = dict(wanting.values_list("pk", "copies"))
        services.tasks_add(copies=copies)
        self.found += len(copies)
        self.position = last
