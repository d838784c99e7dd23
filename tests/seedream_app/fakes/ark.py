"""ModelArk as its users see it: one synchronous call, strict about what it takes."""

import base64
import json
import re
from typing import Any

from tests.seedream_app.fakes.pictures import picture
from tests.seedream_app.fakes.server import Behaviour, FakeServer, Reply, Request

MODELS = ("seedream-4-0-250828", "seedream-4-5-251128", "seedream-5-0-260128")
DATA_URI = re.compile(r"data:image/(jpeg|png|webp|bmp|tiff|gif);base64,([A-Za-z0-9+/=]+)")
MAGIC = {
    "jpeg": b"\xff\xd8",
    "png": b"\x89PNG",
    "webp": b"RIFF",
    "bmp": b"BM",
    "tiff": b"II",
    "gif": b"GIF8",
}
TAKES = {
    "model",
    "prompt",
    "image",
    "size",
    "sequential_image_generation",
    "sequential_image_generation_options",
    "stream",
    "response_format",
    "watermark",
}


def error(status: int, code: str, message: str = "See the code.", **headers: str) -> Reply:
    """Return an error in ark's form."""
    body = {"error": {"code": code, "message": message, "param": "", "type": "BadRequest"}}
    return Reply.json(body, status, **headers)


class FakeArk(FakeServer):
    """Draws `image` for everybody who has the key and asks in the right form.

    `items` replaces the entries of `data`; `sends_bytes` has images come as Base64.
    """

    def __init__(self, api_key: str) -> None:
        super().__init__()
        self.api_key = api_key
        self.image = picture(640, 480)
        self.items: list[dict[str, Any]] | None = None
        self.sends_bytes = False

    @property
    def base_url(self) -> str:
        return f"{self.url}/api/v3"

    @property
    def generations(self) -> list[Request]:
        return [request for request in self.requests if request.method == "POST"]

    @property
    def downloads(self) -> list[Request]:
        return [request for request in self.requests if request.path.startswith("/result/")]

    def answer(self, request: Request) -> Behaviour:
        if request.path.startswith("/result/"):
            return Reply(body=self.image, headers={"Content-Type": "image/png"})
        if (request.method, request.path) != ("POST", "/api/v3/images/generations"):
            return Reply(status=404, body=b"no such path")
        if request.headers["Authorization"] != f"Bearer {self.api_key}":
            sent = request.headers["Authorization"]
            return error(401, "AuthenticationError", f"The API key in {sent!r} is invalid.")
        try:
            body = json.loads(request.body)
        except ValueError:
            return error(400, "InvalidParameter", "The body is not JSON.")
        return self._refusal(body) or self._images(body)

    def _refusal(self, body: dict[str, Any]) -> Reply | None:
        if body.get("model") not in MODELS:
            return error(404, "InvalidEndpointOrModel.NotFound", "The model does not exist.")
        if unknown := body.keys() - TAKES:
            return error(400, "InvalidParameter", f"Unknown: {unknown}.")
        if not isinstance(body.get("prompt"), str) or not body["prompt"]:
            return error(400, "InvalidParameter", "prompt is missing.")
        references = body.get("image", [])
        references = [references] if isinstance(references, str) else references
        for reference in references:
            found = DATA_URI.fullmatch(reference)
            if not found or not base64.b64decode(found[2]).startswith(MAGIC[found[1]]):
                return error(400, "InvalidParameter", "image is not a data URI of its type.")
        if len(references) + _wanted(body) > 15:
            return error(400, "InvalidParameter", "Too many images.")
        return None

    def _images(self, body: dict[str, Any]) -> Reply:
        data = self.items
        if data is None and self.sends_bytes:
            data = [{"b64_json": base64.b64encode(self.image).decode(), "size": "640x480"}]
        if data is None:
            data = [
                {"url": f"{self.url}/result/{number}.png?signature=x", "size": "640x480"}
                for number in range(_wanted(body))
            ]
        usage = {"generated_images": len(data), "output_tokens": 1, "total_tokens": 1}
        return Reply.json({"model": body["model"], "created": 1, "data": data, "usage": usage})


def _wanted(body: dict[str, Any]) -> int:
    if body.get("sequential_image_generation", "disabled") == "disabled":
        return 1
    return int(body.get("sequential_image_generation_options", {}).get("max_images", 15))
