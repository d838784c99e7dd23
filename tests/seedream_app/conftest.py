"""Both providers and a node over real HTTP on loopback, and a watch on the key."""

import dataclasses
import json
from collections.abc import Callable, Iterator
from contextlib import closing
from typing import Any

import pytest
from django.core import serializers
from django.utils import timezone
from pytest_django.fixtures import Settings

from master_app.models import Node
from seedream_app.models import GeneratedImage, GenerationJob
from seedream_app.providers import choice
from tests.seedream_app.fakes.ark import FakeArk
from tests.seedream_app.fakes.kie import FakeKie
from tests.seedream_app.fakes.node import FakeNode
from tests.seedream_app.fakes.server import FakeServer

API_KEY = "sk-test-5up3r53cr3t-k3y"

Configure = Callable[..., None]


@pytest.fixture(autouse=True)
def nothing_tells_the_key(db: None, caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """Look through every log record and every row after each test."""
    caplog.set_level("DEBUG")
    yield
    logged = "".join(
        f"{record.getMessage()} {record.exc_text} {record.__dict__}"
        for phase in ("setup", "call")
        for record in caplog.get_records(phase)
    )
    assert API_KEY not in logged
    rows = [*GenerationJob.objects.all(), *GeneratedImage.objects.all()]
    assert API_KEY not in serializers.serialize("json", rows)


@pytest.fixture
def ark() -> Iterator[FakeArk]:
    with closing(FakeArk(API_KEY)) as server:
        yield server


@pytest.fixture
def kie() -> Iterator[FakeKie]:
    with closing(FakeKie(API_KEY)) as server:
        yield server


@pytest.fixture
def host() -> Iterator[FakeServer]:
    """Serve as a host of images, or anything else, that answers as a test tells it."""
    with closing(FakeServer()) as server:
        yield server


@pytest.fixture
def canary() -> Iterator[FakeServer]:
    """Serve in private, where nobody may be led to."""
    with closing(FakeServer()) as server:
        yield server
        assert server.requests == []


@pytest.fixture
def node(db: None) -> Iterator[FakeNode]:
    """Run a node that the master hears of."""
    with closing(FakeNode("8001")) as server:
        now = timezone.now()
        Node.objects.create(
            node_id=server.node_id, url=server.url, first_seen_at=now, last_heartbeat_at=now
        )
        yield server


@pytest.fixture
def configure(settings: Settings) -> Iterator[Configure]:
    """Set fields of the environment's settings, as in `configure(seedream_api_key=...)`."""

    def set_fields(**fields: Any) -> None:
        # A node counts as healthy for as long as a slow test takes.
        settings.ENV = dataclasses.replace(settings.ENV, heartbeat_seconds=60.0, **fields)

    set_fields(seedream_api_key=None, seedream_provider=None, seedream_base_url=None)
    yield set_fields
    choice._ark.cache_clear()
    choice._kie.cache_clear()


def without_key(answer: Any) -> Any:
    """Return an answer after making sure that the key is nowhere in it."""
    assert API_KEY not in json.dumps(answer, default=str)
    return answer
