"""What a node refuses or cannot do; the data plane turns each into its status, once."""


class NodeError(Exception):
    """A request that ends without success; the text says what the client can do."""

    status = 500
    code = "node_error"


class BadForm(NodeError):
    """The body is not a multipart form with a file in the field `file`."""

    status = 400
    code = "bad_form"


class MissingFile(BadForm):
    """The form has no file in the field `file`."""

    code = "missing_file"


class BadName(NodeError):
    """The file's name cannot be used."""

    status = 400
    code = "bad_name"


class BadHash(NodeError):
    """What should be a blob's address is missing or is no MD5."""

    status = 400
    code = "bad_hash"


class DigestMismatch(NodeError):
    """The bytes are not those that were announced."""

    status = 400
    code = "digest_mismatch"


class Truncated(NodeError):
    """The body ended before its announced end."""

    status = 400
    code = "truncated_body"


class LengthRequired(NodeError):
    """The body's end cannot be known."""

    status = 411
    code = "length_required"


class TooLarge(NodeError):
    """The file is over the limit."""

    status = 413
    code = "too_large"


class NotSigned(NodeError):
    """Nobody of this cluster signed the request."""

    status = 401
    code = "not_signed"


class BadHost(NodeError):
    """The request is for a name that is not this node's."""

    status = 400
    code = "bad_host"


class ForeignOrigin(NodeError):
    """A page of another site sent the request."""

    status = 403
    code = "foreign_origin"


class BlobNotFound(NodeError):
    """No node has the blob."""

    status = 404
    code = "unknown_hash"


class HashCollision(NodeError):
    """Another content with the same MD5 is stored already."""

    status = 409
    code = "hash_collision"


class RegistrationRefused(NodeError):
    """The bytes are stored, but the master will not record them."""

    status = 502
    code = "registration_refused"


class StoreFull(NodeError):
    """The disk has no room left."""

    status = 507
    code = "disk_full"


class StoreFailed(NodeError):
    """The disk or the storage service failed."""

    status = 503
    code = "store_failed"


class BelowQuorum(NodeError):
    """Fewer nodes can keep a copy now than the cluster promises."""

    status = 503
    code = "below_write_quorum"


class Unavailable(NodeError):
    """The answer is not known now; it may be in a moment."""

    status = 503
    code = "unavailable"


class ShuttingDown(NodeError):
    """The node ends before the upload does."""

    status = 503
    code = "shutting_down"


class PeerError(Exception):
    """A peer did not do what it was asked; the text names host, method and what it said."""


class MasterError(Exception):
    """The master did not do what it was asked; the text names host, method and what it said."""


class MasterRefused(MasterError):
    """The master answered, and said no; `code` is its own, empty where the answer has none."""

    def __init__(self, text: str, *, status: int, code: str) -> None:
        super().__init__(text)
        self.status = status
        self.code = code
