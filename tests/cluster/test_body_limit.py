"""Requests to Django that are larger than anything that it takes."""

import pytest
import requests

from mini_dropbox.asgi_django import MAX_BODY_BYTES
from tests.support.cluster import Cluster

pytestmark = pytest.mark.cluster


@pytest.mark.parametrize("chunked", [False, True])
def test_a_body_beyond_all_use_is_refused_and_the_refusal_can_be_read(
    cluster: Cluster, *, chunked: bool
) -> None:
    piece = b"x" * 65536
    count = MAX_BODY_BYTES // len(piece) + 1
    data = (piece for _ in range(count)) if chunked else piece * count
    for base in (cluster.master.url, cluster.nodes[0].url):
        response = requests.post(f"{base}/register", data=data, timeout=30)
        assert response.status_code == 413
        assert response.json()["code"] == "too_large"
        data = piece * count
