"""The evaluations of the Evaluate page: how far each is, and ways to pause, resume and delete it."""

from __future__ import annotations

import subprocess
import sys
import threading
from pathlib import Path

import pytest

from at2_core.evaluation_runs import EvaluationRequest, ask
from at2_core.progress import Progress
from at2_core.runs import RunFolder
from pages.ui import train_process
from tests.pages.driving import APP, MARKUP, copied, opened, ran, texts, until


def made(evaluations: Path, name: str, *, state: str | None = None, **facts) -> RunFolder:
    run = RunFolder(evaluations / name)
    ask(run, EvaluationRequest("tiny", "d.jsonl"))
    if state:
        run.tell(Progress(state, **facts))
    return run


def test_one_that_works_is_followed_paused_and_resumed(evaluations, judged, monkeypatch):
    run = copied(judged, evaluations)
    cancel = threading.Event()
    with run.working(cancel):
        run.tell(Progress("running", "evaluate", 3, 40, seconds_left=200, per_minute=2.25))
        at = opened("evaluate", evaluation=run.name)
        said = texts(at)
        assert "Evaluating: 3 of 40 examples" in said
        assert "2.2 examples per minute · about 3 min left" in said
        assert "Intervals are coarse while it works." in said
        assert not [b for b in at.button if b.key in ("evaluate-resume", "evaluate-delete-for-good")]
        at.button(key="evaluate-pause").click()
        ran(at.run())
        assert cancel.wait(5)
        assert "Stopping in good order" in texts(at)
        run.tell(Progress("paused", "evaluate", 3, 40))
    assert "Paused" in texts(ran(at.run()))
    begun = []
    monkeypatch.setattr(train_process, "start", lambda run, command: begun.append(command) or True)
    at.button(key="evaluate-resume").click()
    ran(at.run())
    assert begun == ["evaluate"]


def test_the_process_carries_out_what_was_asked(evaluations, tiny_folder, towns):
    run = RunFolder(evaluations / "r")
    ask(run, EvaluationRequest(str(tiny_folder("llama")), str(towns), examples=2, methods=("average", "bm25"), ablations=4,
                               max_new_tokens=4, device="cpu"))  # fmt: skip
    assert train_process.start(run, "evaluate")
    assert not train_process.start(run, "evaluate")
    assert train_process.seen(run).state == "starting"
    until(lambda: train_process.seen(run).state == "done")
    until(lambda: not train_process.alive(run))
    at = opened("evaluate", evaluation="r")
    assert set(at.dataframe[0].value["method"]) == {"Average attention", "BM25"}


def test_the_list_says_how_far_each_is(evaluations):
    made(evaluations, "half", state="paused", stage="evaluate", done=3, total=40)
    made(evaluations, "whole", state="done", stage="evaluate", done=40, total=40)
    said = texts(opened("evaluate"))
    assert "○ paused, 3 of 40 examples" in said
    assert "✓ done" in said
    assert "measures how true" not in said, "the purpose is for those who have none yet"


@pytest.mark.parametrize("name", ["../outside", "..", "a/b", "/etc", ".drafts", MARKUP])
def test_an_address_reaches_only_the_evaluations_of_the_folder(evaluations, judged, name):
    copied(judged, evaluations.parent)
    (evaluations.parent / judged.name).rename(evaluations.parent / "outside")
    at = opened("evaluate", evaluation=name)
    assert at.button(key="evaluate-start").disabled, "the form of a new one"
    assert not at.get("plotly_chart")
    assert f"no evaluation called {name!r}" in texts(at)


def test_it_is_deleted_after_a_confirmation_and_not_while_somebody_works_there(evaluations):
    run = made(evaluations, "r", state="paused")
    at = opened("evaluate", evaluation="r")
    with run.working(threading.Event()):
        at.button(key="evaluate-delete-for-good").click()
        ran(at.run())
        assert "stop it first" in texts(at)
    at.button(key="evaluate-delete-for-good").click()
    ran(at.run())
    assert not run.folder.exists()
    assert "evaluation" not in at.query_params


@pytest.mark.parametrize("content", ["", "[]", '{"format": 1}', '{"format": 1, "model": 3}'])
def test_a_damaged_request_is_one_sentence(evaluations, judged, content):
    run = copied(judged, evaluations)
    (run.folder / "evaluation.json").write_text(content)
    at = opened("evaluate", evaluation=run.name)
    assert "Traceback" not in texts(at)


def test_opening_the_page_imports_nothing_heavy():
    modules = ", ".join(f"pages.ui.{path.stem}" for path in sorted(APP.parent.glob("pages/ui/evaluate_*.py")))
    code = f"import sys, {modules}; assert not {{'torch', 'transformers'}} & set(sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], cwd=APP.parent, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
