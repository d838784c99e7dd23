"""Stands in where no provider is set up: draws a picture of its own, and says what it is."""

from typing import Final

from mini_dropbox.env import SeedreamProvider
from seedream_app.errors import InvalidGenerationRequest
from seedream_app.placeholder_art import canvas_size, draw_placeholder
from seedream_app.providers.base import GenerationRequest, Outcome, Provider, ResultBytes

MODEL: Final = "placeholder"


class PlaceholderProvider(Provider):
    """Draws here, from the prompt alone: the same prompt gives the same picture."""

    name = SeedreamProvider.PLACEHOLDER
    submit_seconds = 60.0

    def model_for(self, request: GenerationRequest) -> str:
        return MODEL

    def check(self, request: GenerationRequest) -> None:
        try:
            canvas_size(request.size)
        except ValueError as error:
            raise InvalidGenerationRequest(
                "size: 1K, 2K, 3K, 4K, WIDTHxHEIGHT in pixels, or a shape such as landscape_16_9."
            ) from error

    def submit(self, request: GenerationRequest) -> Outcome:
        pictures = (
            draw_placeholder(
                request.prompt, size=request.size, references=request.references, variant=variant
            )
            for variant in range(request.max_images)
        )
        return Outcome(tuple(ResultBytes(picture) for picture in pictures))
