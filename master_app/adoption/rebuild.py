"""The whole of it: all nodes' inventories into the books, and what is missing after that."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

from master_app import derived
from master_app.adoption import services
from master_app.adoption.missing import Missing, missing_blobs
from master_app.adoption.nodes import OnProgress, node_adopt
from master_app.adoption.services import ALL_TIME, Adopted
from master_app.models import Node
from master_app.node_client import NodeRequestError


@dataclass
class Report:
    """What became of a rebuilding; `known_before` are blobs, `failures` by the node's address."""

    known_before: int
    adopted: Adopted = field(default_factory=Adopted)
    nodes: list[Node] = field(default_factory=list)
    failures: dict[str, str] = field(default_factory=dict)
    missing: int = 0


def rebuild(
    *,
    urls: Iterable[str],
    all_names: bool,
    on_progress: OnProgress,
    on_missing: Callable[[Missing], None],
) -> Report:
    """Adopt what the nodes at `urls` have, and those on record; then look for what is missing.

    With `all_names`, known blobs get all names that nodes have for them, deleted ones as well.
    """
    report = Report(known_before=derived.totals().verified_blobs)
    gap = ALL_TIME if all_names else services.gap()
    for url in dict.fromkeys([*urls, *Node.objects.members().values_list("url", flat=True)]):
        try:
            node, adopted = node_adopt(
                base_url=url, adopts_blobs=True, gap=gap, on_progress=on_progress
            )
        except NodeRequestError as error:
            report.failures[url] = str(error)
        else:
            if node not in report.nodes:
                report.nodes.append(node)
            report.adopted += adopted
        # The first node of new books tells them whose they are, and that they lack all before.
        gap = gap or services.gap()
    report.missing = _report_missing(report.nodes, on_missing)
    return report


def _report_missing(nodes: Sequence[Node], on_missing: Callable[[Missing], None]) -> int:
    count = 0
    for missing in missing_blobs(nodes):
        count += 1
        on_missing(missing)
    return count
