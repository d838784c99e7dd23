"""`/api/v1/collection/`: what was deleted and is still on disk."""

from typing import Any

from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from master_app.collection import selectors


class CollectionSerializer(serializers.Serializer[Any]):
    """What is deleted and not yet removed; sizes in bytes, of each content once.

    `due` is the part of `unreferenced` whose grace period is over; `removing` is what nodes have
    still to remove. An `obstacle` is why nothing is removed at the moment. `orphans` are copies
    on nodes of what is not on record.
    """

    grace_seconds = serializers.FloatField()
    unreferenced_blobs = serializers.IntegerField()
    unreferenced_bytes = serializers.IntegerField()
    due_blobs = serializers.IntegerField()
    due_bytes = serializers.IntegerField()
    removing_blobs = serializers.IntegerField()
    removing_bytes = serializers.IntegerField()
    orphans = serializers.IntegerField()
    orphan_bytes = serializers.IntegerField()
    obstacle = serializers.CharField(allow_blank=True)


@extend_schema(tags=["Collection"])
class CollectionView(APIView):
    """How far collection is."""

    @extend_schema(responses={200: CollectionSerializer})
    def get(self, request: Request) -> Response:
        return Response(CollectionSerializer(selectors.status()).data)
