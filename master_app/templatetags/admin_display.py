"""Fragments of the admin's pages: values as people like to read them, all text escaped."""

from collections.abc import Iterable
from datetime import datetime
from typing import Final

from django import template
from django.conf import settings
from django.urls import reverse
from django.utils import timezone
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString

from master_app.models import Blob, File, Node, NodeState
from master_app.replica_health import ReplicaHealth, health_of
from master_app.selectors import ClusterSummary
from master_app.templatetags.file_display import kind
from master_app.thumbnails import thumbnail_url
from master_app.wording import human_size, time_ago

register = template.Library()

SHORT_HASH_CHARACTERS: Final = 10
NOTHING: Final = format_html('<span class="md-muted">{}</span>', "\N{EN DASH}")

# From these fill levels on a disk's bar changes its colour.
TIGHT_PERCENT: Final = 85
FULL_PERCENT: Final = 95

HEALTH_TONES: Final = {
    ReplicaHealth.FULL: "good",
    ReplicaHealth.DEGRADED: "warning",
    ReplicaHealth.LOST: "bad",
    ReplicaHealth.UNVERIFIED: "neutral",
}
STATE_TONES: Final = {
    NodeState.HEALTHY: "good",
    NodeState.SUSPECT: "warning",
    NodeState.DOWN: "bad",
}
# Names in the icon font that the admin's theme brings along.
KIND_ICONS: Final = {
    "image": "image",
    "video": "movie",
    "audio": "music_note",
    "archive": "folder_zip",
    "sheet": "table",
    "slides": "slideshow",
    "code": "code",
    "pdf": "picture_as_pdf",
    "text": "description",
    "file": "draft",
}


@register.filter("as_size")
def size(value: int | None) -> SafeString:
    """Show bytes in the unit that fits, and exactly when pointed at."""
    if value is None:
        return NOTHING
    return format_html(
        '<span class="md-number" title="{} bytes">{}</span>', f"{value:,}", human_size(value)
    )


@register.filter("as_saving")
def saving(holder: Node | ClusterSummary) -> SafeString:
    """Show how many bytes compression saves, and how many of a hundred."""
    if not holder.saved_bytes:
        return NOTHING
    percent = 100 * holder.saved_bytes / holder.used_bytes
    return format_html("{} ({} %)", size(holder.saved_bytes), f"{percent:.0f}")


@register.filter("as_age")
def ago(moment: datetime) -> SafeString:
    """Show how long ago a moment was, or its date after a month; exactly when pointed at."""
    return format_html(
        '<time class="md-number" datetime="{}" title="{}">{}</time>',
        moment.isoformat(),
        f"{timezone.localtime(moment):%d %b %Y, %H:%M:%S %Z}",
        time_ago(moment),
    )


def short_hash(value: str) -> SafeString:
    """Show the start of a digest; the whole when pointed at."""
    shown = value if len(value) <= SHORT_HASH_CHARACTERS else f"{value[:SHORT_HASH_CHARACTERS]}…"
    return format_html('<code class="md-hash" title="{}">{}</code>', value, shown)


@register.filter("as_copyable")
def copyable(value: str) -> SafeString:
    """Show a whole digest with a button that copies it."""
    if not value:
        return NOTHING
    return format_html(
        '<span class="md-copyable" x-data="{{copied: false}}"><code class="md-hash">{}</code>'
        '<button type="button" class="md-icon-button" title="Copy" aria-label="Copy" data-copy="{}"'
        ' x-on:click="navigator.clipboard.writeText($el.dataset.copy); copied = true;'
        ' setTimeout(() => copied = false, 1500)"><span class="material-symbols-outlined"'
        " x-text=\"copied ? 'check' : 'content_copy'\">content_copy</span></button></span>",
        value,
        value,
    )


def badge(text: str, tone: str, title: str = "") -> SafeString:
    """Show a few words on the colour of `good`, `warning`, `bad` or `neutral`."""
    return format_html('<span class="md-badge md-badge-{}" title="{}">{}</span>', tone, title, text)


def health_badge(*, verified: bool, replica_count: int) -> SafeString:
    """Show how many of the wanted replicas of a blob are in reach."""
    health = health_of(verified=verified, replica_count=replica_count)
    if health is ReplicaHealth.UNVERIFIED:
        return badge("unverified", HEALTH_TONES[health], "No node has confirmed these bytes")
    text = f"{replica_count} of {settings.ENV.replication_factor}"
    return badge(text, HEALTH_TONES[health], health.label)


@register.filter("as_state_badge")
def state_badge(node: Node) -> SafeString:
    """Show whether a node is heard of."""
    return badge(node.state.label, STATE_TONES[node.state])


@register.filter("as_node_link")
def node_link(node: Node) -> SafeString:
    """Link to a node, with a dot in the colour of its state."""
    return format_html(
        '<a class="md-node" href="{}" title="{}"><i class="md-dot md-dot-{}"></i>{}</a>',
        reverse("admin:master_app_node_change", args=(node.pk,)),
        f"Node {node.node_id}: {node.state.label.lower()}",
        STATE_TONES[node.state],
        node.node_id,
    )


def node_links(nodes: Iterable[Node]) -> SafeString:
    """Link to several nodes, by their ids."""
    ordered = sorted(nodes, key=lambda node: node.node_id)
    links = format_html_join("", "{}", ((node_link(node),) for node in ordered))
    return format_html('<span class="md-nodes">{}</span>', links) if links else NOTHING


@register.filter("as_holders")
def holders(blob: Blob) -> SafeString:
    """Link to the nodes with a blob's replicas; name those that a client only claimed."""
    if blob.verified:
        return node_links(blob.holders())
    claimed = ", ".join(map(str, blob.claimed_replicas))
    return format_html('<span class="md-muted">{}</span>', claimed) if claimed else NOTHING


@register.filter("as_blob_link")
def blob_link(blob: Blob) -> SafeString:
    return format_html(
        '<a href="{}">{}</a>',
        reverse("admin:master_app_blob_change", args=(blob.pk,)),
        short_hash(blob.hash),
    )


@register.filter("as_picture")
def picture(file: File) -> SafeString:
    """Show a file's thumbnail over the icon of its kind, which remains where there is none."""
    url = thumbnail_url(file)
    image = format_html('<img src="{}" alt="" loading="lazy">', url) if url else ""
    return format_html(
        '<span class="md-picture"><span class="material-symbols-outlined" aria-hidden="true">{}'
        "</span>{}</span>",
        KIND_ICONS[kind(file)],
        image,
    )


@register.filter("as_download_link")
def download_link(file: File) -> SafeString:
    """Show a button that downloads a file from a node; nothing where no node has it."""
    url = file.download_url()
    if url is None:
        return NOTHING
    return format_html(
        '<a class="md-icon-button" href="{}" title="Download" aria-label="Download {}">'
        '<span class="material-symbols-outlined">download</span></a>',
        url,
        file.name,
    )


@register.filter("as_fill_level")
def fill_level(node: Node) -> SafeString:
    """Show what a node's disk holds: blobs, other data, and room."""
    if not node.capacity_bytes or node.free_bytes is None:
        return format_html(
            '<span class="md-muted">{} in blobs, no limit</span>', size(node.used_bytes)
        )
    capacity, free = node.capacity_bytes, node.free_bytes
    taken = max(capacity - free, 0)
    # Blobs whose blocks the disk has not counted yet do not make the bar longer than it is full.
    blobs = min(node.used_bytes - node.saved_bytes, taken)
    percent = 100 * taken / capacity
    tone = "bad" if percent >= FULL_PERCENT else "warning" if percent >= TIGHT_PERCENT else "good"
    return format_html(
        '<span class="md-fill md-fill-{}" title="{}"><span class="md-bar" role="img"'
        ' aria-label="{}"><i class="md-bar-blobs" style="width:{}%"></i><i class="md-bar-other"'
        ' style="width:{}%"></i></span><span class="md-number">{}%</span></span>',
        tone,
        f"{human_size(blobs)} blobs, {human_size(taken - blobs)} other data, "
        f"{human_size(free)} free of {human_size(capacity)}",
        f"{percent:.0f} % full",
        f"{100 * blobs / capacity:.2f}",
        f"{100 * (taken - blobs) / capacity:.2f}",
        f"{percent:.0f}",
    )


@register.filter
def as_health_badge(blob: Blob) -> SafeString:
    """Show the health of a blob whose replicas are at hand."""
    return health_badge(verified=blob.verified, replica_count=blob.copies_in_reach())
