"""The forms of what Seedream's endpoints take and give."""

from typing import Any

from rest_framework import serializers

from mini_dropbox.env import SeedreamProvider
from seedream_app.models import GeneratedImage, GenerationJob, JobStatus
from seedream_app.providers.base import MAX_IMAGES, MAX_PROMPT_CHARACTERS
from seedream_app.reference_images import MAX_REFERENCE_BYTES


class ReferenceImageField(serializers.FileField):
    """An image of at most 10 MB, read into memory; what is in it is the service's to check."""

    def __init__(self, **options: Any) -> None:
        super().__init__(required=False, help_text="An image of at most 10 MB.", **options)

    def to_internal_value(self, data: Any) -> bytes:  # type: ignore[override]
        upload = super().to_internal_value(data)
        if upload.size > MAX_REFERENCE_BYTES:
            raise serializers.ValidationError("Send an image of at most 10 MB.", code="too_large")
        content: bytes = upload.read()
        return content


class GenerateSerializer(serializers.Serializer[Any]):
    """The form of `POST /seedream/generate`."""

    prompt = serializers.CharField(
        max_length=MAX_PROMPT_CHARACTERS,
        error_messages={
            "required": "Send a prompt: the words that describe the image.",
            "blank": "Send a prompt that is not blank.",
            "max_length": "Send a prompt of at most {max_length} characters.",
        },
    )
    image1 = ReferenceImageField()
    image2 = ReferenceImageField()
    size = serializers.CharField(
        required=False,
        max_length=32,
        help_text="What the model takes: `2K`, `2048x1536`, or for kie `landscape_16_9`.",
    )
    max_images = serializers.IntegerField(
        required=False, min_value=1, max_value=MAX_IMAGES, default=1
    )

    def to_service(self) -> dict[str, Any]:
        """Return the arguments of `services.generation_run`."""
        data = self.validated_data
        return {
            "prompt": data["prompt"],
            "size": data.get("size"),
            "max_images": data["max_images"],
            "references": {name: data[name] for name in ("image1", "image2") if name in data},
        }


class GeneratedImageSerializer(serializers.ModelSerializer[GeneratedImage]):
    """A stored image; `url` is an address that serves it for as long as it is kept."""

    url = serializers.SerializerMethodField()
    hash = serializers.CharField(source="file.blob.hash", read_only=True)
    name = serializers.CharField(source="file.name", read_only=True)
    size = serializers.IntegerField(source="file.blob.size", read_only=True, help_text="Bytes.")
    content_type = serializers.CharField(source="file.content_type", read_only=True)

    class Meta:
        model = GeneratedImage
        fields = ("url", "hash", "name", "width", "height", "size", "content_type", "position")

    def get_url(self, image: GeneratedImage) -> str | None:
        return image.file.download_url()


class ItemErrorSerializer(serializers.Serializer[Any]):
    """Why an image is missing."""

    detail = serializers.CharField()
    code = serializers.CharField()
    provider_code = serializers.CharField(
        required=False, help_text="The provider's own word for it."
    )


class JobSerializer(serializers.ModelSerializer[GenerationJob]):
    """A generation; `error` is why it failed, `errors` why single images of it are missing."""

    images = GeneratedImageSerializer(many=True, read_only=True)
    status = serializers.ChoiceField(choices=JobStatus.choices, read_only=True)
    provider = serializers.ChoiceField(choices=list(SeedreamProvider), read_only=True)
    error = serializers.SerializerMethodField()
    errors = ItemErrorSerializer(  # type: ignore[assignment]  # Fields shadow nothing at run time.
        source="item_errors", many=True, read_only=True
    )

    class Meta:
        model = GenerationJob
        fields = (
            "job_id",
            "status",
            "images",
            "errors",
            "error",
            "provider",
            "model",
            "prompt",
            "created_at",
            "started_at",
            "finished_at",
        )

    def get_error(self, job: GenerationJob) -> dict[str, str] | None:
        if not job.error_code:
            return None
        said = {"detail": job.error_message, "code": job.error_code}
        provider_code = job.provider_error_code
        return said | ({"provider_code": provider_code} if provider_code else {})


class GenerationErrorSerializer(ItemErrorSerializer):
    """What a failed generation answers."""

    job_id = serializers.UUIDField(required=False)
