"""What a node refuses or cannot do; the data plane turns each into its status, once."""

from collections.abc import Iterable


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


class BadQuery(NodeError):
    """The query or the message asks for something that cannot be given."""

    status = 400
    code = "bad_query"


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


class ReceiptGone(NodeError):
    """What a peer had sent ahead was not named in time, or before a restart."""

    status = 410
    code = "receipt_gone"


class HashCollision(NodeError):
    """Another content with the same MD5 is stored already."""

    status = 409
    code = "hash_collision"


class MethodNotAllowed(NodeError):
    """The path does not take this method; `methods` are those that it takes."""

    status = 405
    code = "method_not_allowed"

    def __init__(self, methods: Iterable[str]) -> None:
        self.methods = tuple(methods)
        super().__init__(f"Use {' or '.join(self.methods)} here.")


class BadHeader(NodeError):
    """A header that the request needs is missing or says nothing that can be understood."""

    status = 400
    code = "bad_header"


class UnsupportedVersion(NodeError):
    """The client speaks another version of the upload protocol."""

    status = 412
    code = "unsupported_version"


class UnsupportedMediaType(NodeError):
    """The body is not of the type that this request takes."""

    status = 415
    code = "unsupported_media_type"


class UploadNotFound(NodeError):
    """No resumable upload has this address, or none any more."""

    status = 404
    code = "unknown_upload"


class OffsetMismatch(NodeError):
    """The bytes do not go on where the upload stands."""

    status = 409
    code = "offset_mismatch"


class UploadLocked(NodeError):
    """Another request has the upload; or its bytes are here and cannot be stored now."""

    status = 423
    code = "upload_locked"


class ChecksumMismatch(NodeError):
    """The bytes are not those that the checksum was made of."""

    status = 460
    code = "checksum_mismatch"


class FinalUpload(NodeError):
    """The upload is made of others and takes no bytes by itself."""

    status = 403
    code = "final_upload"


class IncompletePart(NodeError):
    """What should be joined is not a part, or not all of it is there."""

    status = 400
    code = "incomplete_part"


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


class BlobDamaged(StoreFailed):
    """The bytes under a blob's name are not what was stored there."""

    code = "damaged_copy"


class NoGoodCopy(NodeError):
    """The cluster has stored the blob, and each copy is damaged or lost."""

    status = 503
    code = "no_good_copy"


class NothingToScrub(NodeError):
    """The back end keeps no files that this node could read past the cache."""

    status = 501
    code = "nothing_to_scrub"


class BelowQuorum(NodeError):
    """Fewer nodes can keep a copy now than the cluster promises."""

    status = 503
    code = "below_write_quorum"


class NodeRefused(NodeError):
    """The master does not let this node in; it keeps what it has, and takes nothing more."""

    status = 503
    code = "node_refused"


class ForeignCluster(NodeRefused):
    """The data folder belongs to another cluster, and nothing of it is served in this one."""

    code = "foreign_cluster"


class Unavailable(NodeError):
    """The answer is not known now; it may be in a moment."""

    status = 503
    code = "unavailable"


class ShuttingDown(NodeError):
    """The node ends before the upload does."""

    status = 503
    code = "shutting_down"


class StoreAgain(Exception):
    """The content of an upload was deleted while it was registered: it has to be stored again."""


class PeerError(Exception):
    """A peer did not do what it was asked; the text names host, method and what it said."""


class PeerSilent(PeerError):
    """A peer said nothing for too long; asked again, it would be silent again."""


class MasterError(Exception):
    """The master did not do what it was asked; the text names host, method and what it said."""


class MasterRefused(MasterError):
    """The master answered, and said no.

    `code` and `detail`, a sentence, are its own; empty where the answer has none.
    """

    def __init__(self, text: str, *, status: int, code: str, detail: str = "") -> None:
        super().__init__(text)
        self.status = status
        self.code = code
        self.detail = detail
