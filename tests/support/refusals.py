"""What every refusal has in common, and what it must not leave behind."""

from typing import Any

import requests

from tests.support.cluster import Cluster, Server
from tests.support.raw_http import Answer

JSON_TYPE = {"Content-Type": "application/json"}
# No file of this name may ever be listed.
REFUSED = "refused.bin"
REFUSED_FILE = f'name="file"; filename="{REFUSED}"'


def servers(cluster: Cluster) -> list[Server]:
    return [cluster.master, *cluster.nodes]


def names_listed(cluster: Cluster) -> set[str]:
    return {record["name"] for record in cluster.master.get("/list").json()}


def error_of(answer: Answer | requests.Response) -> dict[str, Any]:
    """Return an error's body after a look at what every error has."""
    content_type = answer.headers.get("content-type", "")
    assert content_type.startswith("application/json"), answer
    body = answer.json()
    assert isinstance(body["detail"], str)
    assert body["detail"]
    assert isinstance(body["code"], str)
    return dict(body)


def refusal(answer: Answer | requests.Response) -> tuple[int, str]:
    """Return status and code of a node's refusal, as the original's clients and ours read it."""
    body = error_of(answer)
    assert body["success"] is False
    assert body["message"] == body["detail"]
    status = answer.status if isinstance(answer, Answer) else answer.status_code
    return status, body["code"]
