"""kie.ai as its users see it: tasks, uploads, and errors with status 200."""

import base64
import json
from typing import Any

from tests.seedream_app.fakes.pictures import picture
from tests.seedream_app.fakes.server import Behaviour, FakeServer, Reply, Request

DRAWS = "bytedance/seedream-v4-text-to-image"
EDITS = "bytedance/seedream-v4-edit"
SHAPES = {
    "square",
    "square_hd",
    "portrait_4_3",
    "portrait_3_2",
    "portrait_16_9",
    "landscape_4_3",
    "landscape_3_2",
    "landscape_16_9",
    "landscape_21_9",
}


def error(code: int, message: str = "See the code.", **headers: str) -> Reply:
    """Return an error in kie's form: all is well, except in the body."""
    return Reply.json({"code": code, "msg": message, "data": None}, **headers)


def success(data: dict[str, Any]) -> Reply:
    return Reply.json({"code": 200, "msg": "success", "data": data})


class FakeKie(FakeServer):
    """Goes through `states` with every task, one a look, and stays in the last.

    `record` is added to what `recordInfo` says of a task.
    """

    def __init__(self, api_key: str) -> None:
        super().__init__()
        self.api_key = api_key
        self.image = picture(512, 512, "JPEG")
        self.states = ["waiting", "queuing", "generating", "success"]
        self.record: dict[str, Any] = {}
        self.tasks: dict[str, dict[str, Any]] = {}
        self.uploads: dict[str, bytes] = {}
        self._looks: dict[str, int] = {}

    def requests_to(self, path: str) -> list[Request]:
        return [request for request in self.requests if request.path == path]

    @property
    def creations(self) -> list[Request]:
        return self.requests_to("/api/v1/jobs/createTask")

    @property
    def polls(self) -> list[Request]:
        return self.requests_to("/api/v1/jobs/recordInfo")

    def answer(self, request: Request) -> Behaviour:
        if request.path.startswith("/result/"):
            return Reply(body=self.image, headers={"Content-Type": "image/jpeg"})
        if request.headers["Authorization"] != f"Bearer {self.api_key}":
            return error(401, f"Unauthorized: {request.headers['Authorization']}")
        if request.path == "/api/v1/jobs/createTask":
            return self._create(json.loads(request.body))
        if request.path == "/api/v1/jobs/recordInfo":
            return self._look(request.query["taskId"])
        if request.path == "/api/file-base64-upload":
            return self._take(json.loads(request.body))
        return Reply(status=404)

    def _create(self, body: dict[str, Any]) -> Reply:
        wanted = body["input"]
        urls = wanted.get("image_urls", [])
        if body["model"] not in {DRAWS, EDITS} or (body["model"] == EDITS) != bool(urls):
            return error(404, f"No such model for this: {body['model']}")
        if not 0 < len(wanted["prompt"]) <= 5000:
            return error(422, "The prompt has the wrong length.")
        if wanted["image_size"] not in SHAPES or wanted["image_resolution"] not in {
            "1K",
            "2K",
            "4K",
        }:
            return error(422, "No such size.")
        if not 1 <= wanted["max_images"] <= 6 or any(url not in self.uploads for url in urls):
            return error(422, "Bad images.")
        task_id = f"task-{len(self.tasks) + 1}"
        self.tasks[task_id] = body
        return success({"taskId": task_id})

    def _look(self, task_id: str) -> Reply:
        if task_id not in self.tasks:
            return error(422, "recordInfo is null")
        look = self._looks.get(task_id, 0)
        self._looks[task_id] = look + 1
        state = self.states[min(look, len(self.states) - 1)]
        data: dict[str, Any] = {"taskId": task_id, "state": state, "resultJson": ""}
        if state == "success":
            count = self.tasks[task_id]["input"]["max_images"]
            urls = [f"{self.url}/result/{task_id}-{number}.jpg" for number in range(count)]
            data["resultJson"] = json.dumps({"resultUrls": urls})
        return success(data | self.record)

    def _take(self, body: dict[str, Any]) -> Reply:
        head, _, encoded = body["base64Data"].partition(",")
        assert head.startswith("data:image/")
        url = f"{self.url}/{body['uploadPath']}/{body['fileName']}"
        self.uploads[url] = base64.b64decode(encoded)
        return success({"downloadUrl": url, "fileName": body["fileName"]})
