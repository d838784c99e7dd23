"""Who may use the cluster's own paths: whoever holds the cluster secret."""

import hashlib
from typing import Final

from rest_framework.permissions import BasePermission
from rest_framework.request import Request
from rest_framework.views import APIView

from master_app.cluster_signer import cluster_signer
from master_app.errors import NotSigned
from mini_dropbox.signing import SignatureError, SignedRequest

# No header of a request can have this name.
_SIGNED_BY: Final = "mini_dropbox.signed_by"


class SignedByCluster(BasePermission):
    """Lets in requests whose signature covers this method, path and body."""

    def has_permission(self, request: Request, view: APIView) -> bool:
        try:
            signed = cluster_signer().verify(
                request.headers.get("Authorization"),
                request.method or "",
                request._request.get_full_path(),
            )
        except SignatureError as error:
            raise NotSigned(str(error)) from error
        check_body(request._request.body, signed)
        request._request.META[_SIGNED_BY] = signed.node_id
        return True


def signed_by(request: Request) -> str:
    """Return the id of the node that signed a request which `SignedByCluster` has let in."""
    return str(request._request.META[_SIGNED_BY])


def check_body(body: bytes, signed: SignedRequest) -> None:
    """NotSigned unless the body is the one that was signed."""
    if hashlib.sha256(body).hexdigest() != signed.body_sha256:
        raise NotSigned("The body is not the one that was signed.")
