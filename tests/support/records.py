"""Rows for tests of the master, made as the cluster makes them."""

import hashlib
from datetime import timedelta
from typing import Any

from django.utils import timezone

from master_app.models import File, Node
from master_app.services import registrations_apply
from mini_dropbox.wire import Registration

GIB = 2**30


def add_node(node_id: str, *, silent_seconds: float = 0, **values: Any) -> Node:
    """Make a node that was heard of `silent_seconds` ago."""
    now = timezone.now()
    defaults = {
        "url": f"http://127.0.0.1:{node_id}",
        "capacity_bytes": 100 * GIB,
        "free_bytes": 75 * GIB,
        "first_seen_at": now,
        "last_heartbeat_at": now - timedelta(seconds=silent_seconds),
    }
    return Node.objects.create(node_id=node_id, **{**defaults, **values})


def registration(name: str, content: bytes | None = None, **values: Any) -> Registration:
    """Return what a node would say of an upload; the content defaults to the name."""
    body = name.encode() if content is None else content
    defaults: dict[str, Any] = {
        "hash": hashlib.md5(body, usedforsecurity=False).hexdigest(),
        "sha256": hashlib.sha256(body).hexdigest(),
        "size": len(body),
        "name": name,
        "content_type": "",
        "replicas": ("8001", "8002"),
        "uploaded_at": timezone.now().timestamp(),
    }
    return Registration(**{**defaults, **values})


def add_file(name: str, content: bytes | None = None, **values: Any) -> File:
    """Make a file as a node's registration makes it."""
    entry = registration(name, content, **values)
    registrations_apply(registrations=[entry])
    return File.objects.get(name=entry.name, blob__hash=entry.hash)
