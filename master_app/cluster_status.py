"""The cluster's state in plain words, for people: a headline and what each node's card shows."""

import enum
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from django.conf import settings
from django.utils import timezone

from master_app.models import Node, NodeMode, NodeState
from master_app.selectors import ClusterSummary
from master_app.wording import copies, human_size, length_of_time

FIRST_NODE_PORT = 8001
NEARLY_FULL_PERCENT = 90


class Tone(enum.StrEnum):
    """How urgent a sentence is; also the name of its colour in the style sheet."""

    GOOD = "good"
    WARNING = "warning"
    BAD = "bad"


@dataclass(frozen=True)
class Headline:
    """What a person needs to know first; `command` is what they can type to mend it."""

    tone: Tone
    sentence: str
    command: str = ""
    detail: str = ""


@dataclass(frozen=True)
class NodeCard:
    """One node as its card shows it; `fill_percent` is of its disk, None where that has no size."""

    node: Node
    state: NodeState
    fill_percent: int | None
    silence: str
    takes_uploads: bool

    @property
    def is_nearly_full(self) -> bool:
        return self.fill_percent is not None and self.fill_percent >= NEARLY_FULL_PERCENT


def node_cards(nodes: Sequence[Node], now: datetime | None = None) -> list[NodeCard]:
    """Return the cards of `nodes`, in their order."""
    moment = now or timezone.now()
    return [
        NodeCard(
            node=node,
            state=node.state,
            fill_percent=_fill_percent(node),
            silence=length_of_time(moment - node.last_heartbeat_at),
            takes_uploads=_takes_uploads(node),
        )
        for node in nodes
    ]


def headline(summary: ClusterSummary, now: datetime | None = None) -> Headline:
    """Return the sentence for the cluster as it is, the most urgent matter first."""
    moment = now or timezone.now()
    detail = holdings(summary)
    alive = [node for node in summary.nodes if node.state is NodeState.HEALTHY]
    silent = [node for node in summary.nodes if node.state is not NodeState.HEALTHY]
    writable = sum(map(_takes_uploads, alive))
    if not alive:
        command = _start_command(summary.nodes)
        return Headline(Tone.BAD, "No storage node is up: start one with", command, detail)
    if writable < settings.ENV.write_quorum:
        sentence = f"{_no_uploads(writable)}; downloads go on."
        return Headline(Tone.BAD, sentence, detail=detail)
    if silent:
        sentence = f"{_silent(silent, moment)}; {_uploads_go_on(writable)}."
        return Headline(Tone.WARNING, sentence, detail=detail)
    full = [node for node in alive if not _takes_uploads(node)]
    if full:
        verb = "takes" if len(full) == 1 else "take"
        sentence = f"{_names(full)} {verb} no new files; {_uploads_go_on(writable)}."
        return Headline(Tone.WARNING, sentence, detail=detail)
    if len(alive) < settings.ENV.replication_factor:
        sentence = (
            f"{_all_healthy(alive)} For {copies(settings.ENV.replication_factor)} "
            "of each file, start another with"
        )
        return Headline(Tone.WARNING, sentence, _start_command(summary.nodes), detail)
    return Headline(Tone.GOOD, _all_healthy(alive), detail=detail)


def holdings(summary: ClusterSummary) -> str:
    """Return what the cluster holds, as "134 files, 1.2 GB, 2 copies of each.".

    While a node is silent nobody knows how many copies are left, so none are promised.
    """
    if not summary.file_count:
        return "Nothing is stored yet."
    files = f"{summary.file_count:,} {'file' if summary.file_count == 1 else 'files'}"
    size = human_size(summary.logical_bytes)
    if not summary.is_healthy:
        return f"{files}, {size}."
    wanted = summary.blob_count * summary.replication_factor
    if summary.replica_count < wanted:
        return f"{files}, {size}, {copies(wanted - summary.replica_count)} missing."
    each = "of it" if summary.file_count == 1 else "of each"
    return f"{files}, {size}, {copies(summary.replication_factor)} {each}."


def _takes_uploads(node: Node) -> bool:
    return node.state is NodeState.HEALTHY and node.writable and node.mode == NodeMode.ACTIVE


def _fill_percent(node: Node) -> int | None:
    if not node.capacity_bytes or node.free_bytes is None:
        return None
    used = node.capacity_bytes - node.free_bytes
    return max(0, min(100, round(100 * used / node.capacity_bytes)))


def _all_healthy(nodes: Sequence[Node]) -> str:
    if len(nodes) == 1:
        return f"Node {nodes[0].node_id} is healthy."
    return f"All {len(nodes)} nodes are healthy."


def _no_uploads(writable: int) -> str:
    quorum = settings.ENV.write_quorum
    if quorum == 1:
        return "No node takes new files"
    there = f"only {writable} {'does' if writable == 1 else 'do'}" if writable else "none does"
    return f"Uploads need {quorum} nodes that take files, and {there}"


def _silent(nodes: Sequence[Node], now: datetime) -> str:
    shortest = min(now - node.last_heartbeat_at for node in nodes)
    if len(nodes) == 1:
        return f"{_names(nodes)} has been silent for {length_of_time(shortest)}"
    return f"{_names(nodes)} have been silent for {length_of_time(shortest)} or longer"


def _uploads_go_on(writable: int) -> str:
    if writable < settings.ENV.replication_factor:
        return "uploads go on with fewer copies"
    return f"uploads go on with {copies(settings.ENV.replication_factor)}"


def _names(nodes: Sequence[Node]) -> str:
    ids = [node.node_id for node in nodes]
    if len(ids) == 1:
        return f"Node {ids[0]}"
    if len(ids) > 3:
        return f"{len(ids)} nodes"
    return f"Nodes {', '.join(ids[:-1])} and {ids[-1]}"


def _start_command(nodes: Sequence[Node]) -> str:
    """Return the command for a node that is down, or else for one on the next free port."""
    ports = {node.node_id for node in nodes if node.state is NodeState.HEALTHY}
    down = [node.node_id for node in nodes if node.state is not NodeState.HEALTHY]
    known = [node_id for node_id in down if node_id.isdigit()]
    port = int(known[0]) if known else FIRST_NODE_PORT
    while str(port) in ports:
        port += 1
    return f"python manage.py runserver --role node {port}"
