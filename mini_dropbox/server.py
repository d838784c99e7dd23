"""The HTTP server of both roles: uvicorn under gunicorn.

gunicorn serves on Linux and macOS; elsewhere, and for `runserver`, uvicorn serves alone.
"""

import sys
from typing import Any, Final

from mini_dropbox.env import Role
from mini_dropbox.patient_protocol import TIME_LIMITS, MasterProtocol
from mini_dropbox.quick_protocol import QuickProtocol

APPLICATION: Final = "mini_dropbox.asgi:application"
# What is in flight when a stop is asked for may take this long, then it is refused.
GRACEFUL_SECONDS: Final = 2

PROTOCOLS: Final = {Role.MASTER: MasterProtocol, Role.NODE: QuickProtocol}


def uvicorn_options(role: Role) -> dict[str, Any]:
    """Return what both ways to serve tell uvicorn."""
    return {
        "http": PROTOCOLS[role],
        "ws": "none",
        "lifespan": "on",
        "timeout_keep_alive": int(TIME_LIMITS[role].idle),
        "timeout_graceful_shutdown": GRACEFUL_SECONDS,
        "server_header": False,
        "date_header": True,
        "proxy_headers": False,
    }


def command(host: str, port: int) -> list[str]:
    """Return the command line of a server process for production."""
    if sys.platform == "win32":
        return [sys.executable, "-m", "mini_dropbox.serve", host, str(port)]
    bind = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    configuration = "python:mini_dropbox.gunicorn_conf"
    return [sys.executable, "-m", "gunicorn", "-c", configuration, "-b", bind, APPLICATION]


def node_settings(host: str, port: int) -> dict[str, str]:
    """Return the settings that make a process the node at this address, named by its port."""
    return {"NODE_ID": str(port), "NODE_URL": base_url(host, port)}


def base_url(host: str, port: int) -> str:
    """Return the http address of a server, with IPv6 hosts in brackets."""
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
