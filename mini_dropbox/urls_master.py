"""The master's paths."""

from django.contrib import admin
from django.urls import include, path
from drf_spectacular.views import SpectacularAPIView, SpectacularSwaggerView
from rest_framework.routers import SimpleRouter

from master_app.api import collection, contract, internal, repair, v1
from master_app.views import pages
from master_app.views.metrics import MetricsView
from master_app.views.thumbnails import thumbnail
from mini_dropbox import wire

router = SimpleRouter()
router.register("files", v1.FileViewSet)
router.register("blobs", v1.BlobViewSet)
router.register("nodes", v1.NodeViewSet)
router.register("repair/tasks", repair.RepairTaskViewSet)

urlpatterns = [
    path("", pages.home, name="home"),
    path("fragments/cluster", pages.cluster_fragment, name="cluster-fragment"),
    path("fragments/files", pages.files_fragment, name="files-fragment"),
    path("register", contract.RegisterView.as_view(), name="register"),
    path("get", contract.GetView.as_view(), name="get"),
    path("list", contract.ListView.as_view(), name="list"),
    path("health", contract.HealthView.as_view(), name="health"),
    path("metrics", MetricsView.as_view(), name="metrics"),
    path(wire.HEARTBEAT_PATH.lstrip("/"), internal.HeartbeatView.as_view()),
    path(wire.REGISTRATIONS_PATH.lstrip("/"), internal.RegistrationsView.as_view()),
    path(wire.LOSSES_PATH.lstrip("/"), internal.LossesView.as_view()),
    path("api/v1/", include(router.urls)),
    path("api/v1/collection/", collection.CollectionView.as_view(), name="collection"),
    path("api/v1/repair/", repair.RepairView.as_view(), name="repair"),
    path("api/v1/schema/", SpectacularAPIView.as_view(), name="schema"),
    path("api/v1/docs/", SpectacularSwaggerView.as_view(url_name="schema"), name="docs"),
    path("thumbnails/<str:blob_hash>", thumbnail, name="thumbnail"),
    path("seedream/", include("seedream_app.urls")),
    path("admin/", admin.site.urls),
]

handler400 = "mini_dropbox.views.bad_request"
handler404 = "mini_dropbox.views.not_found"
handler500 = "mini_dropbox.views.server_error"
