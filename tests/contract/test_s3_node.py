"""Real nodes that keep their blobs in an S3 bucket."""

import json
import random
from collections.abc import Callable

import pytest
from storages.backends.s3 import S3Storage

from tests.conftest import StartCluster
from tests.support.blob_backends import S3Server, md5
from tests.support.cluster import Cluster
from tests.support.waiting import eventually

pytestmark = pytest.mark.cluster

StartS3Cluster = Callable[[str], Cluster]


@pytest.fixture
def start_s3_cluster(start_cluster: StartCluster, s3_server: S3Server) -> StartS3Cluster:
    def start(bucket: str) -> Cluster:
        return start_cluster(
            BLOB_STORE="storage",
            BLOB_STORAGE_BACKEND="storages.backends.s3.S3Storage",
            BLOB_STORAGE_OPTIONS=json.dumps(s3_server.options(bucket)),
        )

    return start


def keys(server: S3Server, bucket: str) -> list[str]:
    storage = S3Storage(**server.options(bucket))
    return sorted(entry.key for entry in storage.bucket.objects.all() if "/probe/" not in entry.key)


def test_files_go_to_the_bucket_and_come_back_from_every_node(
    start_s3_cluster: StartS3Cluster, s3_server: S3Server
) -> None:
    bucket = s3_server.new_bucket()
    cluster = start_s3_cluster(bucket)
    one, other = cluster.nodes
    content = random.Random(3).randbytes(3_000_001)

    answer = one.upload(content, "holiday.jpg").json()

    assert answer["hash"] == md5(content)
    assert answer["registered"]
    assert answer["replicas"] == sorted([one.node_id, other.node_id])
    place = f"blobs/{md5(content)[:2]}/{md5(content)[2:4]}/{md5(content)}"
    assert keys(s3_server, bucket) == sorted(
        f"node_{node.node_id}/{place}" for node in cluster.nodes
    )
    assert cluster.blob_paths(md5(content)) == []
    for node in cluster.nodes:
        assert node.retrieve(md5(content)).content == content
        part = node.retrieve(md5(content), headers={"Range": "bytes=1000000-1000009"})
        assert part.status_code == 206
        assert part.headers["Content-Range"] == f"bytes 1000000-1000009/{len(content)}"
        assert part.content == content[1_000_000:1_000_010]
        tail = node.retrieve(md5(content), headers={"Range": "bytes=-5"})
        assert tail.content == content[-5:]
    assert other.upload(content, "again.jpg").json()["deduplicated"]
    assert cluster.temporary_files() == []


@pytest.mark.parametrize("content", [b"", b"x"])
def test_the_smallest_files_come_back(
    start_s3_cluster: StartS3Cluster, s3_server: S3Server, content: bytes
) -> None:
    cluster = start_s3_cluster(s3_server.new_bucket())

    assert cluster.nodes[0].upload(content).status_code == 200

    answer = cluster.nodes[1].retrieve(md5(content))
    assert (answer.status_code, answer.content) == (200, content)
    assert answer.headers["Content-Length"] == str(len(content))


def test_nodes_are_not_healthy_while_their_bucket_is_gone_and_recover_with_it(
    start_s3_cluster: StartS3Cluster, s3_server: S3Server
) -> None:
    bucket = s3_server.new_bucket()
    cluster = start_s3_cluster(bucket)
    (node, _) = cluster.nodes
    storage = S3Storage(**s3_server.options(bucket))
    eventually(lambda: node.upload(b"before").status_code == 200)

    storage.bucket.objects.all().delete()
    eventually(lambda: delete_bucket(storage), what="no probe in the bucket")

    # What was found out a moment ago is told to whoever asks meanwhile.
    eventually(lambda: node.get("/health").status_code == 503, what="it says so")
    refused = node.upload(b"meanwhile")
    assert refused.status_code == 503
    assert s3_server.url not in refused.text
    assert bucket not in refused.text

    storage.bucket.create()
    eventually(lambda: node.get("/health").status_code == 200)
    eventually(lambda: node.upload(b"afterwards").status_code == 200)
    assert node.retrieve(md5(b"afterwards")).content == b"afterwards"


def delete_bucket(storage: S3Storage) -> bool:
    """Delete the bucket; False when a node's probe is in it at this moment."""
    client = storage.bucket.meta.client
    try:
        storage.bucket.delete()
    except client.exceptions.ClientError:
        return False
    return True
