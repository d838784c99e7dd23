"""The original's endpoints: `/register`, `/get`, `/list`, `/health`."""

import json
from collections.abc import AsyncIterator, Iterator

from asgiref.sync import sync_to_async
from django.http import HttpResponse, StreamingHttpResponse
from django.http.response import HttpResponseBase
from drf_spectacular.utils import OpenApiParameter, OpenApiResponse, extend_schema
from rest_framework import status
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from master_app import selectors, services
from master_app.api.serializers import (
    ErrorSerializer,
    FileRecordSerializer,
    RegisteredSerializer,
    RegisterSerializer,
)
from master_app.database_check import check_database
from master_app.errors import MissingHash, UnknownHash
from mini_dropbox.negotiation import TextUnlessJsonIsAsked, wants_json
from mini_dropbox.wire import RECORD_HASH_PATTERN


class RegisterView(APIView):
    """Announces a file."""

    @extend_schema(
        tags=["Files"],
        request=RegisterSerializer,
        responses={200: RegisteredSerializer, 400: ErrorSerializer, 409: ErrorSerializer},
    )
    def post(self, request: Request) -> Response:
        """Record a file by its hash; no node has confirmed it yet, so it stays unverified."""
        form = RegisterSerializer(data=request.data)
        form.is_valid(raise_exception=True)
        services.file_register(**form.to_service())
        return Response({"message": "File registered", "hash": form.validated_data["hash"]})


class GetView(APIView):
    """Looks a file up."""

    @extend_schema(
        tags=["Files"],
        parameters=[OpenApiParameter("hash", required=True)],
        responses={200: FileRecordSerializer, 400: ErrorSerializer, 404: ErrorSerializer},
    )
    def get(self, request: Request) -> Response:
        """Return the newest file registered under a hash."""
        blob_hash = request.query_params.get("hash", "")
        if not blob_hash:
            raise MissingHash("Name the file's hash: /get?hash=<hash>.")
        if not RECORD_HASH_PATTERN.fullmatch(blob_hash):
            raise UnknownHash("No hash has this form: it has 1 to 128 letters, digits, _ or -.")
        return Response(selectors.file_record(blob_hash=blob_hash))


class ListView(APIView):
    """Lists every file."""

    @extend_schema(tags=["Files"], responses={200: FileRecordSerializer(many=True)})
    def get(self, request: Request) -> HttpResponseBase:
        """Return all files as one JSON array, streamed."""
        return StreamingHttpResponse(_sent(_json_array()), content_type="application/json")

    def head(self, request: Request) -> HttpResponseBase:
        """Answer without reading the files; how long the array would be is not known before."""
        return StreamingHttpResponse(_sent(iter(())), content_type="application/json")


async def _sent(pieces: Iterator[bytes]) -> AsyncIterator[bytes]:
    """Yield the pieces as they are asked for, each made in the request's thread."""
    following = sync_to_async(lambda: next(pieces, b""))
    while piece := await following():
        yield piece


def _json_array() -> Iterator[bytes]:
    separator = "["
    for records in selectors.file_records():
        yield (separator + json.dumps(records)[1:-1]).encode()
        separator = ", "
    yield b"[]" if separator == "[" else b"]"


class HealthView(APIView):
    """Tells whether the master can serve."""

    content_negotiation_class = TextUnlessJsonIsAsked

    @extend_schema(
        tags=["Health"], responses={(200, "text/plain"): str, 503: OpenApiResponse(ErrorSerializer)}
    )
    def get(self, request: Request) -> HttpResponse | Response:
        """Answer `OK`, or 503 when the database cannot be read or written."""
        check_database()
        if not wants_json(request):
            return Response("OK")
        summary = selectors.cluster_summary()
        return Response(
            {
                "status": "ok",
                "nodes": {node.node_id: node.state.value for node in summary.nodes},
                "healthy_nodes": summary.healthy,
                "files": summary.file_count,
                "blobs": summary.blob_count,
                "bytes": summary.logical_bytes,
                "replication_factor": summary.replication_factor,
            },
            status=status.HTTP_200_OK,
        )
