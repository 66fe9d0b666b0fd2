"""A training run, driven in Chromium from the upload to its figures, across a reload and a restart of the server."""

from __future__ import annotations

import json
import os
import re
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from at2_core.progress import Progress
from at2_core.run_places import find_runs
from at2_core.runs import Request, RunFolder
from tests.pages.driving import until

ROOT = Path(__file__).parents[2]
HOSTILE = (
    "**b** :red[r] [l](http:) <img src=x onerror=alert(1)> $a$"  # a folder may be called so, but for slashes
)
SLOW = 120_000  # ms: importing torch on a busy machine


class Server:
    """The app with the tiny model and runs of its own; it can be stopped and started at the same address."""

    def __init__(self, home: Path, model: Path) -> None:
        self.home, self.model = home, model
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.address = f"http://localhost:{self.port}"
        self.process: subprocess.Popen | None = None

    def start(self) -> None:
        settings = {"AT2_RUNS": str(self.home), "AT2_MODEL": str(self.model), "OMP_NUM_THREADS": "1"}
        settings["XDG_DATA_HOME"] = str(self.home / "data")
        command = [sys.executable, "-m", "streamlit", "run", "app.py"]
        options = [f"--server.port={self.port}", "--server.headless=true"]
        with open(self.home / "server.log", "a") as log:
            self.process = subprocess.Popen(
                [*command, *options], cwd=ROOT, stdout=log, stderr=log, env={**os.environ, **settings}
            )
        for _ in range(240):
            try:
                urllib.request.urlopen(f"{self.address}/_stcore/health", timeout=5)
                return
            except OSError:
                time.sleep(0.25)
        pytest.fail(f"the server did not start:\n{(self.home / 'server.log').read_text()}")

    def stop(self) -> None:
        if self.process is not None:
            self.process.terminate()
            self.process.wait(30)

    def runs(self) -> list[RunFolder]:
        return find_runs(self.home)


@pytest.fixture(scope="module")
def own(chromium: Any, tiny_folder, tmp_path_factory) -> Iterator[Server]:
    server = Server(tmp_path_factory.mktemp("runs"), tiny_folder("llama"))
    try:
        server.start()
        yield server
    finally:
        server.stop()
        for run in server.runs():
            run.ask_to_stop()


@pytest.fixture
def browse(chromium: Any, own: Server) -> Iterator[Callable[[str], Any]]:
    """`browse("train")` opens a page of that server; requests that leave it and script errors are noted on the page."""
    contexts = []

    def opened(path: str) -> Any:
        context = chromium.new_context(viewport={"width": 1280, "height": 800})
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(SLOW)
        page.troubles = []
        page.on("pageerror", lambda error: page.troubles.append(str(error)))
        page.on("dialog", lambda dialog: (page.troubles.append(dialog.message), dialog.dismiss()))
        page.on("request", lambda r: page.troubles.extend([r.url] if not near(r.url) else []))
        page.goto(f"{own.address}/{path}")
        return page

    def near(url: str) -> bool:
        return url.startswith((own.address, own.address.replace("http", "ws"), "data:", "blob:"))

    yield opened
    for context in contexts:
        context.close()


@pytest.fixture
def examples(tmp_path: Path) -> Path:
    """More examples than a run gets through while the test looks at it."""
    rows = [
        {
            "query": f"What does fox {i} do?",
            "context": f"Fox {i} jumps. Dog {i} sleeps. Paris has {i} towers.",
        }
        for i in range(600)
    ]
    path = tmp_path / "foxes.jsonl"
    path.write_text("\n".join(map(json.dumps, [*rows, {"query": "without a context"}])))
    return path


def collected(page: Any, at_least: int) -> int:
    """How many examples the page says are collected, once there are so many."""
    for _ in range(400):
        said = page.locator("[data-testid=stText]", has_text="Collecting:").all_inner_texts()
        found = re.search(r"Collecting: (\d+) of 600", said[0]) if said else None
        if found and int(found[1]) >= at_least:
            return int(found[1])
        page.wait_for_timeout(200)
    raise AssertionError(f"the page never said that {at_least} were collected")


def events(run: RunFolder) -> list[str]:
    return [event["event"] for event in run.events()]


def test_a_run_outlives_a_reload_and_a_restart_and_ends_in_figures(own, browse, examples):
    page = browse("train")
    page.locator("input[type=file]").set_input_files(str(examples))
    page.get_by_text("600 of 601 rows can be used.").wait_for()
    page.get_by_role("spinbutton", name="New tokens").fill("8")
    page.keyboard.press("Tab")
    page.wait_for_url("**draft=**")
    until(lambda: any('"new-tokens": 8' in p.read_text() for p in own.home.glob(".drafts/*/draft.json")))
    page.reload()  # nothing that was typed or uploaded is lost
    page.get_by_text("600 of 601 rows can be used.").wait_for()
    until(lambda: page.get_by_role("spinbutton", name="New tokens").input_value() == "8")

    page.get_by_role("button", name="Start").dblclick()
    page.wait_for_url("**run_folder=foxes**")
    page.get_by_role("button", name="Pause").wait_for()
    first = collected(page, 1)
    page.reload()
    second = collected(page, first + 1)
    (run,) = own.runs()

    own.stop()
    own.start()
    page.goto(page.url)
    collected(page, second + 1)
    assert events(run) == ["started"], "one process, and it was not begun again"

    page.get_by_role("button", name="Pause").click()
    page.get_by_role("button", name="Resume").wait_for()
    assert page.get_by_text("Paused. All that was collected is kept").is_visible()
    done = len(run.keys())
    assert done > second
    run.ask(replace(run.request(), max_examples=done + 1))  # so that the rest does not take minutes

    page.get_by_role("button", name="Resume").click()
    page.get_by_role("button", name="Use in Explore").wait_for()
    page.locator(".stPlotlyChart .main-svg").nth(3).wait_for()
    report = run.read("fits/default/report.json")
    assert page.get_by_text(
        f"correlates {report['correlation']:.3f} with what the ablations did"
    ).is_visible()
    assert page.get_by_text("more examples would").is_visible()
    assert report["examples"] == done + 1
    assert events(run).count("started") == 2
    assert page.troubles == []


def test_a_folder_of_any_name_is_text_and_all_of_its_card_can_be_clicked(own, browse):
    run = RunFolder(own.home / HOSTILE.replace("/", ""))
    run.ask(Request("tiny", "d.jsonl", about={"name": HOSTILE}))
    run.tell(Progress("failed", message=HOSTILE))
    page = browse("train")
    card = page.locator("[class*=st-key-train-card-]", has_text="onerror")
    card.wait_for()
    page.get_by_text("Give examples that can be used").wait_for()  # the last of the page: it is drawn
    assert run.name in card.inner_text()
    page.evaluate(
        "() => document.fonts.ready"
    )  # and the styles that come with the page: the card changes its size
    page.wait_for_function(
        """() => {
          const { right, bottom } = document.querySelector("[class*=st-key-train-card-]").getBoundingClientRect();
          return document.elementFromPoint(right - 5, bottom - 5)?.closest("button");
        }"""
    )
    box = card.bounding_box()
    card.click(position={"x": box["width"] - 5, "y": box["height"] - 5})
    page.wait_for_url("**run_folder=**")
    page.get_by_role("button", name="Try again").wait_for()
    assert page.locator(".st-key-complaint-train-failed").inner_text() == HOSTILE
    assert page.locator("img[src=x]").count() == 0
    page.get_by_role("button", name="Delete").click()
    page.get_by_role("button", name="Delete for good").click()
    page.get_by_role("button", name="Start").wait_for()
    assert not run.folder.exists()
    assert page.troubles == []
