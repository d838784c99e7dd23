"""Paths below `/seedream/`."""

from django.urls import path

from seedream_app import api

urlpatterns = [
    path("generate", api.GenerateView.as_view(), name="seedream-generate"),
    path("jobs/<uuid:job_id>", api.JobView.as_view(), name="seedream-job"),
]
