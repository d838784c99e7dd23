"""The entry point behind `manage.py`."""

import os
import sys
from collections.abc import Sequence

from mini_dropbox import env


def main(argv: Sequence[str]) -> None:
    """Run one management command; exit 2 with one line when a setting is bad."""
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "mini_dropbox.settings")
    role = role_argument(argv)
    if role is not None:
        # Settings differ by role and are read before Django parses a command's own options.
        env.put("ROLE", role)
    try:
        from django.core.management import execute_from_command_line  # noqa: PLC0415

        execute_from_command_line(list(argv))
    except env.ConfigurationError as error:
        sys.exit(f"mini-dropbox: {error}")


def role_argument(argv: Sequence[str]) -> str | None:
    """Return the value of `--role` in `argv`, if it is there in either spelling."""
    for position, argument in enumerate(argv):
        if argument.startswith("--role="):
            return argument.removeprefix("--role=")
        if argument == "--role" and position + 1 < len(argv):
            return argv[position + 1]
    return None
