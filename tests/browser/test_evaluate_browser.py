"""An evaluation, driven in Chromium from the upload to an example in Explore, across a reload in the middle."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from at2_core.evaluation_runs import asked, find_evaluations, read_rows

SLOW = 180_000  # ms: importing torch and loading the model, twice, on a busy machine
FACTS = [
    ("mill", "What did the mill grind?", "The mill stood by the river. It ground rye for the monks. It burned in 1802."),
    ("bridge", "Who built the bridge?", "The bridge is short. Anna Keller built it of oak. Carts cross it daily."),
    ("lamp", "What colour is the lamp?", "The lamp hangs in the hall. Its glass is green. Moths like it."),
]  # fmt: skip


@pytest.fixture
def examples(tmp_path: Path) -> Path:
    path = tmp_path / "facts.jsonl"
    path.write_text("\n".join(json.dumps({"id": i, "query": q, "context": c}) for i, q, c in FACTS))
    return path


def fill(page: Any, name: str, value: int) -> None:
    page.get_by_role("spinbutton", name=name).fill(str(value))
    page.keyboard.press("Tab")


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Path]:
    """The folder of evaluations; nobody works there afterwards."""
    folder = tmp_path / "evaluations"
    yield folder
    for run in find_evaluations(folder):
        run.ask_to_stop()


@pytest.fixture
def page(chromium: Any, start_server: Callable[..., str], home: Path) -> Iterator[Any]:
    """The Evaluate page of a server with evaluations of its own; script errors are noted on it."""
    address = start_server(AT2_EVALUATIONS=str(home), AT2_RUNS=str(home.parent / "runs"))
    context = chromium.new_context(viewport={"width": 1280, "height": 1400})
    page = context.new_page()
    page.set_default_timeout(SLOW)
    page.troubles = []
    page.on("pageerror", lambda error: page.troubles.append(str(error)))
    page.goto(f"{address}/evaluate")
    yield page
    context.close()


@pytest.mark.default_model
def test_an_evaluation_outlives_a_reload_and_each_example_opens_in_explore(page, home, examples):
    page.locator("input[type=file]").set_input_files(str(examples))
    page.get_by_text("3 of 3 rows can be used.").wait_for()
    fill(page, "Ablations", 8)
    fill(page, "New tokens", 8)
    for method in (
        "AT2 + 8 ablations",
        "Top 16 heads",
        "Last layer",
        "Attention rollout",
        "Gradient norm",
        "Random",
    ):
        page.get_by_role("button", name=f"Remove {method}", exact=True).click()
        page.get_by_role("button", name=f"Remove {method}", exact=True).wait_for(state="detached")
    page.get_by_text("3 methods are judged by removing sources: about 54 ablations").wait_for()

    page.get_by_role("button", name="Start").dblclick()
    page.wait_for_url("**evaluation=facts**")
    page.get_by_role("button", name="Pause").wait_for()
    (run,) = find_evaluations(home)
    process = run.read("process.lock")["pid"]
    page.reload()
    page.get_by_role("button", name="Pause").or_(page.get_by_text("✓ done")).first.wait_for()
    page.get_by_text("✓ done").wait_for()
    assert run.read("process.lock")["pid"] == process, "one process, and it was not begun again"
    assert asked(run).methods == ("at2", "average", "bm25")
    rows = read_rows(run.folder)
    assert len(rows) == 9
    assert page.get_by_text("What removing sources does to the response: 3 examples.").is_visible()
    page.locator(".stPlotlyChart .main-svg").nth(2).wait_for()
    assert "ContextCite" not in page.locator(".stPlotlyChart").first.inner_text()

    table = page.get_by_test_id("stDataFrame").nth(1)  # behind that of the methods
    table.scroll_into_view_if_needed()
    box = table.bounding_box()
    page.mouse.click(box["x"] + 17, box["y"] + 35 + 35 + 17)  # the box before the second example
    page.get_by_text("Example bridge", exact=True).wait_for()
    page.get_by_role("button", name="Open in Explore").click()
    page.wait_for_url("**/?run=**")
    origin = f"From the evaluation {run.name}, example bridge."
    page.get_by_text(f"{origin} The response was cut at 8 tokens.").wait_for()
    assert page.get_by_text("Your own text and your own response.").count() == 0
    assert "Anna Keller built it of oak." in page.locator("textarea[aria-label=Context]").input_value()
    page.go_back()
    page.get_by_role("button", name="Open in Explore").wait_for()
    assert "evaluation=facts" in page.url
    assert page.troubles == []
