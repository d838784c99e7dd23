"""A real master process, fake nodes, and a real Chromium for the tests of the first page."""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import requests
from playwright.sync_api import (
    Browser,
    ConsoleMessage,
    Page,
    Request,
    expect,
    sync_playwright,
)

from tests.browser.fake_node import FakeNode, MasterAccess
from tests.support.cluster import PROJECT_DIR, free_ports
from tests.support.waiting import eventually

SECRET = "a secret of this cluster alone, long enough to sign with"
START_SECONDS = 30
PATIENCE_MILLISECONDS = 15_000
CHROMIUM_NAMES = ("chromium", "chromium-browser", "google-chrome")
CHROMIUM_ARGUMENTS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
# The browser's words and htmx's.
REPORTS_OF_FAILED_REQUESTS = ("Failed to load resource", "Response Status Error Code")
MAX_UPLOAD_BYTES = 10 * 1024 * 1024


@dataclass(frozen=True)
class Master:
    """A running master; `origins` are the two ways in which people write its address."""

    port: int
    data_dir: Path

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def origins(self) -> tuple[str, ...]:
        return (self.url, f"http://localhost:{self.port}")


@dataclass
class Visit:
    """A page, what its console said, and whom it asked; the fixture judges both at the end.

    A test that provokes failing requests sets `failures_expected`, since the browser reports
    each of them on the console.
    """

    page: Page
    console: list[str] = field(default_factory=list)
    origins: set[str] = field(default_factory=set)
    failures_expected: bool = False

    def hear(self, message: ConsoleMessage) -> None:
        if message.type not in {"error", "warning"}:
            return
        if not (self.failures_expected and message.text.startswith(REPORTS_OF_FAILED_REQUESTS)):
            self.console.append(message.text)

    def watch(self, request: Request) -> None:
        parts = urlsplit(request.url)
        if parts.scheme in {"http", "https"}:
            self.origins.add(f"{parts.scheme}://{parts.netloc}")


def _environment(data_dir: Path) -> dict[str, str]:
    settings = {
        "DATA_DIR": str(data_dir),
        "ROLE": "master",
        "CLUSTER_SECRET": SECRET,
        "HEARTBEAT_SECONDS": "0.5",
        "MAX_UPLOAD_BYTES": str(MAX_UPLOAD_BYTES),
        # Fake nodes take forms alone.
        "MAX_FILE_BYTES": str(MAX_UPLOAD_BYTES),
    }
    return {**os.environ, **{f"MINI_DROPBOX_{name}": value for name, value in settings.items()}}


@pytest.fixture(scope="session")
def migrated_data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make a data folder with an empty database, to copy from."""
    data_dir = tmp_path_factory.mktemp("migrated")
    subprocess.run(
        [sys.executable, "manage.py", "migrate", "--verbosity", "0"],
        cwd=PROJECT_DIR,
        env=_environment(data_dir),
        check=True,
        timeout=60,
    )
    return data_dir


@pytest.fixture
def master(migrated_data: Path, tmp_path: Path) -> Iterator[Master]:
    data_dir = tmp_path / "data"
    shutil.copytree(migrated_data, data_dir)
    (port,) = free_ports(1)
    log_path = tmp_path / "master.log"
    with log_path.open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "mini_dropbox.serve", "127.0.0.1", str(port)],
            cwd=PROJECT_DIR,
            env=_environment(data_dir),
            stdout=log,
            stderr=subprocess.STDOUT,
        )
    try:
        master = Master(port, data_dir)
        eventually(lambda: _serves(master, process, log_path), START_SECONDS, what="the master")
        yield master
    finally:
        process.terminate()
        process.wait(timeout=15)


def _serves(master: Master, process: subprocess.Popen[bytes], log: Path) -> bool:
    assert process.poll() is None, log.read_text()
    try:
        return requests.get(f"{master.url}/health", timeout=5).ok
    except requests.ConnectionError:
        return False


@pytest.fixture
def start_node(master: Master) -> Iterator[Callable[[str], FakeNode]]:
    """Start a fake node under an id; all of them stop with the test."""
    with ExitStack() as stack:

        def start(node_id: str) -> FakeNode:
            access = MasterAccess(master.url, SECRET)
            stack.callback(access.http.close)
            node = FakeNode(access, node_id, master.origins)
            node.start()
            stack.callback(node.stop)
            return node

        yield start


@pytest.fixture
def node(start_node: Callable[[str], FakeNode]) -> FakeNode:
    return start_node("8001")


# Playwright keeps an event loop running in the thread of the tests, which asynchronous tests and
# Django's ORM both refuse; it ends with each module for their sake.
@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    executable = next(filter(None, map(shutil.which, CHROMIUM_NAMES)), None)
    if executable is None:
        message = f"no Chromium on PATH (looked for {', '.join(CHROMIUM_NAMES)})"
        pytest.skip(message)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=executable, args=list(CHROMIUM_ARGUMENTS)
        )
        yield browser
        browser.close()


@pytest.fixture
def visit(browser: Browser, master: Master) -> Iterator[Visit]:
    """Open a page, which closes before the master ends."""
    with visiting(browser) as visit:
        yield visit


@contextmanager
def visiting(browser: Browser) -> Iterator[Visit]:
    """Open a page, and hold in the end that it was quiet and asked no stranger for anything."""
    context = browser.new_context(viewport={"width": 1440, "height": 900})
    visit = Visit(context.new_page())
    visit.page.set_default_timeout(PATIENCE_MILLISECONDS)
    # The list of files comes anew every 5 s.
    expect.set_options(timeout=PATIENCE_MILLISECONDS)
    visit.page.on("console", visit.hear)
    visit.page.on("pageerror", lambda error: visit.console.append(str(error)))
    visit.page.on("request", visit.watch)
    yield visit
    context.close()
    assert visit.console == []
    strangers = {
        origin
        for origin in visit.origins
        if urlsplit(origin).hostname not in {"127.0.0.1", "localhost"}
    }
    assert strangers == set()
