"""What a backup has, in words."""

from master_app.backup.archive import Manifest
from master_app.models import Blob, File, Node, Replica

SHOWN = {"files": File, "blobs": Blob, "copies": Replica, "nodes": Node}


def summary(manifest: Manifest) -> str:
    """Return two lines for people: whose books these are, and how much is in them."""
    rows = ", ".join(
        f"{manifest.rows.get(model._meta.db_table, 0):,} {word}" for word, model in SHOWN.items()
    )
    secrets = ", ".join(manifest.secrets) or "none"
    return (
        f"Cluster {manifest.cluster_id}, as of {manifest.made_at}, by version {manifest.version}\n"
        f"It has {rows}; secrets: {secrets}."
    )
