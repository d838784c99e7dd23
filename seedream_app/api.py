"""`POST /seedream/generate` and `GET /seedream/jobs/<id>`."""

from uuid import UUID

from drf_spectacular.utils import extend_schema
from rest_framework.parsers import FormParser, MultiPartParser
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from master_app.api.serializers import ErrorSerializer
from seedream_app import selectors, services
from seedream_app.serializers import GenerateSerializer, GenerationErrorSerializer, JobSerializer


class GenerateView(APIView):
    """Makes images from a prompt."""

    parser_classes = (MultiPartParser, FormParser)

    @extend_schema(
        tags=["Images"],
        request={"multipart/form-data": GenerateSerializer},
        responses={
            200: JobSerializer,
            400: ErrorSerializer,
            502: GenerationErrorSerializer,
            503: GenerationErrorSerializer,
            504: GenerationErrorSerializer,
        },
    )
    def post(self, request: Request) -> Response:
        """Generate images, store them like uploads, and answer with links that stay valid."""
        form = GenerateSerializer(data=request.data)
        form.is_valid(raise_exception=True)
        job = services.generation_run(**form.to_service())
        return Response(JobSerializer(job).data)


class JobView(APIView):
    """Looks a generation up."""

    @extend_schema(tags=["Images"], responses={200: JobSerializer, 404: ErrorSerializer})
    def get(self, request: Request, job_id: UUID) -> Response:
        """Return how far a generation has come, and its images when it has ended."""
        return Response(JobSerializer(selectors.job_by_id(job_id=job_id)).data)
