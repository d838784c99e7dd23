"""Progress bars of commands; nothing is drawn where no terminal shows it."""

import sys
import time
from collections.abc import Callable
from typing import Any, Final

from tqdm import tqdm

LOOK_SECONDS: Final = 2.0


def bar(total: int, label: str = "") -> "tqdm[Any]":
    """Return a bar for so many blobs, to be closed in the end."""
    return tqdm(total=total, desc=label or None, unit=" blobs", file=sys.stderr, disable=None)


def watch(count_left: Callable[[], int]) -> int:
    """Draw how a number of blobs goes down to none; return what is left after Ctrl+C, or 0."""
    total = left = count_left()
    with bar(total) as drawn:
        try:
            while left:
                time.sleep(LOOK_SECONDS)
                left = count_left()
                # What is found meanwhile has to be done as well.
                drawn.total = total = max(total, left)
                drawn.update(total - left - drawn.n)
        except KeyboardInterrupt:
            return left
    return 0
