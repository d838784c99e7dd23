"""The entry point behind `manage.py`."""

import os
import sys
from collections.abc import Sequence

from mini_dropbox import env


def main(argv: Sequence[str]) -> None:
    """Run one management command; exit 2 with one line when a setting is bad."""
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "mini_dropbox.settings")
    # Settings follow from these and are read before Django parses a command's own options.
    for option, setting in (("--role", "ROLE"), ("--data-dir", "DATA_DIR")):
        value = option_value(argv, option)
        if value is not None:
            env.put(setting, value)
    try:
        from django.core.management import execute_from_command_line  # noqa: PLC0415

        execute_from_command_line(list(argv))
    except env.ConfigurationError as error:
        sys.exit(f"mini-dropbox: {error}")
    except ModuleNotFoundError as error:
        if error.name != "django":
            raise
        sys.exit("mini-dropbox: Django is missing: run `make setup`, then use .venv/bin/python.")


def option_value(argv: Sequence[str], option: str) -> str | None:
    """Return what `argv` gives `option`, as `--option value` or `--option=value`."""
    for position, argument in enumerate(argv):
        if argument.startswith(f"{option}="):
            return argument.removeprefix(f"{option}=")
        if argument == option and position + 1 < len(argv):
            return argv[position + 1]
    return None
