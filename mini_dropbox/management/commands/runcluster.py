"""`manage.py runcluster`: a whole cluster on this machine."""

import logging.config
import signal
from argparse import ArgumentParser
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand

from master_app import bootstrap
from mini_dropbox import env, logs, server, startup
from mini_dropbox.env import DEFAULT_MASTER_PORT, Role
from mini_dropbox.folder_lock import lock_folder
from mini_dropbox.supervisor import Child, Supervisor


class Command(BaseCommand):
    """Starts a master and nodes as child processes and keeps them running."""

    help = "Run a master and storage nodes on this machine until Ctrl+C."
    requires_system_checks: list[str] = []

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--master-port", default=str(DEFAULT_MASTER_PORT))
        parser.add_argument("--node-ports", default="8001,8002", help="with commas between them")
        parser.add_argument("--data-dir", help="where everything is kept (default: data)")
        parser.add_argument("--host", default="127.0.0.1")

    def handle(self, *args: Any, **options: Any) -> None:
        # The settings are those of a master, which is another process than this one.
        logging.config.dictConfig(logs.configuration(settings.ENV, "cluster"))
        startup.check(settings.ENV, options["host"])
        children = _children(options["host"], options["master_port"], options["node_ports"])
        supervisor = Supervisor(children)
        supervisor.check_ports()
        lock = lock_folder(settings.ENV.data_dir, "cluster")
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, supervisor.request_stop)
        bootstrap.make_secrets()
        try:
            # Nodes need no tables, so they come up while the master's are made.
            supervisor.start(Role.NODE)
            account = bootstrap.prepare()
            supervisor.start(Role.MASTER)
            if supervisor.wait_until_ready():
                self.stdout.write(self.style.SUCCESS("\nMini-Dropbox is up."))
                self.stdout.write(_banner(children, account))
            supervisor.run()
        finally:
            supervisor.stop()
            lock.close()


def _children(host: str, master_port: str, node_ports: str) -> list[Child]:
    master = startup.parse_port(master_port)
    nodes = [startup.parse_port(port.strip()) for port in node_ports.split(",")]
    if len({master, *nodes}) != len(nodes) + 1:
        message = (
            "Every process needs a port of its own: --master-port and --node-ports name one twice."
        )
        raise env.ConfigurationError(message)
    shared = {
        "DATA_DIR": str(settings.ENV.data_dir),
        "MASTER_URL": server.base_url(host, master),
        "ALLOWED_HOSTS": startup.allowed_hosts_with(host, settings.ALLOWED_HOSTS),
    }
    return [
        Child("master", Role.MASTER, host, master, shared),
        *(
            Child(f"node {port}", Role.NODE, host, port, shared | server.node_settings(host, port))
            for port in nodes
        ),
    ]


def _banner(children: list[Child], account: bootstrap.AdminAccount) -> str:
    master, *nodes = children
    password_file = _short(account.password_file)
    rows = [("Files", f"{master.url}/"), ("Admin", f"{master.url}/admin/")]
    if account.password is None:
        rows.append(("", f"the first start's password is in {password_file}"))
    else:
        rows.append(("", f"name {account.name}, password {account.password}"))
        rows.append(("", f"(printed this once, and kept in {password_file})"))
    rows.append(("API", f"{master.url}/api/v1/docs/"))
    rows += [(node.label.capitalize(), node.url) for node in nodes]
    rows.append(("Data", _short(settings.ENV.data_dir)))
    lines = [f"  {label:<12}{value}" for label, value in rows]
    example = f"curl -F file=@README.md {nodes[0].url}/upload"
    return "\n".join(["", *lines, "", f"Try it:  {example}", "Ctrl+C stops everything.", ""])


def _short(path: Path) -> str:
    """Return a path as one would type it here."""
    here = Path.cwd()
    return str(path.relative_to(here) if path.is_relative_to(here) else path)
