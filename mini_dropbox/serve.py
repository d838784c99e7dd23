"""Serves one role with uvicorn alone, where gunicorn does not run: `python -m mini_dropbox.serve HOST PORT`."""

import sys

import uvicorn

from mini_dropbox import binding, env, logs
from mini_dropbox.server import APPLICATION, uvicorn_options


def main(host: str, port: int, *, reload: bool = False) -> None:
    """Serve until a signal ends it; with `reload`, anew after each change of the code."""
    settings = env.read()
    binding.require_loopback(host)
    uvicorn.run(
        APPLICATION,
        host=host,
        port=port,
        reload=reload,
        reload_dirs=[str(env.PROJECT_DIR)] if reload else None,
        log_config=logs.configuration(settings),
        **uvicorn_options(settings.role),
    )


if __name__ == "__main__":
    try:
        main(sys.argv[1], int(sys.argv[2]))
    except env.ConfigurationError as error:
        sys.exit(f"mini-dropbox: {error}")
