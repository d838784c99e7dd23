"""`manage.py runserver --role master|node [addr:port]`: one role, for development and by hand."""

import os
import subprocess
import sys
from argparse import ArgumentParser
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand

from mini_dropbox import env, server, startup
from mini_dropbox.env import DEFAULT_MASTER_PORT, DEFAULT_NODE_PORT, Role


class Command(BaseCommand):
    """Serves one role and starts anew after each change of the code."""

    help = "Serve one role: a master, or a node that joins the running cluster."
    requires_system_checks: list[str] = []

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("address", nargs="?", default="", metavar="addr:port")
        parser.add_argument("--role", choices=[role.value for role in Role])
        parser.add_argument("--data-dir", help="where everything is kept (default: data)")
        parser.add_argument(
            "--noreload", action="store_true", help="do not watch the code for changes"
        )

    def handle(self, *args: Any, **options: Any) -> None:
        role = settings.ENV.role
        default_port = DEFAULT_MASTER_PORT if role is Role.MASTER else DEFAULT_NODE_PORT
        host, port = startup.parse_address(options["address"], default_port=default_port)
        startup.check(settings.ENV, host)
        if role is Role.MASTER:
            self._prepare_master()
        self.stderr.write(
            f"Serving the {role} at {server.base_url(host, port)}/  (Ctrl+C stops it)"
        )
        extra = [] if options["noreload"] else ["--reload"]
        node = {
            name: value
            for name, value in server.node_settings(host, port).items()
            if role is Role.NODE and not env.is_set(name)
        }
        shared = {
            "DATA_DIR": str(settings.ENV.data_dir),
            "ALLOWED_HOSTS": startup.allowed_hosts_with(host, settings.ALLOWED_HOSTS),
        }
        _become(
            [sys.executable, "-m", "mini_dropbox.serve", host, str(port), *extra],
            env.child_environment(**shared, **node),
        )

    def _prepare_master(self) -> None:
        from master_app import bootstrap  # noqa: PLC0415  only the master has its tables

        account = bootstrap.prepare()
        if account.password is not None:
            self.stderr.write(f"Admin account: {account.name}, password {account.password}")


def _become(command: list[str], environment: dict[str, str]) -> None:
    """Run `command` in this process's place: the settings loaded here are not its own."""
    os.chdir(env.PROJECT_DIR)
    if sys.platform == "win32":
        sys.exit(subprocess.run(command, env=environment, check=False).returncode)
    os.execve(command[0], command, environment)  # noqa: S606  our own command line
