"""`/api/v1/`: files, blobs and nodes to list, filter and search, page by page."""

import re
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, TypeVar

import django_filters
from django.core.exceptions import ValidationError
from django.db.models import Exists, OuterRef, QuerySet
from django.utils.dateparse import parse_datetime
from django_filters.fields import IsoDateTimeField
from django_filters.rest_framework import DjangoFilterBackend
from drf_spectacular.utils import extend_schema, extend_schema_view
from rest_framework import status
from rest_framework.exceptions import NotFound
from rest_framework.filters import SearchFilter
from rest_framework.pagination import Cursor, CursorPagination
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.serializers import ModelSerializer
from rest_framework.views import APIView
from rest_framework.viewsets import ReadOnlyModelViewSet

from master_app import selectors
from master_app.api.serializers import (
    BlobSerializer,
    ErrorSerializer,
    FileSerializer,
    NodeSerializer,
)
from master_app.collection import services as collection_services
from master_app.models import Blob, File, Node, NodeState, Replica
from master_app.name_search import files_found

# Up to the largest key that there can be, by its digits.
POSITION_IN_SEARCH = re.compile(r"[0-9]{1,18}")

V = TypeVar("V", bound=ReadOnlyModelViewSet[Any])


def documented(serializer: type[ModelSerializer[Any]]) -> Callable[[type[V]], type[V]]:
    """Name what a view set answers, errors included, for the schema."""
    page = {200: serializer(many=True), 400: ErrorSerializer, 404: ErrorSerializer}
    decorator: Callable[[type[V]], type[V]] = extend_schema_view(
        list=extend_schema(responses=page),
        retrieve=extend_schema(responses={200: serializer, 404: ErrorSerializer}),
    )
    return decorator


def in_utc(moment: datetime) -> datetime:
    """Return a moment as the database stores it; ValueError for one beyond the years 1 to 9999."""
    try:
        return moment.astimezone(UTC)
    except OverflowError as error:
        raise ValueError(str(error)) from error


class NewestFirst(CursorPagination):
    """Pages by key, newest first: as quick at the end as at the start, and never a count."""

    page_size = 100
    max_page_size = 1000
    page_size_query_param = "page_size"
    ordering = ("-created_at", "-id")

    def decode_cursor(self, request: Request) -> Cursor | None:
        """Return where a page starts; NotFound for what no page of ours has led to."""
        cursor = super().decode_cursor(request)
        if cursor is not None and cursor.position is not None:
            self._check_position(str(cursor.position))
        return cursor

    def _check_position(self, position: str) -> None:
        """Hold that a position is a moment: the database would be asked for anything else, too."""
        try:
            moment = parse_datetime(position)
            usable = moment is not None and moment.tzinfo is not None and in_utc(moment)
        except ValueError:
            usable = False
        if not usable:
            raise NotFound(self.invalid_cursor_message)


class FilesNewestFirst(NewestFirst):
    """Files by the moment they were uploaded, and those that a search finds as registered."""

    def get_ordering(
        self, request: Request, queryset: QuerySet[File], view: APIView
    ) -> tuple[str, ...]:
        self._is_search = "found_key" in queryset.query.annotations
        return ("-found_key",) if self._is_search else self.ordering

    def _check_position(self, position: str) -> None:
        """Hold that a position in a search is a file's number; in other lists it is a moment."""
        if not self._is_search:
            super()._check_position(position)
        elif not POSITION_IN_SEARCH.fullmatch(position):
            raise NotFound(self.invalid_cursor_message)


class NodesByFirstSeen(NewestFirst):
    """The same for nodes, which are joined rather than created."""

    ordering = ("first_seen_at", "id")


class MomentField(IsoDateTimeField):
    """A date and time with an offset, or in UTC."""

    def to_python(self, value: Any) -> datetime | None:
        moment = super().to_python(value)
        try:
            return None if moment is None else in_utc(moment)
        except ValueError as error:
            raise ValidationError(self.error_messages["invalid"], code="invalid") from error


class MomentFilter(django_filters.IsoDateTimeFilter):
    """Compares with a moment."""

    field_class = MomentField


class NodeFilterField(django_filters.CharFilter):
    """Keeps what a node has; looked up row by row, so that a page stops early.

    `field_name` is the path from the query's model to the blob.
    """

    def filter(self, qs: QuerySet[Any], value: str) -> QuerySet[Any]:
        if not value:
            return qs
        # The node is looked up first, so that a row's look-up is one step in an index.
        key = Node.objects.filter(node_id=value).values_list("pk", flat=True).first()
        on_node = Replica.objects.filter(blob=OuterRef(self.field_name), node=key)
        return qs.filter(Exists(on_node)) if key else qs.none()


class FileSearch(SearchFilter):
    """Searches names and whole hashes by their indexes."""

    def filter_queryset(self, request: Request, queryset: Any, view: APIView) -> Any:
        words = self.get_search_terms(request)
        return files_found(queryset, words) if words else queryset


class FileFilter(django_filters.FilterSet):
    """What files can be filtered by."""

    hash = django_filters.CharFilter(field_name="blob__hash")
    node = NodeFilterField(field_name="blob")
    verified = django_filters.BooleanFilter(field_name="blob__verified")
    min_size = django_filters.NumberFilter(field_name="blob__size", lookup_expr="gte")
    max_size = django_filters.NumberFilter(field_name="blob__size", lookup_expr="lte")
    created_after = MomentFilter(field_name="created_at", lookup_expr="gte")
    created_before = MomentFilter(field_name="created_at", lookup_expr="lt")

    class Meta:
        model = File
        fields = ("name", "content_type")


class BlobFilter(django_filters.FilterSet):
    """What blobs can be filtered by."""

    node = NodeFilterField(field_name="pk")
    min_size = django_filters.NumberFilter(field_name="size", lookup_expr="gte")
    max_size = django_filters.NumberFilter(field_name="size", lookup_expr="lte")

    class Meta:
        model = Blob
        fields = ("verified",)


class NodeFilter(django_filters.FilterSet):
    """What nodes can be filtered by."""

    state = django_filters.ChoiceFilter(field_name="state_now", choices=NodeState.choices)

    class Meta:
        model = Node
        fields = ("writable", "mode")


@extend_schema(tags=["Browse"])
@extend_schema_view(destroy=extend_schema(responses={204: None, 404: ErrorSerializer}))
@documented(FileSerializer)
class FileViewSet(ReadOnlyModelViewSet[File]):
    """Registered files, newest first; `search` looks in names and finds whole hashes.

    What a search finds comes in the order in which it was registered, the last first. A file that
    is deleted is gone from every list at once; its bytes go when the grace period is over and no
    other file has them.
    """

    queryset = File.objects.select_related("blob").prefetch_related("blob__replicas__node")
    serializer_class = FileSerializer
    pagination_class = FilesNewestFirst
    filter_backends = (DjangoFilterBackend, FileSearch)
    filterset_class = FileFilter
    search_fields = ("name", "=blob__hash")

    def destroy(self, request: Request, pk: str) -> Response:
        """Delete one file; other files with the same bytes stay."""
        file = self.get_object()
        if not collection_services.files_delete(keys=[file.pk]):
            raise NotFound
        return Response(status=status.HTTP_204_NO_CONTENT)


@extend_schema(tags=["Browse"])
@documented(BlobSerializer)
class BlobViewSet(ReadOnlyModelViewSet[Blob]):
    """Blobs with their replicas, newest first; `search` finds the start of a hash or SHA-256."""

    queryset = selectors.blobs_with_names()
    serializer_class = BlobSerializer
    pagination_class = NewestFirst
    filter_backends = (DjangoFilterBackend, SearchFilter)
    filterset_class = BlobFilter
    search_fields = ("^hash", "^sha256")
    lookup_field = "hash"
    lookup_value_regex = "[A-Za-z0-9_-]{1,128}"


@extend_schema(tags=["Browse"])
@documented(NodeSerializer)
class NodeViewSet(ReadOnlyModelViewSet[Node]):
    """Storage nodes with the state that follows from their heartbeats."""

    queryset = Node.objects.all()
    serializer_class = NodeSerializer
    pagination_class = NodesByFirstSeen
    filter_backends = (DjangoFilterBackend, SearchFilter)
    filterset_class = NodeFilter
    search_fields = ("node_id", "url")
    lookup_field = "node_id"
    lookup_value_regex = "[A-Za-z0-9_-]{1,64}"

    def get_queryset(self) -> QuerySet[Node]:
        return Node.objects.with_state()
