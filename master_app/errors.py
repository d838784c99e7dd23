"""What the master refuses."""

from mini_dropbox.errors import ApiError


class MissingHash(ApiError):
    """A look-up names no hash."""

    code = "missing_hash"


class UnknownHash(ApiError):
    """No file is registered under the hash."""

    status = 404
    code = "unknown_hash"


class SizeConflict(ApiError):
    """A record's size contradicts bytes that a node has verified."""

    status = 409
    code = "size_conflict"


class NotSigned(ApiError):
    """A request to the cluster's own paths that no member of the cluster signed."""

    status = 401
    code = "not_signed"


class NoHealthyNode(ApiError):
    """Every node that could carry out the request is away."""

    status = 503
    code = "no_healthy_node"
