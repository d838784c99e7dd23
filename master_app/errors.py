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


class NodeRemoved(ApiError):
    """A node that was removed from the cluster speaks up."""

    status = 409
    code = "node_removed"


class NodeRefused(ApiError):
    """A node that is not the member of this cluster that it says it is; `code` says in what."""

    status = 409
    code = "node_refused"


class CopiesBeingForgotten(NodeRefused):
    """A node with an empty disk is not let in while the records of its old copies are there."""

    code = "copies_being_forgotten"


class DatabaseUnavailable(ApiError):
    """The database cannot be read, or cannot be written; `code` says what is wrong."""

    status = 503
    code = "database_failed"


class NoHealthyNode(ApiError):
    """Every node that could carry out the request is away."""

    status = 503
    code = "no_healthy_node"


class ThumbnailError(ApiError):
    """There is no thumbnail to show; `lasting` when asking again cannot change that."""

    status = 404
    lasting = False


class UnknownImage(ThumbnailError):
    """No file that is called an image has this hash."""

    code = "unknown_image"


class NotAnImage(ThumbnailError):
    """These bytes will never have a thumbnail."""

    code = "not_an_image"
    lasting = True


class ImageTooLarge(ThumbnailError):
    """The source has more bytes or pixels than is decoded for a thumbnail."""

    code = "image_too_large"
    lasting = True


class BlobUnavailable(ThumbnailError):
    """No node gives the source's bytes at this moment."""

    code = "blob_unavailable"
