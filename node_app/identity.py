"""Whose a node's data folder is, and which one: `identity.json` in the folder itself.

A disk can be carried to another cluster, copied, renamed or lost. The file goes with the disk, so
that the node, or else the master, finds out.
"""

import json
import os
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Final

from mini_dropbox.durability import fsync_folder
from mini_dropbox.env import ConfigurationError
from mini_dropbox.wire import IDENTITY_PATTERN, new_identity
from node_app.disk import FILE_MODE

NAME: Final = "identity.json"


@dataclass(frozen=True)
class Identity:
    """What a folder says of itself; `cluster_id` is empty until a master has answered."""

    node_id: str
    store_id: str
    cluster_id: str = ""


def of_folder(folder: Path, node_id: str) -> Identity:
    """Return the folder's identity, made now for one without: a new one, or of an earlier version.

    ConfigurationError when it is the folder of another node, or says nothing that can be read.
    """
    path = folder / NAME
    try:
        identity = _parse(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return _make(folder, node_id)
    except (OSError, ValueError, TypeError) as error:
        message = (
            f"{path} does not say whose folder this is ({error}): put back what was in it, or "
            "delete the file, and the node counts as one with a new disk."
        )
        raise ConfigurationError(message) from error
    if identity.node_id != node_id:
        message = (
            f"{folder} holds the disk of node {identity.node_id}, not of node {node_id}: start it "
            f"as node {identity.node_id}, or give node {node_id} an empty folder."
        )
        raise ConfigurationError(message)
    return identity


def join(folder: Path, identity: Identity, cluster_id: str) -> Identity:
    """Return the identity as a member of a cluster, once that is on disk; OSError if it fails."""
    joined = replace(identity, cluster_id=cluster_id)
    _write(folder, joined)
    return joined


def _make(folder: Path, node_id: str) -> Identity:
    identity = Identity(node_id, new_identity())
    try:
        _write(folder, identity)
        # The folder may be as new as the file.
        fsync_folder(folder.parent)
    except OSError as error:
        message = f"{folder / NAME} cannot be written ({error.strerror}): make room, or let it."
        raise ConfigurationError(message) from error
    return identity


def _parse(text: str) -> Identity:
    """Return what a file says; ValueError or TypeError when that is no identity."""
    identity = Identity(**json.loads(text))
    names = (identity.store_id, identity.cluster_id or identity.store_id)
    if not all(IDENTITY_PATTERN.fullmatch(name) for name in names):
        raise ValueError("its names are not of 32 hexadecimal digits")
    return identity


def _write(folder: Path, identity: Identity) -> None:
    temporary = folder / f".{NAME}.new"
    with temporary.open("w", encoding="utf-8") as file:
        json.dump(asdict(identity), file)
        file.flush()
        os.fsync(file.fileno())
    temporary.chmod(FILE_MODE)
    temporary.replace(folder / NAME)
    fsync_folder(folder)
