"""What nodes say to the master: heartbeats and groups of registrations, signed."""

from typing import Any, cast

from drf_spectacular.utils import extend_schema
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from master_app import services
from master_app.api.authentication import SignedByCluster, signed_by
from master_app.api.registrations import parse_registrations, parse_sender
from master_app.api.serializers import HeartbeatSerializer, LossesSerializer
from master_app.metrics import count_registrations


@extend_schema(exclude=True)
class HeartbeatView(APIView):
    """Takes a node's heartbeat and answers with the cluster map."""

    permission_classes = (SignedByCluster,)

    def post(self, request: Request) -> Response:
        form = HeartbeatSerializer(data=request.data)
        form.is_valid(raise_exception=True)
        return Response(services.heartbeat_record(heartbeat=form.to_heartbeat()).to_json())


@extend_schema(exclude=True)
class RegistrationsView(APIView):
    """Takes what a node has stored, many uploads at a time."""

    permission_classes = (SignedByCluster,)

    def post(self, request: Request) -> Response:
        return Response(apply_registrations(request.data))


@extend_schema(exclude=True)
class LossesView(APIView):
    """Takes the copies that a node, the one that signs, has no more."""

    permission_classes = (SignedByCluster,)

    def post(self, request: Request) -> Response:
        form = LossesSerializer(data=request.data)
        form.is_valid(raise_exception=True)
        removed = services.losses_record(
            node_id=signed_by(request),
            losses=form.to_losses(),
            sender=parse_sender(cast("dict[str, Any]", request.data)),
        )
        return Response({"removed": removed})


def apply_registrations(message: Any) -> dict[str, Any]:
    """Record what a message's registrations say, and return what became of each."""
    results = services.registrations_apply(
        registrations=parse_registrations(message), sender=parse_sender(message)
    )
    count_registrations(result.status for result in results)
    return {"results": [vars(result) for result in results]}
