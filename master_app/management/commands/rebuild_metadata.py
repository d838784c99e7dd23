"""`manage.py rebuild_metadata`: the master's records, made anew from what the nodes have."""

import json
from argparse import ArgumentParser
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

from django.core.management import call_command
from django.core.management.base import BaseCommand, CommandError
from tqdm import tqdm

from master_app.adoption.missing import Missing
from master_app.adoption.rebuild import Report, rebuild
from master_app.management import progress
from master_app.wording import human_size
from mini_dropbox import env

SHOWN_MISSING: Final = 20


class Command(BaseCommand):
    """Adopts all that nodes have, and says what none of them has. Nothing is deleted."""

    help = "Make the master's records anew from what the nodes have; the cluster may run."
    requires_system_checks: list[str] = []

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument(
            "--node",
            action="append",
            default=[],
            metavar="URL",
            help="a node that the database may not know; several may be named",
        )
        parser.add_argument(
            "--all-names",
            action="store_true",
            help="also names that nodes remember of files that were deleted",
        )
        parser.add_argument(
            "--missing", type=Path, metavar="FILE", help="write all that is missing, as JSON lines"
        )
        parser.add_argument("--data-dir", help="where everything is kept (default: data)")

    def handle(self, *args: Any, **options: Any) -> None:
        call_command("migrate", interactive=False, verbosity=0)
        with ExitStack() as stack:
            report = rebuild(
                urls=[_url(text) for text in options["node"]],
                all_names=options["all_names"],
                on_progress=_Bars(),
                on_missing=self._teller(stack, options["missing"]),
            )
        self.stdout.write(_summary(report))
        for url, reason in report.failures.items():
            self.stdout.write(f"Not asked: {url} ({reason})")
        if not report.nodes and not report.failures:
            raise CommandError(
                "No node is known: start the master and the nodes, or name one with --node URL."
            )
        if report.failures:
            raise CommandError("Not every node has been read whole: try again when they all run.")

    def _teller(self, stack: ExitStack, path: Path | None) -> Callable[[Missing], None]:
        """Return what says which blobs are missing: the first ones here, all to a file."""
        file = stack.enter_context(path.open("w", encoding="utf-8")) if path else None
        shown = 0

        def tell(missing: Missing) -> None:
            nonlocal shown
            if file is not None:
                file.write(json.dumps(asdict(missing)) + "\n")
            if shown < SHOWN_MISSING:
                away = f", but {', '.join(missing.away)} may" if missing.away else ""
                self.stdout.write(f"No node has {missing.hash} {missing.name!r}{away}")
            shown += 1

        return tell


class _Bars:
    """Shows how far the walk over each node is."""

    def __init__(self) -> None:
        self._bars: dict[str, tqdm[Any]] = {}

    def __call__(self, node_id: str, done: int, total: int) -> None:
        drawn = self._bars.get(node_id)
        if drawn is None:
            drawn = self._bars[node_id] = progress.bar(total, f"node {node_id}")
        drawn.update(done - drawn.n)
        if done >= total:
            drawn.close()


def _url(text: str) -> str:
    try:
        return env.parse_base_url(text)
    except ValueError as error:
        message = f"{text!r} is no node's address: it takes one such as http://127.0.0.1:8001."
        raise CommandError(message) from error


def _summary(report: Report) -> str:
    adopted = report.adopted
    size = human_size(adopted.bytes).replace("\xa0", " ")
    what = f"{adopted.blobs:,} blobs ({size}), {adopted.files:,} files, {adopted.copies:,} copies"
    lines = [
        f"Adopted from {len(report.nodes)} nodes: {what}.",
        f"Known before: {report.known_before:,} blobs.",
        f"Missing: {report.missing:,} blobs on record that no node in reach has; they are kept.",
    ]
    if adopted.conflicts:
        lines.append(
            f"Left alone: {adopted.conflicts:,} copies with another content than the one on record."
        )
    return "\n".join(lines)
