"""gunicorn's configuration for both roles.

`gunicorn -c python:mini_dropbox.gunicorn_conf -b HOST:PORT mini_dropbox.asgi:application`
"""

import logging.config
import os
import signal
import sys
import threading
import time
from typing import Any

from mini_dropbox import env, logs, server, startup
from mini_dropbox.patient_protocol import TIME_LIMITS

try:
    _env = env.read()
except env.ConfigurationError as error:
    sys.exit(f"mini-dropbox: {error}")

worker_class = "mini_dropbox.gunicorn_worker.Worker"
# One worker a process: a node's data plane is one event loop with threads behind it.
workers = 1
timeout = 30
graceful_timeout = server.GRACEFUL_SECONDS + 2
keepalive = int(TIME_LIMITS[_env.role].idle)
control_socket_disable = True
logconfig_dict = logs.configuration(_env)
proc_name = f"mini-dropbox {logs.process_label(_env)}"


SUPERVISOR_CHECK_SECONDS = 0.5


def on_starting(arbiter: Any) -> None:
    """Refuse to start where anybody could reach us, or without what a start needs."""
    logging.config.dictConfig(logconfig_dict)
    for address in arbiter.cfg.address:
        # A string is the path of a socket, which the file system guards.
        host = address[0] if isinstance(address, tuple) else "localhost"
        try:
            startup.check(_env, host)
        except env.ConfigurationError as error:
            sys.exit(f"mini-dropbox: {error}")
    if _env.supervised:
        threading.Thread(target=_end_with_supervisor, args=(os.getppid(),), daemon=True).start()


def _end_with_supervisor(supervisor: int) -> None:
    """Stop when `runcluster` has gone without a word; nothing would ever stop us otherwise."""
    while os.getppid() == supervisor:
        time.sleep(SUPERVISOR_CHECK_SECONDS)
    os.kill(os.getpid(), signal.SIGTERM)
