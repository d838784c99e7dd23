"""Text for people and probes, JSON for programs that ask for it: how `/health` answers."""

from collections.abc import Iterable

from rest_framework.negotiation import BaseContentNegotiation
from rest_framework.parsers import BaseParser
from rest_framework.renderers import BaseRenderer, JSONRenderer
from rest_framework.request import Request


class PlainTextRenderer(BaseRenderer):
    """Text as it is; of an error its sentence."""

    media_type = "text/plain"
    format = "txt"

    def render(self, data: object, *_: object, **__: object) -> str:
        return str(data.get("detail", data) if isinstance(data, dict) else data)


def wants_json(request: Request) -> bool:
    """Tell whether the client names JSON in `Accept`."""
    return "application/json" in request.headers.get("Accept", "")


class TextUnlessJsonIsAsked(BaseContentNegotiation):
    """Chooses between the two; neither ever fails with 406."""

    def select_parser(self, request: Request, parsers: Iterable[BaseParser]) -> BaseParser | None:
        return next(iter(parsers), None)

    def select_renderer(
        self,
        request: Request,
        renderers: Iterable[BaseRenderer],
        format_suffix: str | None = None,
    ) -> tuple[BaseRenderer, str]:
        # Text is for who reads; whoever uses another method is a program that reads the error.
        as_text = request.method in {"GET", "HEAD"} and not wants_json(request)
        renderer = PlainTextRenderer() if as_text else JSONRenderer()
        return renderer, renderer.media_type
