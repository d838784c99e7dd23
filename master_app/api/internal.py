"""What nodes say to the master: heartbeats and groups of registrations, signed."""

from dataclasses import asdict

from drf_spectacular.utils import extend_schema
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from master_app import services
from master_app.api.authentication import SignedByCluster
from master_app.api.serializers import HeartbeatSerializer, RegistrationsSerializer


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
        form = RegistrationsSerializer(data=request.data)
        form.is_valid(raise_exception=True)
        results = services.registrations_apply(registrations=form.to_registrations())
        return Response({"results": [asdict(result) for result in results]})
