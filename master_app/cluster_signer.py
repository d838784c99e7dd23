"""The master's own signature, for what it asks of nodes and to check what they ask."""

from functools import cache

from django.conf import settings

from mini_dropbox import secret_files
from mini_dropbox.signing import Signer


@cache
def cluster_signer() -> Signer:
    """Return the signer of this master."""
    return Signer(secret_files.cluster_secret(settings.ENV), "master")
