"""A bounded number of requests at work, a bounded number that wait, and room for probes."""

import asyncio
import json
import threading

import pytest
from django.http import HttpRequest, HttpResponse
from django.urls import path
from pytest_django import Settings

from mini_dropbox.admission import RESERVED_PATHS, Admission
from mini_dropbox.asgi_django import ThreadedHandler
from mini_dropbox.asgi_types import Application, Message, Receive, Scope, Send
from mini_dropbox.request_threads import RequestThreads

AT_WORK = 3
WAITING = 2


class Client:
    """One request to an application in this process; `sent` is what it answered."""

    def __init__(self, target: str = "/list") -> None:
        self.target = target
        self.sent: list[Message] = []
        self._body: asyncio.Queue[Message] = asyncio.Queue()

    def send_body(self, *, more: bool = False) -> None:
        self._body.put_nowait({"type": "http.request", "body": b"", "more_body": more})

    async def receive(self) -> Message:
        return await self._body.get()

    async def send(self, message: Message) -> None:
        self.sent.append(message)

    def ask(self, application: Application) -> "asyncio.Task[None]":
        scope = {
            "type": "http",
            "method": "GET",
            "path": self.target,
            "query_string": b"",
            "headers": [(b"host", b"localhost")],
        }

        async def asked() -> None:
            await application(scope, self.receive, self.send)

        return asyncio.create_task(asked())

    @property
    def status(self) -> int | None:
        return self.sent[0]["status"] if self.sent else None


class Worker:
    """An application that works on whatever it gets until the test lets it end."""

    def __init__(self) -> None:
        self.at_work: list[str] = []
        self.may_end = asyncio.Event()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        while (message := await receive()).get("more_body"):
            pass
        if message["type"] == "http.disconnect":
            return
        self.at_work.append(scope["path"])
        await self.may_end.wait()
        await send({"type": "http.response.start", "status": 200, "headers": []})


@pytest.fixture
def worker() -> Worker:
    return Worker()


@pytest.fixture
def admission(worker: Worker) -> Admission:
    return Admission(worker, at_work=AT_WORK, waiting=WAITING)


async def settled() -> None:
    """Let every task go as far as it can."""
    for _ in range(50):
        await asyncio.sleep(0)


async def ask(
    application: Application, count: int, target: str = "/list"
) -> tuple[list[Client], list["asyncio.Task[None]"]]:
    clients = [Client(target) for _ in range(count)]
    tasks = [client.ask(application) for client in clients]
    for client in clients:
        client.send_body()
    await settled()
    return clients, tasks


async def test_no_more_than_so_many_are_at_work_and_the_others_get_their_turn(
    admission: Admission, worker: Worker
) -> None:
    clients, tasks = await ask(admission, AT_WORK + WAITING)
    assert len(worker.at_work) == AT_WORK

    worker.may_end.set()
    await asyncio.gather(*tasks)

    assert [client.status for client in clients] == [200] * (AT_WORK + WAITING)


async def test_who_finds_too_many_waiting_is_told_to_come_again(
    admission: Admission, worker: Worker
) -> None:
    _, tasks = await ask(admission, AT_WORK + WAITING)

    (late,), (refused,) = await ask(admission, 1)
    await refused

    assert late.status == 503
    headers = dict(late.sent[0]["headers"])
    assert int(headers[b"retry-after"]) > 0
    body = json.loads(late.sent[1]["body"])
    assert (body.keys(), body["code"]) == ({"detail", "code"}, "overloaded")
    assert len(worker.at_work) == AT_WORK
    worker.may_end.set()
    await asyncio.gather(*tasks)
    (later,), tasks = await ask(admission, 1)
    await asyncio.gather(*tasks)
    assert later.status == 200


@pytest.mark.parametrize("target", sorted(RESERVED_PATHS))
async def test_probes_and_the_cluster_itself_find_room_when_clients_do_not(
    admission: Admission, worker: Worker, target: str
) -> None:
    _, tasks = await ask(admission, AT_WORK + WAITING)

    _, reserved = await ask(admission, 1, target)

    assert worker.at_work[-1] == target
    worker.may_end.set()
    await asyncio.gather(*tasks, *reserved)


async def test_a_slow_sender_holds_no_place(admission: Admission, worker: Worker) -> None:
    slow = [Client() for _ in range(10 * AT_WORK)]
    slow_tasks = [client.ask(admission) for client in slow]
    for client in slow:
        client.send_body(more=True)

    _, tasks = await ask(admission, AT_WORK)

    assert len(worker.at_work) == AT_WORK
    for task in slow_tasks:
        task.cancel()
    worker.may_end.set()
    await asyncio.gather(*tasks)


async def test_a_place_is_free_again_after_a_failure_and_after_a_cancelled_wait(
    admission: Admission, worker: Worker
) -> None:
    _, tasks = await ask(admission, AT_WORK + WAITING)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)

    worker.may_end.set()
    clients, tasks = await ask(admission, AT_WORK + WAITING)
    await asyncio.gather(*tasks)

    assert {client.status for client in clients} == {200}


async def test_a_rush_of_requests_to_django_takes_a_few_threads(settings: Settings) -> None:
    settings.ROOT_URLCONF = __name__
    settings.MIDDLEWARE = []
    may_leave.clear()
    before = threading.active_count()
    admission = Admission(ThreadedHandler(RequestThreads()), at_work=AT_WORK, waiting=100)

    clients, tasks = await ask(admission, 30, "/patient")
    assert threading.active_count() - before == AT_WORK

    may_leave.set()
    await asyncio.wait_for(asyncio.gather(*tasks), 30)
    assert {client.status for client in clients} == {200}


may_leave = threading.Event()


def patient(request: HttpRequest) -> HttpResponse:
    may_leave.wait(30)
    return HttpResponse("ok")


urlpatterns = [path("patient", patient)]
