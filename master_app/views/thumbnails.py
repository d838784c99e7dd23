"""`/thumbnails/<hash>`: small pictures for the pages that list files."""

from typing import Final

from django.http import HttpRequest, HttpResponse, JsonResponse
from django.http.response import HttpResponseBase
from django.utils.cache import get_conditional_response
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_safe

from master_app.errors import ThumbnailError
from master_app.thumbnails import SIDE_PIXELS, thumbnail_of

IMMUTABLE: Final = "public, max-age=31536000, immutable"
# The bytes will not become an image, but a later version may open more formats.
NEVER_AN_IMAGE: Final = "public, max-age=3600"


# A POST is to hear 405, and not first of a token that no request here needs.
@csrf_exempt
@require_safe
def thumbnail(request: HttpRequest, blob_hash: str) -> HttpResponseBase:
    """Answer with the thumbnail of a blob, or 404 and why there is none."""
    try:
        content = thumbnail_of(blob_hash=blob_hash)
    except ThumbnailError as error:
        refusal = JsonResponse({"detail": error.detail, "code": error.code}, status=error.status)
        refusal["Cache-Control"] = NEVER_AN_IMAGE if error.lasting else "no-store"
        return refusal
    response = HttpResponse(content, content_type="image/webp")
    response["ETag"] = f'"{blob_hash}-{SIDE_PIXELS}"'
    response["Cache-Control"] = IMMUTABLE
    response["X-Content-Type-Options"] = "nosniff"
    conditional = get_conditional_response(request, etag=response["ETag"], response=response)
    return conditional or response
