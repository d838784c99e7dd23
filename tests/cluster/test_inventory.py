"""What the master learns from nodes about what they have, over real HTTP."""

from typing import Any

import pytest

from master_app import node_client
from master_app.node_client import NodeRequestError
from mini_dropbox import secret_files
from mini_dropbox.signing import Signer
from tests.support.blob_backends import md5, sha256
from tests.support.cluster import Cluster, Server
from tests.support.waiting import eventually

pytestmark = pytest.mark.cluster


@pytest.fixture(autouse=True)
def as_the_master(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    """Sign with the secret of the cluster under test."""
    secret = secret_files.cluster_secret_path(cluster.data_dir).read_text().strip()
    monkeypatch.setattr(node_client, "cluster_signer", lambda: Signer(secret, "master"))


def everything(node: Server) -> dict[str, Any]:
    found, after = {}, ""
    while after is not None:
        page = node_client.inventory(base_url=node.url, after=after, limit=2)
        assert page.node_id == node.node_id
        found |= {holding.hash: holding for holding in page.holdings}
        after = page.following
    return found


def further_names(node: Server, blob_hash: str) -> list[str]:
    pages = node_client.further_names(base_url=node.url, limit=1)
    return [holding.name for holding in pages if holding.hash == blob_hash]


def test_every_node_says_what_it_has_and_under_which_names(cluster: Cluster) -> None:
    contents = {f"näme {number} & more.txt": b"content %d" % number for number in range(5)}
    for name, content in contents.items():
        assert len(cluster.nodes[0].upload(content, name).json()["replicas"]) == 2
    again = md5(b"content 0")
    for name in ("second +%.txt", "third.txt"):
        assert cluster.nodes[1].upload(b"content 0", name).json()["deduplicated"]

    for node in cluster.nodes:
        found = everything(node)
        for name, content in contents.items():
            holding = found[md5(content)]
            assert (holding.name, holding.sha256) == (name, sha256(content))
            assert (holding.size, holding.content_type) == (len(content), "text/plain")
        eventually(lambda node=node: len(further_names(node, again)) == 2)
        assert further_names(node, again) == ["second +%.txt", "third.txt"]


def test_a_node_is_asked_for_some_blobs(cluster: Cluster) -> None:
    content = b"asked for by its hash"
    node = cluster.nodes[0]
    assert node.upload(content).ok

    found = node_client.held(base_url=node.url, hashes=[md5(content), md5(b"unknown")])

    assert found == {md5(content): (sha256(content), len(content))}


def test_a_node_that_does_not_know_the_secret_is_an_error(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(node_client, "cluster_signer", lambda: Signer("a guess", "master"))

    with pytest.raises(NodeRequestError, match="401"):
        node_client.inventory(base_url=cluster.nodes[0].url)
