"""The master's ASGI application: Django, and what starts and ends with the process."""

import threading
from typing import Final

from django.conf import settings
from django.utils.module_loading import import_string

from master_app import metrics
from mini_dropbox import asgi_django
from mini_dropbox.asgi_types import Application, Receive, Scope, Send
from mini_dropbox.env import ConfigurationError
from mini_dropbox.folder_lock import lock_folder
from mini_dropbox.request_stats import counted
from mini_dropbox.request_threads import REQUEST_THREADS

# What else may hold the lock on the master's folder, and how long a start waits for it.
RESTORE: Final = "process, which restores a backup"
RESTORE_SECONDS: Final = 10.0


def build() -> Application:
    """Return the application; Django answers requests, this module the server's lifespan."""
    django_application = counted(
        asgi_django.build(import_string(settings.ASGI_FRONT)), metrics.REQUESTS
    )

    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await _lifespan(receive, send)
        else:
            await django_application(scope, receive, send)

    return application


async def _lifespan(receive: Receive, send: Send) -> None:
    await receive()
    try:
        # Several masters may share the database, and none runs while it is replaced.
        lock = lock_folder(settings.MASTER_DIR, RESTORE, patience=RESTORE_SECONDS, shared=True)
    except ConfigurationError as error:
        await send({"type": "lifespan.startup.failed", "message": str(error)})
        return
    stopping = threading.Event()
    for task in settings.STARTUP_TASKS:
        # Daemons, because a stop waits for nobody: what they do can be taken up again.
        threading.Thread(
            target=import_string(task), args=(stopping,), name=task, daemon=True
        ).start()
    await send({"type": "lifespan.startup.complete"})
    await receive()
    stopping.set()
    REQUEST_THREADS.close()
    lock.close()
    await send({"type": "lifespan.shutdown.complete"})
