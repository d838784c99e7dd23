"""Requests share a few threads."""

import asyncio
import threading

import pytest
from django.http import HttpRequest, HttpResponse
from django.urls import path
from pytest_django import Settings

from mini_dropbox.asgi_django import ThreadedHandler
from mini_dropbox.asgi_types import Message, Scope
from mini_dropbox.request_threads import LentThread, RequestThreads

KEPT = 2


def asked(target: str) -> Scope:
    return {
        "type": "http",
        "method": "GET",
        "path": target,
        "query_string": b"",
        "headers": [(b"host", b"localhost")],
    }


async def get(handler: ThreadedHandler, target: str) -> bytes:
    """Return the body of an answer."""
    body = [{"type": "http.request", "body": b"", "more_body": False}]
    sent: list[Message] = []

    async def receive() -> Message:
        if body:
            return body.pop()
        return await asyncio.Event().wait()  # type: ignore[return-value]  # A client that stays.

    async def send(message: Message) -> None:
        sent.append(message)

    await handler(asked(target), receive, send)
    return b"".join(message.get("body", b"") for message in sent)


@pytest.fixture
def threads() -> RequestThreads:
    return RequestThreads(kept=KEPT)


@pytest.fixture
def handler(settings: Settings, threads: RequestThreads) -> ThreadedHandler:
    settings.ROOT_URLCONF = __name__
    settings.MIDDLEWARE = []
    return ThreadedHandler(threads)


async def test_one_request_after_the_other_runs_in_one_thread(
    handler: ThreadedHandler, threads: RequestThreads
) -> None:
    answers = {await get(handler, "/who") for _ in range(5)}
    assert len(answers) == 1
    threads.close()


async def test_requests_at_the_same_time_have_a_thread_each_and_only_some_are_kept(
    handler: ThreadedHandler, threads: RequestThreads
) -> None:
    together = await asyncio.gather(*(get(handler, "/meet") for _ in range(meeting.parties)))
    assert len(set(together)) == meeting.parties
    again = {await get(handler, "/who") for _ in range(5)}
    assert len(again) == 1
    assert len(threads._idle) == KEPT
    threads.close()


async def test_a_failure_gives_the_thread_back(
    handler: ThreadedHandler, threads: RequestThreads
) -> None:
    first = await get(handler, "/who")
    await get(handler, "/fail")
    assert await get(handler, "/who") == first
    threads.close()


def test_a_request_that_has_nothing_to_run_yet_holds_no_thread(threads: RequestThreads) -> None:
    slow, quick = LentThread(threads), LentThread(threads)
    first = quick.submit(threading.get_ident).result()
    quick.give_back()
    slow.give_back()
    later = LentThread(threads)
    assert later.submit(threading.get_ident).result() == first
    later.give_back()
    threads.close()


meeting = threading.Barrier(KEPT + 2, timeout=30)


def who(request: HttpRequest) -> HttpResponse:
    return HttpResponse(str(threading.get_ident()))


def meet(request: HttpRequest) -> HttpResponse:
    meeting.wait()
    return who(request)


def fail(request: HttpRequest) -> HttpResponse:
    raise ValueError("a fault of the view")


urlpatterns = [path("who", who), path("meet", meet), path("fail", fail)]
