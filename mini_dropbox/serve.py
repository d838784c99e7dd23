"""Serves one role with uvicorn alone: for `runserver`, and where gunicorn does not run.

`python -m mini_dropbox.serve HOST PORT [--reload]`
"""

import sys

import uvicorn

from mini_dropbox import env, logs, startup
from mini_dropbox.server import APPLICATION, uvicorn_options

# What is watched for changes; the whole folder has a virtual environment of thousands of files.
PACKAGES = ("mini_dropbox", "master_app", "node_app", "seedream_app")


def main(host: str, port: int, *, reload: bool = False) -> None:
    """Serve until a signal ends it; with `reload`, anew after each change of the code."""
    settings = env.read()
    startup.check(settings, host)
    uvicorn.run(
        APPLICATION,
        host=host,
        port=port,
        reload=reload,
        reload_dirs=[str(env.PROJECT_DIR / package) for package in PACKAGES] if reload else None,
        log_config=logs.configuration(settings),
        **uvicorn_options(settings.role),
    )


if __name__ == "__main__":
    try:
        main(sys.argv[1], int(sys.argv[2]), reload="--reload" in sys.argv)
    except env.ConfigurationError as error:
        sys.exit(f"mini-dropbox: {error}")
