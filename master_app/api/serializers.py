"""The forms of what the master's endpoints take and give."""

import re
from typing import Any

from rest_framework import serializers

from master_app.api.registrations import MAX_REPLICAS
from master_app.models import Blob, File, Node, Replica
from mini_dropbox import env
from mini_dropbox.wire import (
    BLOB_HASH_PATTERN,
    IDENTITY_PATTERN,
    MAX_SIZE,
    RECORD_HASH_PATTERN,
    Heartbeat,
    Loss,
    WireError,
    clean_file_name,
)

# In one message; a node that has lost more sends several.
MAX_LOSSES = 1000


class FileNameField(serializers.CharField):
    """A file's name; of a path the last part."""

    def __init__(self, **options: Any) -> None:
        super().__init__(trim_whitespace=False, **options)

    def to_internal_value(self, data: Any) -> str:
        if not isinstance(data, str):
            self.fail("invalid")
        try:
            return clean_file_name(data)
        except WireError as error:
            raise serializers.ValidationError(str(error)) from error


class TokenField(serializers.RegexField):
    """Text that matches a pattern as a whole: nothing is trimmed off before, no number passes."""

    def __init__(self, pattern: re.Pattern[str], **options: Any) -> None:
        super().__init__(rf"^(?:{pattern.pattern})\Z", trim_whitespace=False, **options)

    def to_internal_value(self, data: Any) -> str:
        if not isinstance(data, str):
            self.fail("invalid")
        return super().to_internal_value(data)


class SizeField(serializers.IntegerField):
    """A number of bytes, as a JSON integer."""

    def __init__(self, **options: Any) -> None:
        super().__init__(min_value=0, max_value=MAX_SIZE, **options)

    def to_internal_value(self, data: Any) -> int:
        if isinstance(data, bool) or not isinstance(data, int):
            self.fail("invalid")
        return super().to_internal_value(data)


class RegisterSerializer(serializers.Serializer[Any]):
    """The body of `POST /register`."""

    hash = TokenField(
        RECORD_HASH_PATTERN,
        error_messages={"invalid": "A hash has 1 to 128 letters, digits, underscores or hyphens."},
    )
    name = FileNameField()
    size = SizeField()
    replicas = serializers.ListField(
        child=TokenField(env.NODE_ID_PATTERN), max_length=MAX_REPLICAS, required=False, default=list
    )

    def to_service(self) -> dict[str, Any]:
        """Return the arguments of `services.file_register`."""
        data = self.validated_data
        return {
            "blob_hash": data["hash"],
            "name": data["name"],
            "size": data["size"],
            "replicas": list(dict.fromkeys(data["replicas"])),
        }


class RegisteredSerializer(serializers.Serializer[Any]):
    """The answer of `POST /register`."""

    message = serializers.CharField()
    hash = serializers.CharField()


class FileRecordSerializer(serializers.Serializer[Any]):
    """The object that `/get` and `/list` show for a file; made by `selectors.file_record`."""

    hash = serializers.CharField()
    name = serializers.CharField()
    size = serializers.IntegerField()
    replicas = serializers.ListField(child=serializers.CharField())
    verified = serializers.BooleanField()
    sha256 = serializers.CharField(allow_null=True)
    content_type = serializers.CharField(allow_null=True)
    created_at = serializers.DateTimeField()


class ErrorSerializer(serializers.Serializer[Any]):
    """Every error."""

    detail = serializers.CharField()
    code = serializers.CharField()
    # The framework has a property of this name, which an answer's form does not need.
    errors = serializers.DictField(  # type: ignore[assignment]
        child=serializers.ListField(child=serializers.CharField()), required=False
    )


class HeartbeatSerializer(serializers.Serializer[Any]):
    """The body of a node's heartbeat: `wire.Heartbeat`."""

    node_id = TokenField(env.NODE_ID_PATTERN)
    url = serializers.CharField(max_length=255)
    version = serializers.CharField(max_length=32)
    capacity_bytes = SizeField(allow_null=True)
    free_bytes = SizeField(allow_null=True)
    used_bytes = SizeField()
    # Nodes of earlier versions do not say it.
    stored_bytes = SizeField(required=False, allow_null=True, default=None)
    blob_count = SizeField()
    outbox_count = SizeField(required=False, allow_null=True, default=None)
    writable = serializers.BooleanField()
    # The same; and a node's first heartbeat knows no cluster yet.
    cluster_id = TokenField(IDENTITY_PATTERN, required=False, allow_blank=True, default="")
    store_id = TokenField(IDENTITY_PATTERN, required=False, allow_blank=True, default="")

    def validate_url(self, value: str) -> str:
        try:
            return env.parse_base_url(value)
        except ValueError as error:
            raise serializers.ValidationError("Send an http:// or https:// address.") from error

    def to_heartbeat(self) -> Heartbeat:
        return Heartbeat(**self.validated_data)


class LossSerializer(serializers.Serializer[Any]):
    """A copy that a node has no more: `wire.Loss`."""

    hash = TokenField(BLOB_HASH_PATTERN)
    reason = serializers.CharField(max_length=32)
    found_by = serializers.CharField(max_length=32)
    at = serializers.FloatField()


class LossesSerializer(serializers.Serializer[Any]):
    """Copies that a node has no more."""

    losses = serializers.ListField(child=LossSerializer(), max_length=MAX_LOSSES)

    def to_losses(self) -> list[Loss]:
        return [Loss(**loss) for loss in self.validated_data["losses"]]


class NodeSerializer(serializers.ModelSerializer[Node]):
    """A storage node; sizes in bytes."""

    state = serializers.CharField(source="state_now", read_only=True)

    class Meta:
        model = Node
        fields = (
            "node_id",
            "url",
            "state",
            "mode",
            "writable",
            "version",
            "capacity_bytes",
            "free_bytes",
            "used_bytes",
            "stored_bytes",
            "blob_count",
            "first_seen_at",
            "last_heartbeat_at",
        )


class ReplicaSerializer(serializers.ModelSerializer[Replica]):
    """One node's verified copy."""

    node_id = serializers.CharField(source="node.node_id", read_only=True)
    url = serializers.CharField(source="node.url", read_only=True)

    class Meta:
        model = Replica
        fields = ("node_id", "url", "created_at")


class BlobSerializer(serializers.ModelSerializer[Blob]):
    """A blob and where it is; `names` are the newest of its `file_count` names."""

    replicas = ReplicaSerializer(many=True, read_only=True)
    names = serializers.SerializerMethodField()
    file_count = serializers.IntegerField(read_only=True)

    class Meta:
        model = Blob
        fields = (
            "hash",
            "sha256",
            "size",
            "verified",
            "replicas",
            "names",
            "file_count",
            "created_at",
        )

    def get_names(self, blob: Any) -> list[str]:
        return [file.name for file in blob.newest_files]


class FileSerializer(serializers.ModelSerializer[File]):
    """A named file; `replicas` are node ids."""

    hash = serializers.CharField(source="blob.hash", read_only=True)
    sha256 = serializers.CharField(source="blob.sha256", read_only=True)
    size = serializers.IntegerField(source="blob.size", read_only=True)
    verified = serializers.BooleanField(source="blob.verified", read_only=True)
    replicas = serializers.SerializerMethodField()
    download_url = serializers.SerializerMethodField()

    class Meta:
        model = File
        fields = (
            "id",
            "name",
            "hash",
            "sha256",
            "size",
            "content_type",
            "verified",
            "replicas",
            "download_url",
            "created_at",
        )

    def get_replicas(self, file: File) -> list[str]:
        return file.replica_node_ids()

    def get_download_url(self, file: File) -> str | None:
        return file.download_url()
