"""A real server and a real browser. The server runs app.py with the default model, the browser is Chromium.

`server`    address of a Streamlit server that all browser tests share
`start_server`  another one, with an environment of its own
`visit`     open a page of it in a fresh browser context; records requests, script errors and dialogs, and where the test fails
            prints what the page showed
Without Chromium these tests skip and say why; with AT2_REQUIRE_BROWSER=1 they fail instead.
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "chrome")
SANDBOX = ["--no-sandbox"] if hasattr(os, "geteuid") and os.geteuid() == 0 else []  # root cannot have one


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.browser)


def _without_browser(reason: str) -> None:
    if os.environ.get("AT2_REQUIRE_BROWSER") == "1":
        pytest.fail(f"AT2_REQUIRE_BROWSER=1, but {reason}")
    pytest.skip(reason)


@pytest.fixture(scope="session")
def chromium() -> Iterator[Any]:
    """A running Chromium: the one of the system, or Playwright's own."""
    try:
        from playwright.sync_api import Error, sync_playwright
    except ImportError:
        _without_browser("playwright is not installed (pip install -r tests/requirements.txt)")
    path = os.environ.get("AT2_CHROMIUM") or next(filter(None, map(shutil.which, BROWSERS)), None)
    with sync_playwright() as playwright:
        try:
            browser = playwright.chromium.launch(executable_path=path, args=SANDBOX)
        except Error as error:
            _without_browser(f"Chromium does not start ({str(error).splitlines()[0]})")
        yield browser
        browser.close()


@pytest.fixture(scope="session")
def start_server(chromium: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., str]]:
    """`start_server(NAME="value")`: address of an app with this in its environment; it runs until the session ends.

    Its log is printed if it does not come up.
    """
    running = []

    def start(**environment: str) -> str:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        log = tmp_path_factory.mktemp("server") / "log.txt"
        command = [sys.executable, "-m", "streamlit", "run", "app.py"]
        options = [f"--server.port={port}", "--server.headless=true"]
        with log.open("w") as out:
            process = subprocess.Popen(
                [*command, *options], cwd=ROOT, stdout=out, stderr=out,
                env={"OMP_NUM_THREADS": "1", "AT2_DRAFTS": str(log.parent), **os.environ, **environment},
            )  # fmt: skip
        running.append(process)
        _wait_until_up(f"http://localhost:{port}", process, log)
        return f"http://localhost:{port}"

    yield start
    for process in running:
        process.terminate()
        process.wait(20)


@pytest.fixture(scope="session")
def server(start_server: Callable[..., str]) -> str:
    """Address of the app, started for the whole session."""
    return start_server()


def _wait_until_up(address: str, process: subprocess.Popen, log: Path) -> None:
    for _ in range(240):
        try:
            urllib.request.urlopen(f"{address}/_stcore/health", timeout=5)
            return
        except (urllib.error.URLError, OSError):
            if process.poll() is not None:
                break
            time.sleep(0.25)
    pytest.fail(f"the server did not start:\n{log.read_text()}")


@dataclass
class Visit:
    """A browser page, and what it did on the side."""

    page: Any
    address: str
    requests: list[str] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)
    said: list[str] = field(default_factory=list)  # on the console
    dialogs: list[str] = field(default_factory=list)
    sent: list[int] = field(default_factory=list)  # sizes of the messages to the server

    def strangers(self) -> list[str]:
        """Requests that left the server."""
        own = (self.address, self.address.replace("http", "ws"), "data:", "blob:", "about:")
        return [url for url in self.requests if not url.startswith(own)]


FAILED = pytest.StashKey[bool]()
TELL = """async () => {
  const app = document.querySelector("[data-testid=stApp]");
  const text = (root) => root.querySelector(".at2, .hm, .hr, .vf, .at2-mark-sources")?.innerText ?? "";
  const mounts = [...document.querySelectorAll("*")].filter((e) => e.shadowRoot).map((e) => e.shadowRoot);
  const sizes = (root) => [...root.querySelectorAll(".text")].map((e) => `${e.clientWidth}x${e.clientHeight}`);
  const tell = (root) => `in a shadow root, ${root.querySelectorAll("path").length} paths, texts ${sizes(root)}: ${text(root)}`;
  const frame = new Promise((done) => { requestAnimationFrame(() => done("frames")); setTimeout(done, 5000, "no frames"); });
  const state = [location.href, app?.dataset.testScriptState, document.visibilityState, await frame];
  return [state.join(" "), document.body.innerText, ...mounts.map(tell)].join("\\n");
}"""


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo) -> Iterator[Any]:
    report = yield
    item.stash[FAILED] = item.stash.get(FAILED, False) or report.failed
    return report


@pytest.fixture
def visit(chromium: Any, server: str, request: pytest.FixtureRequest) -> Iterator[Callable[..., Visit]]:
    """`visit("heads?layer=3", color_scheme="dark")` opens a page of the app in a context of its own."""
    contexts, visits = [], []

    def open_page(path: str = "", width: int = 1280, height: int = 720, **options: Any) -> Visit:
        context = chromium.new_context(viewport={"width": width, "height": height}, **options)
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(60_000)
        seen = Visit(page, server)
        visits.append(seen)
        context.on("request", lambda request: seen.requests.append(request.url))
        page.on("console", lambda message: seen.said.append(f"{message.type}: {message.text}"))
        page.on("pageerror", lambda error: seen.errors.append(str(error)))
        page.on("dialog", lambda dialog: (seen.dialogs.append(dialog.message), dialog.dismiss()))
        page.on(
            "websocket", lambda socket: socket.on("framesent", lambda frame: seen.sent.append(len(frame)))
        )
        page.goto(f"{server}/{path}")
        return seen

    yield open_page
    if request.node.stash.get(FAILED, False):
        for seen in visits:
            _tell(seen)
    for context in contexts:
        context.close()


def _tell(seen: Visit) -> None:
    """Print what a failed test's page shows: the screen of a machine that nobody looks at."""
    try:
        shown = seen.page.evaluate(TELL)
    except Exception as error:
        shown = f"nothing to be read: {error}"
    print("the page:", shown[:6000], "its errors:", *seen.errors, "its console:", *seen.said[-20:], sep="\n")
