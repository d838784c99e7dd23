"""Logging for every process: one line an event, which names the process that speaks."""

from typing import Any

from mini_dropbox.env import Env, Role


def process_label(env: Env) -> str:
    """Return the name of this process in logs: `master` or `node 8001`."""
    return "master" if env.role is Role.MASTER else f"node {env.node_id}"


def configuration(env: Env, label: str = "") -> dict[str, Any]:
    """Return the `logging.config` dictionary of this process; `label` names one without a role."""
    label = label or process_label(env)
    return {
        "version": 1,
        "disable_existing_loggers": False,
        "formatters": {
            "line": {"format": f"%(asctime)s [{label} %(process)d] %(levelname)s %(message)s"}
        },
        "handlers": {"stderr": {"class": "logging.StreamHandler", "formatter": "line"}},
        "root": {"handlers": ["stderr"], "level": env.log_level},
        "loggers": {
            # A 4xx is the client's mistake and is said to the client.
            "django.request": {"level": "ERROR"},
            "django.security": {"level": "CRITICAL"},
            # gunicorn gives its handlers to its workers, and they have to be these.
            "gunicorn.error": {"level": "WARNING", "handlers": ["stderr"], "propagate": False},
            # uvicorn warns of what clients send. Its worker takes it off the root's handlers.
            "uvicorn.error": {"level": "ERROR", "propagate": True},
            "asyncio": {"level": "WARNING"},
        },
    }
