"""The paths of a node that Django serves; the data plane answers the others before it."""

from django.urls import path

from node_app import views

urlpatterns = [
    path("", views.HomeView.as_view(), name="home"),
    path("health", views.HealthView.as_view(), name="health"),
    path("metrics", views.MetricsView.as_view(), name="metrics"),
]

handler400 = "mini_dropbox.views.bad_request"
handler404 = "mini_dropbox.views.not_found"
handler500 = "mini_dropbox.views.server_error"
