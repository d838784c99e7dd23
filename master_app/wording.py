"""How numbers and lengths of time read on the pages."""

from datetime import datetime, timedelta

from django.template.defaultfilters import date, filesizeformat
from django.utils import timezone

OLD_AFTER = timedelta(days=45)


def human_size(size: int) -> str:
    """Return a number of bytes as "1.2 MB" or "10 MB", without a fraction of nought."""
    return filesizeformat(size).replace(".0\xa0", "\xa0")


def copies(count: int) -> str:
    return f"{count:,} {'copy' if count == 1 else 'copies'}"


def length_of_time(length: timedelta) -> str:
    """Return a time in its largest unit that makes at least two, seconds being the smallest."""
    seconds = max(0, int(length.total_seconds()))
    if seconds < 120:
        return f"{seconds} s"
    if seconds < 120 * 60:
        return f"{seconds // 60} min"
    if seconds < 48 * 3600:
        return f"{seconds // 3600} h"
    return f"{seconds // 86400} days"


def time_ago(moment: datetime) -> str:
    """Return how long ago `moment` was, or its date where that says more."""
    age = timezone.now() - moment
    return date(moment, "j M Y") if age > OLD_AFTER else f"{length_of_time(age)} ago"
