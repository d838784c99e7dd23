"""A walk over all that one node has, a page at a time: memory and transactions stay small."""

from collections.abc import Callable, Iterator
from itertools import chain, islice
from typing import Final

from django.utils import timezone

from master_app import membership, node_client
from master_app.adoption import services
from master_app.adoption.services import Adopted, Gap
from master_app.models import Node, NodeMode
from master_app.node_client import Inventory, NodeRequestError
from mini_dropbox.wire import Holding

NAMES_AT_ONCE: Final = 1000

# Told of a node's id, how many of its blobs have been read, and about how many there are.
OnProgress = Callable[[str, int, int], None]


def node_adopt(
    *, base_url: str, adopts_blobs: bool, gap: Gap | None, on_progress: OnProgress
) -> tuple[Node, Adopted]:
    """Take all that a node has into the books; make the node's row if it has none.

    NodeRequestError when it does not answer, or belongs to another cluster; what was adopted by
    then stays.
    """
    page = node_client.inventory(base_url=base_url)
    node = _row(page, base_url)
    names = _Names(node_client.further_names(base_url=base_url))
    adopted, read = Adopted(), 0
    while True:
        some, fresh = services.holdings_adopt(
            node=node.pk, holdings=page.holdings, adopts_blobs=adopts_blobs, gap=gap
        )
        adopted += some
        # Both come in the order of the hashes, so that these are of blobs on record by now.
        of_page = names.until(page.following)
        while named := list(islice(of_page, NAMES_AT_ONCE)):
            some, more = services.holdings_adopt(
                node=node.pk, holdings=named, adopts_blobs=adopts_blobs, gap=gap, fresh=fresh
            )
            adopted += some
            fresh |= more
        read += len(page.holdings)
        on_progress(node.node_id, read, page.total)
        if page.following is None:
            break
        page = node_client.inventory(base_url=base_url, after=page.following)
    services.inventory_taken(node=node.pk, store_id=node.store_id)
    return node, adopted


class _Names:
    """Further names, taken from one iterator in pieces."""

    def __init__(self, names: Iterator[Holding]) -> None:
        self._names = names

    def until(self, last: str | None) -> Iterator[Holding]:
        """Yield the names up to those of the hash `last`, or all that are left."""
        for holding in self._names:
            if last is not None and holding.hash > last:
                self._names = chain([holding], self._names)
                return
            yield holding


def _row(page: Inventory, base_url: str) -> Node:
    """Return the row of a node that may not have sent a heartbeat to these books."""
    ours = membership.cluster_id(of_first=page.cluster_id)
    if page.cluster_id not in {"", ours}:
        message = (
            f"Node {page.node_id} at {base_url} belongs to cluster {page.cluster_id}, and these "
            f"are the books of cluster {ours}"
        )
        raise NodeRequestError(message)
    now = timezone.now()
    said = {
        "url": base_url,
        "store_id": page.store_id,
        "first_seen_at": now,
        "last_heartbeat_at": now,
    }
    node, _ = Node.objects.get_or_create(node_id=page.node_id, defaults=said)
    if node.mode == NodeMode.REMOVED:
        message = f"Node {page.node_id} was removed from this cluster"
        raise NodeRequestError(message)
    if node.store_id not in {"", page.store_id}:
        message = (
            f"Node {page.node_id} at {base_url} has another disk than the books say: let the "
            "master run, which takes it in"
        )
        raise NodeRequestError(message)
    return node
