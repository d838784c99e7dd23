"""gunicorn's configuration: `gunicorn -c python:mini_dropbox.gunicorn_conf mini_dropbox.asgi:application`."""

import logging.config
import sys
from typing import Any

from mini_dropbox import binding, env, logs, server

try:
    _env = env.read()
except env.ConfigurationError as error:
    sys.exit(f"mini-dropbox: {error}")

worker_class = "mini_dropbox.gunicorn_worker.Worker"
# One worker a process: a node's data plane is one event loop with threads behind it.
workers = 1
timeout = 30
graceful_timeout = server.GRACEFUL_SECONDS + 2
keepalive = int(server.TIME_LIMITS[_env.role].idle)
control_socket_disable = True
logconfig_dict = logs.configuration(_env)
proc_name = f"mini-dropbox {logs.process_label(_env)}"


def on_starting(arbiter: Any) -> None:
    """Refuse to listen where anybody could reach us."""
    logging.config.dictConfig(logconfig_dict)
    for address in arbiter.cfg.address:
        try:
            binding.require_loopback(address[0] if isinstance(address, tuple) else "unix")
        except env.ConfigurationError as error:
            sys.exit(f"mini-dropbox: {error}")
