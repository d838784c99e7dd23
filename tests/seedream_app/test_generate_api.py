"""`POST /seedream/generate` and `GET /seedream/jobs/<id>`, over both providers and without one."""

import hashlib
from collections.abc import Callable
from io import BytesIO
from typing import Any

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile
from django.test import Client
from PIL import Image

from master_app.models import File, Node
from mini_dropbox.env import SeedreamProvider
from seedream_app.models import GeneratedImage, GenerationJob
from tests.seedream_app.conftest import API_KEY, Configure, without_key
from tests.seedream_app.fakes.ark import FakeArk, error
from tests.seedream_app.fakes.kie import FakeKie
from tests.seedream_app.fakes.node import FakeNode
from tests.seedream_app.fakes.pictures import picture
from tests.seedream_app.fakes.server import Behaviour, FakeServer, Hangup, Reply, Silence

Generate = Callable[..., Any]


@pytest.fixture
def generate(client: Client, configure: Configure) -> Generate:
    """Send the form with `fields`; answers with status and body."""

    def send(**fields: object) -> tuple[int, dict[str, Any]]:
        response = client.post("/seedream/generate", fields)
        return response.status_code, without_key(response.json())

    return send


@pytest.fixture
def with_ark(ark: FakeArk, configure: Configure) -> FakeArk:
    configure(
        seedream_api_key=API_KEY, seedream_base_url=ark.base_url, seedream_timeout_seconds=3.0
    )
    return ark


@pytest.fixture
def with_kie(kie: FakeKie, configure: Configure) -> FakeKie:
    configure(
        seedream_api_key=API_KEY,
        seedream_provider=SeedreamProvider.KIE,
        seedream_base_url=kie.url,
    )
    kie.states = ["success"]
    return kie


def upload(content: bytes, name: str = "a.png") -> SimpleUploadedFile:
    return SimpleUploadedFile(name, content, content_type="image/png")


@pytest.mark.parametrize("count", [0, 1, 2])
def test_without_a_key_the_placeholder_answers_and_says_so(
    generate: Generate, node: FakeNode, count: int
) -> None:
    references = {f"image{n}": upload(picture(300, 200)) for n in range(1, count + 1)}
    status, body = generate(prompt="Ein Fuchs im Schnee!", **references)
    assert status == 200
    assert (body["provider"], body["status"]) == ("placeholder", "succeeded")
    [image] = body["images"]
    content = node.blobs[image["hash"]]
    assert image["hash"] == hashlib.md5(content).hexdigest()
    assert image["url"].startswith(f"{node.url}/retrieve?hash={image['hash']}")
    assert image["name"] == "seedream-ein-fuchs-im-schnee-1.png"
    assert image["size"] == len(content)
    assert image["content_type"] == "image/png"
    assert Image.open(BytesIO(content)).size == (image["width"], image["height"])


def test_an_image_from_ark_becomes_a_registered_file(
    generate: Generate, with_ark: FakeArk, node: FakeNode, client: Client
) -> None:
    status, body = generate(prompt="a cat", image1=upload(picture()), size="1K")
    assert status == 200
    assert (body["provider"], body["model"]) == ("ark", "seedream-4-0-250828")
    [image] = body["images"]
    assert (image["width"], image["height"]) == (640, 480)
    assert node.blobs[image["hash"]] == with_ark.image
    record = client.get("/get", {"hash": image["hash"]}).json()
    assert record["verified"] is True
    assert record["replicas"] == ["8001"]
    assert record["name"] == image["name"]
    assert [request.headers["Authorization"] for request in with_ark.downloads] == [None]


def test_an_image_from_kie_becomes_a_registered_file(
    generate: Generate, with_kie: FakeKie, node: FakeNode
) -> None:
    status, body = generate(prompt="a cat", image1=upload(picture()), image2=upload(picture(90)))
    assert status == 200
    assert (body["provider"], body["model"]) == ("kie", "bytedance/seedream-v4-edit")
    [image] = body["images"]
    assert image["name"] == "seedream-a-cat-1.jpg"
    assert node.blobs[image["hash"]] == with_kie.image
    assert GenerationJob.objects.get().provider_task_id == "task-1"


def test_several_images_are_all_kept(generate: Generate, with_ark: FakeArk, node: FakeNode) -> None:
    _, body = generate(prompt="a cat", max_images="3")
    assert [image["position"] for image in body["images"]] == [1, 2, 3]
    assert len(node.names) == 3
    # They are the same bytes under three names.
    assert File.objects.count() == 3


def test_the_same_prompt_twice_is_two_jobs_over_one_file(
    generate: Generate, node: FakeNode
) -> None:
    first, second = generate(prompt="a cat")[1], generate(prompt="a cat")[1]
    assert first["job_id"] != second["job_id"]
    assert first["images"] == second["images"]
    assert (GeneratedImage.objects.count(), File.objects.count()) == (2, 1)


def test_an_image_that_came_is_kept_when_another_is_refused(
    generate: Generate, with_ark: FakeArk, node: FakeNode
) -> None:
    with_ark.items = [
        {"error": {"code": "OutputImageSensitiveContentDetected", "message": "No."}},
        {"url": f"{with_ark.url}/result/1.png"},
        {"url": f"{with_ark.url}/nowhere"},
    ]
    status, body = generate(prompt="a cat", max_images="3")
    assert status == 200
    assert [image["position"] for image in body["images"]] == [2]
    assert [failed["code"] for failed in body["errors"]] == [
        "moderation_refused",
        "result_unreachable",
    ]


def test_a_job_fails_with_the_first_reason_when_no_image_came(
    generate: Generate, with_ark: FakeArk, node: FakeNode
) -> None:
    failed = {"error": {"code": "OutputImageSensitiveContentDetected", "message": "No."}}
    with_ark.items = [failed, failed]
    status, body = generate(prompt="a cat", max_images="2")
    assert (status, body["code"]) == (502, "moderation_refused")
    assert GenerationJob.objects.get().status == "failed"


@pytest.mark.parametrize(
    ("behaviour", "status", "code"),
    [
        (error(400, "InputTextSensitiveContentDetected"), 502, "moderation_refused"),
        (error(400, "InvalidParameter"), 502, "provider_bad_parameters"),
        (error(403, "AccountOverdueError"), 502, "provider_no_credit"),
        (error(429, "QuotaExceeded"), 502, "provider_no_credit"),
        (error(429, "TooMany"), 502, "provider_rate_limited"),
        (error(500, "InternalServiceError"), 502, "provider_down"),
        (Hangup(), 502, "provider_down"),
        (error(401, "AuthenticationError"), 502, "provider_authentication_failed"),
        (error(404, "ModelNotOpen"), 502, "provider_misconfigured"),
        (Silence(), 504, "provider_timeout"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_each_failure_is_said_with_its_job(  # noqa: PLR0917  Fixtures and parameters.
    generate: Generate,
    with_ark: FakeArk,
    node: FakeNode,
    client: Client,
    behaviour: Behaviour,
    status: int,
    code: str,
) -> None:
    with_ark.replies.append(behaviour)
    answered, body = generate(prompt="a cat")
    assert (answered, body["code"]) == (status, code)
    job = without_key(client.get(f"/seedream/jobs/{body['job_id']}").json())
    assert job["status"] == "failed"
    assert job["error"] == {key: value for key, value in body.items() if key != "job_id"}
    assert job["images"] == []
    assert len(with_ark.generations) == 1


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        ({}, "Send a prompt"),
        ({"prompt": ""}, "not blank"),
        ({"prompt": " \n\t "}, "not blank"),
        ({"prompt": "x" * 5001}, "at most 5000 characters"),
        ({"prompt": "a\x00b"}, "Null"),
        ({"prompt": "a cat", "size": "enormous"}, "size"),
        ({"prompt": "a cat", "max_images": "7"}, "6"),
        ({"prompt": "a cat", "max_images": "many"}, "integer"),
        ({"prompt": "a cat", "image1": "not a file"}, "file"),
    ],
)
def test_a_bad_form_is_refused_with_a_sentence(
    generate: Generate,
    with_ark: FakeArk,
    node: FakeNode,
    fields: dict[str, str],
    sentence: str,
) -> None:
    status, body = generate(**fields)
    assert status == 400
    assert sentence in body["detail"]
    assert body["code"]
    assert with_ark.requests == []
    assert not GenerationJob.objects.exists()


def test_a_prompt_of_five_thousand_characters_is_taken(generate: Generate, node: FakeNode) -> None:
    status, body = generate(prompt="wörd " * 999 + "five5")
    assert status == 200
    assert len(body["prompt"]) == 5000
    assert len(body["images"][0]["name"]) < 80


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"", "empty"),
        (b"hello", "image2 cannot be used"),
        (b"\x89PNG\r\n\x1a\n" + bytes(50), "image2 cannot be used"),
        (picture(14, 14), "at least 15"),
        (picture(15, 300), "16 times"),
        (picture(kind="PNG")[:-20], "image2 cannot be used"),
        (picture(kind="ICO"), "image2 cannot be used"),
        (bytes(10 * 1024 * 1024 + 1), "at most 10 MB"),
    ],
    ids=["empty", "text", "sham", "tiny", "long", "cut", "ICO", "large"],
)
def test_a_bad_reference_is_refused_with_its_name(
    generate: Generate, with_ark: FakeArk, node: FakeNode, content: bytes, sentence: str
) -> None:
    status, body = generate(prompt="a cat", image1=upload(picture()), image2=upload(content))
    assert status == 400
    assert "image2" in body["detail"]
    assert sentence in body["detail"]
    assert with_ark.requests == []
    assert not GenerationJob.objects.exists()


def test_a_reference_has_at_most_thirty_six_million_pixels(
    generate: Generate, with_ark: FakeArk, node: FakeNode
) -> None:
    buffer = BytesIO()
    Image.new("1", (6001, 6000)).save(buffer, "PNG")
    status, body = generate(prompt="a cat", image1=upload(buffer.getvalue()))
    assert status == 400
    assert "6001x6000" in body["detail"]


@pytest.mark.parametrize(("kind", "status"), [("WEBP", 200), ("GIF", 400), ("BMP", 400)])
def test_kie_takes_fewer_types(
    generate: Generate, with_kie: FakeKie, node: FakeNode, kind: str, status: int
) -> None:
    answered, body = generate(prompt="a cat", image1=upload(picture(kind=kind)))
    assert answered == status
    if status == 400:
        assert "jpeg, png, webp" in body["detail"]


def test_nothing_is_paid_for_when_nothing_could_be_kept(
    generate: Generate, with_ark: FakeArk
) -> None:
    status, body = generate(prompt="a cat")
    assert (status, body["code"]) == (503, "no_healthy_node")
    assert with_ark.requests == []


def test_a_node_that_refuses_an_image_is_said_to(
    generate: Generate, with_ark: FakeArk, node: FakeNode
) -> None:
    node.replies.append(Reply.json({"success": False, "message": "full", "code": "disk"}, 507))
    status, body = generate(prompt="a cat")
    assert (status, body["code"]) == (503, "result_not_stored")


def test_a_node_that_stores_something_else_is_not_believed(
    generate: Generate, with_ark: FakeArk, node: FakeNode
) -> None:
    node.replies.append(
        Reply.json({"hash": "0" * 32, "sha256": "0" * 64, "size": 1, "replicas": ["8001"]})
    )
    assert generate(prompt="a cat")[1]["code"] == "result_not_stored"
    assert not File.objects.exists()


def test_an_image_larger_than_nodes_take_says_which_setting_helps(
    generate: Generate, configure: Configure, node: FakeNode
) -> None:
    configure(max_upload_bytes=1000)
    _, body = generate(prompt="a cat")
    assert "MINI_DROPBOX_MAX_UPLOAD_BYTES" in body["detail"]


def test_a_link_is_there_as_long_as_a_node_has_the_image(
    generate: Generate, node: FakeNode, client: Client
) -> None:
    job_id = generate(prompt="a cat")[1]["job_id"]
    Node.objects.update(url="http://moved.example:8001")
    [image] = client.get(f"/seedream/jobs/{job_id}").json()["images"]
    assert image["url"].startswith("http://moved.example:8001/retrieve?")


def test_an_unknown_job_is_not_found(client: Client) -> None:
    response = client.get("/seedream/jobs/6f1f33d5-0b4b-4f4a-9c1f-000000000000")
    assert response.status_code == 404
    assert response.json()["code"] == "unknown_job"


@pytest.mark.parametrize("method", ["get", "put", "delete"])
def test_only_posting_generates(client: Client, method: str) -> None:
    response = getattr(client, method)("/seedream/generate")
    assert response.status_code == 405
    assert "POST" in response["Allow"]


@pytest.mark.parametrize(
    ("body", "content_type"),
    [
        (b"{}", "application/json"),
        (b"--x\r\nrubbish", "multipart/form-data; boundary=x"),
        (b"", "multipart/form-data"),
    ],
)
def test_a_body_that_is_no_form_is_refused(
    client: Client, configure: Configure, body: bytes, content_type: str
) -> None:
    response = client.post("/seedream/generate", body, content_type=content_type)
    assert response.status_code in {400, 415}
    assert set(response.json()) >= {"detail", "code"}


def test_no_token_is_needed_because_there_is_no_session(
    configure: Configure, node: FakeNode
) -> None:
    response = Client(enforce_csrf_checks=True).post("/seedream/generate", {"prompt": "a cat"})
    assert response.status_code == 200


def test_an_image_address_inside_the_network_is_never_asked(
    generate: Generate, with_ark: FakeArk, node: FakeNode, canary: FakeServer
) -> None:
    with_ark.items = [{"url": f"{canary.url}/metadata"}]
    status, body = generate(prompt="a cat")
    assert (status, body["code"]) == (502, "result_refused")


def test_the_schema_describes_the_form_and_the_answer(client: Client) -> None:
    schema = client.get("/api/v1/schema/?format=json").json()
    operation = schema["paths"]["/seedream/generate"]["post"]
    assert set(operation["responses"]) == {"200", "400", "502", "503", "504"}
    assert "multipart/form-data" in operation["requestBody"]["content"]
    assert "/seedream/jobs/{job_id}" in schema["paths"]
