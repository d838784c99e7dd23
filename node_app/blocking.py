"""What runs blocking functions off the event loop, as those see it who are given it."""

from collections.abc import Awaitable, Callable
from typing import Any

RunBlocking = Callable[..., Awaitable[Any]]
