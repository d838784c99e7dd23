"""Which blobs no node has any more: every copy on record is asked for, and nothing is deleted."""

from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from master_app import node_client
from master_app.models import Blob, File, Node, Replica
from master_app.node_client import NodeRequestError
from master_app.repair.services import replicas_forget, tasks_add

PAGE_ROWS: Final = 1000


@dataclass(frozen=True)
class Missing:
    """A blob that no node in reach has; `name` is its newest, `away` who may have it."""

    hash: str
    size: int
    name: str
    away: tuple[str, ...]


@dataclass(frozen=True)
class _Wanted:
    hash: str
    sha256: str
    size: int


def missing_blobs(nodes: Collection[Node]) -> Iterator[Missing]:
    """Yield the blobs that none of these nodes has, which have just been asked for all they have.

    Copies that their own node says it has not are taken off the record, and noted for repair.
    """
    in_reach = {node.pk: node for node in nodes}
    names = dict(Node.objects.values_list("pk", "node_id"))
    last = 0
    while page := _page(last):
        last = max(page)
        holders = _holders(page)
        found = _confirmed(page, holders, in_reach)
        for key in page.keys() - found:
            away = sorted(names[node] for node in holders[key] if node not in in_reach)
            yield _missing(key, page[key], away)


def _page(after: int) -> dict[int, _Wanted]:
    blobs = Blob.objects.filter(pk__gt=after, verified=True).order_by("pk")
    rows = blobs.values_list("pk", "hash", "sha256", "size")[:PAGE_ROWS]
    return {key: _Wanted(blob_hash, sha256, size) for key, blob_hash, sha256, size in rows}


def _holders(page: Collection[int]) -> defaultdict[int, set[int]]:
    """Return the keys of the nodes with a copy on record, by blob."""
    holders: defaultdict[int, set[int]] = defaultdict(set)
    for blob, node in Replica.objects.filter(blob__in=page).values_list("blob_id", "node_id"):
        holders[blob].add(node)
    return holders


def _confirmed(
    page: Mapping[int, _Wanted], holders: Mapping[int, set[int]], in_reach: dict[int, Node]
) -> set[int]:
    """Return the blobs that a node has confirmed; a node that fails is out of reach from then."""
    found: set[int] = set()
    denied: defaultdict[int, list[int]] = defaultdict(list)
    for pk, node in list(in_reach.items()):
        asked = {page[key].hash: key for key in page if pk in holders[key]}
        if not asked:
            continue
        try:
            held = node_client.held(base_url=node.url, hashes=list(asked))
        except NodeRequestError:
            del in_reach[pk]
            continue
        for blob_hash, key in asked.items():
            sha256, _ = held.get(blob_hash, ("", 0))
            if sha256 == page[key].sha256:
                found.add(key)
            else:
                denied[pk].append(key)
    _forget(denied, holders)
    return found


def _forget(denied: Mapping[int, list[int]], holders: Mapping[int, set[int]]) -> None:
    left: dict[int, int] = {}
    for node, blobs in denied.items():
        replicas_forget(node=node, blobs=blobs)
        for key in blobs:
            left[key] = left.get(key, len(holders[key])) - 1
    tasks_add(copies=left)


def _missing(key: int, wanted: _Wanted, away: Collection[str]) -> Missing:
    name = File.objects.filter(blob=key).order_by("-pk").values_list("name", flat=True).first()
    return Missing(wanted.hash, wanted.size, name or "", tuple(away))
