"""The interface of all providers, and what goes in and comes out."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from typing import ClassVar

from mini_dropbox.env import SeedreamProvider
from seedream_app.errors import GenerationError, ProviderMisconfigured
from seedream_app.images import ALL_FORMATS, CheckedImage, ImageFormat

MAX_PROMPT_CHARACTERS = 5000
MAX_IMAGES = 6


@dataclass(frozen=True, kw_only=True)
class GenerationRequest:
    """What a user wants; `size` None leaves it to the provider."""

    prompt: str
    size: str | None = None
    max_images: int = 1
    references: tuple[CheckedImage, ...] = ()


@dataclass(frozen=True)
class Task:
    """A generation that goes on at the provider and is collected later."""

    task_id: str


@dataclass(frozen=True)
class ResultUrl:
    """An image that waits at an address, for a day at most."""

    url: str


@dataclass(frozen=True)
class ResultBytes:
    """An image that came with the answer."""

    content: bytes = field(repr=False)


ResultItem = ResultUrl | ResultBytes | GenerationError


@dataclass(frozen=True)
class Outcome:
    """A finished generation: for each image that was wanted, the image or why there is none."""

    items: tuple[ResultItem, ...]


class Provider(ABC):
    """One provider with its settings. Safe to use from many threads."""

    name: ClassVar[SeedreamProvider]
    reference_formats: ClassVar[frozenset[ImageFormat]] = ALL_FORMATS
    # Where results may come from although the address is private: the configured host itself.
    trusted_origins: frozenset[tuple[str, int]] = frozenset()
    # The longest that `submit` takes in seconds, retries included.
    submit_seconds: float

    @abstractmethod
    def model_for(self, request: GenerationRequest) -> str:
        """Return the model that would draw `request`."""

    @abstractmethod
    def check(self, request: GenerationRequest) -> None:
        """Do nothing for what the provider would take, else InvalidGenerationRequest."""

    @abstractmethod
    def submit(self, request: GenerationRequest) -> Task | Outcome:
        """Ask for `request`, which is charged from then on; GenerationError if refused."""

    def collect(
        self, task: Task, *, submitted_at: datetime, before_poll: Callable[[float], None]
    ) -> Outcome:
        """Wait for `task`; `before_poll` is told how many seconds may pass until its next call."""
        raise ProviderMisconfigured(
            f"{self.name} keeps no tasks, so {task.task_id} is not one of its own."
        )
