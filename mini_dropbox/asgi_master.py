"""The master's ASGI application: Django, and what starts and ends with the process."""

import threading

from django.conf import settings
from django.utils.module_loading import import_string

from mini_dropbox import asgi_django
from mini_dropbox.asgi_types import Application, Receive, Scope, Send
from mini_dropbox.request_threads import REQUEST_THREADS


def build() -> Application:
    """Return the application; Django answers requests, this module the server's lifespan."""
    django_application = asgi_django.build(import_string(settings.ASGI_FRONT))

    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await _lifespan(receive, send)
        else:
            await django_application(scope, receive, send)

    return application


async def _lifespan(receive: Receive, send: Send) -> None:
    stopping = threading.Event()
    while (await receive())["type"] == "lifespan.startup":
        for task in settings.STARTUP_TASKS:
            # Daemons, because a stop waits for nobody: what they do can be taken up again.
            threading.Thread(
                target=import_string(task), args=(stopping,), name=task, daemon=True
            ).start()
        await send({"type": "lifespan.startup.complete"})
    stopping.set()
    REQUEST_THREADS.close()
    await send({"type": "lifespan.shutdown.complete"})
