"""`/api/v1/repair/`: how far repair is, and which blobs have too few copies."""

from typing import Any

import django_filters
from django_filters.rest_framework import DjangoFilterBackend
from drf_spectacular.utils import extend_schema, extend_schema_view
from rest_framework import serializers
from rest_framework.mixins import ListModelMixin
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView
from rest_framework.viewsets import GenericViewSet

from master_app.api.serializers import ErrorSerializer
from master_app.api.v1 import NewestFirst
from master_app.models import RepairTask
from master_app.repair import selectors


class CopiesSerializer(serializers.Serializer[Any]):
    """How many blobs have so many copies."""

    copies = serializers.IntegerField()
    blobs = serializers.IntegerField()


class ProgressSerializer(serializers.Serializer[Any]):
    """What the master that repairs has done since `began_at`."""

    began_at = serializers.DateTimeField()
    copied_blobs = serializers.IntegerField()
    copied_bytes = serializers.IntegerField()
    failures = serializers.IntegerField()
    scan_percent = serializers.FloatField()
    lost = serializers.IntegerField()
    waiting = serializers.IntegerField()


class RepairSerializer(serializers.Serializer[Any]):
    """How repair is going; sizes in bytes. `progress` is null while nobody repairs."""

    is_running = serializers.BooleanField()
    backlog = serializers.IntegerField()
    backlog_bytes = serializers.IntegerField()
    failing = serializers.IntegerField()
    by_copies = CopiesSerializer(many=True)
    progress = ProgressSerializer(allow_null=True)


class RepairTaskSerializer(serializers.ModelSerializer[RepairTask]):
    """A blob with too few copies, and why the last attempt to make one failed."""

    hash = serializers.CharField(source="blob.hash", read_only=True)
    size = serializers.IntegerField(source="blob.size", read_only=True)

    class Meta:
        model = RepairTask
        fields = ("hash", "size", "copies", "attempts", "reason", "try_at", "created_at")


class RepairTaskFilter(django_filters.FilterSet):
    """What tasks can be filtered by."""

    failing = django_filters.BooleanFilter(method="filter_failing")

    class Meta:
        model = RepairTask
        fields = ("copies",)

    def filter_failing(self, tasks: Any, _name: str, value: bool) -> Any:  # noqa: FBT001
        return tasks.filter(attempts__gt=0) if value else tasks.filter(attempts=0)


class TasksNewestFirst(NewestFirst):
    """Tasks by the moment they were noted."""

    ordering = ("-created_at", "-blob_id")


@extend_schema(tags=["Repair"])
class RepairView(APIView):
    """How far repair is."""

    @extend_schema(responses={200: RepairSerializer})
    def get(self, request: Request) -> Response:
        return Response(RepairSerializer(selectors.status()).data)


@extend_schema(tags=["Repair"])
@extend_schema_view(
    list=extend_schema(
        responses={200: RepairTaskSerializer(many=True), 400: ErrorSerializer, 404: ErrorSerializer}
    )
)
class RepairTaskViewSet(ListModelMixin, GenericViewSet[RepairTask]):
    """Blobs with too few copies, those noted last first."""

    queryset = RepairTask.objects.select_related("blob")
    serializer_class = RepairTaskSerializer
    pagination_class = TasksNewestFirst
    filter_backends = (DjangoFilterBackend,)
    filterset_class = RepairTaskFilter

    @extend_schema(
        responses={200: RepairTaskSerializer(many=True), 400: ErrorSerializer, 404: ErrorSerializer}
    )
    def list(self, request: Request, *arguments: Any, **options: Any) -> Response:
        return super().list(request, *arguments, **options)
