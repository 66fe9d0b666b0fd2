"""The runs of the Train page: any page can follow them, and figures say what they are."""

from __future__ import annotations

import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest

import at2_core as at2
from at2_core.catalogue import list_estimators
from at2_core.estimator import load_estimator
from at2_core.progress import Progress
from at2_core.runs import Request, RunFolder
from pages.ui import train_process, train_report, train_runs
from pages.ui.train_charts import by_examples, by_step
from tests.pages.driving import APP, MARKUP, SMALL, copied, opened, ran, texts, until


def made(runs: Path, name: str, *, state: str | None = None, **facts) -> RunFolder:
    run = RunFolder(runs / name)
    run.ask(Request("tiny", "d.jsonl", about={"name": "d"}))
    if state:
        run.tell(Progress(state=state, **facts))
    return run


# ------------------------------------------------------------------------------------------------- the process


def test_two_starts_make_one_process_and_a_pause_reaches_it_while_it_loads(runs, tiny_folder, foxes):
    run = RunFolder(runs / "r")
    run.ask(Request(str(tiny_folder("llama")), str(foxes), settings=SMALL, device="cpu"))
    began = [None] * 3
    threads = [
        threading.Thread(target=lambda i=i: began.__setitem__(i, train_process.start(run))) for i in range(3)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(began) == [False, False, True]
    assert train_process.seen(run).state == "starting"
    with pytest.raises(at2.At2Error, match="stop it first"):
        train_runs.delete(run)
    train_process.pause(run)
    assert train_process.stopping(run)
    until(lambda: not train_process.alive(run))
    assert train_process.seen(run).state == "paused"
    train_runs.delete(run)
    assert not run.folder.exists()


def test_a_model_that_is_not_there_fails_with_its_sentence(runs, foxes):
    run = RunFolder(runs / "r")
    run.ask(Request(str(runs / "no-such-model"), str(foxes)))
    assert train_process.start(run)
    until(lambda: train_process.seen(run).state == "failed")
    at = opened("train", run_folder="r")
    assert "no-such-model" in texts(at)
    assert train_process.seen(run).message in texts(at)
    assert "Traceback" not in texts(at)
    assert at.button(key="train-resume").label == "Try again"


def test_a_process_that_dies_without_a_word_shows_its_last_lines(runs, monkeypatch):
    run = made(runs, "r")
    monkeypatch.setattr(train_process.sys, "executable", "/bin/false")
    train_process.start(run)
    until(lambda: not train_process.alive(run))
    (run.folder / "output.txt").write_text("Traceback\n**what** it said")
    at = opened("train", run_folder="r")
    assert train_process.DIED in texts(at)
    assert "**what** it said" in texts(at)


# ------------------------------------------------------------------------------------------------- the runs


def test_the_list_says_how_far_each_run_is(runs):
    made(runs, "old", state="done", stage="fit", done=10, total=10)
    made(runs, "half", state="paused", stage="collect", done=3, total=40)
    made(runs, "dead", state="running", stage="collect", done=1, total=2, seconds_left=30)
    made(runs, "fresh")
    at = opened("train")
    said = texts(at)
    assert "✓ done" in said
    assert "○ paused, 3 of 40 examples" in said
    assert "○ interrupted, 1 of 2 examples" in said
    assert "○ not begun" in said
    assert "how much each attention head" not in said, "the purpose is for those who have no run yet"


def test_a_run_that_works_is_followed_and_can_be_paused(runs):
    run = made(runs, "r")
    cancel = threading.Event()
    with run.working(cancel):
        run.tell(Progress("running", "collect", 3, 40, {"no response": 2}, seconds_left=200, per_minute=12.4))
        at = opened("train", run_folder="r")
        said = texts(at)
        assert "Collecting: 3 of 40 examples" in said
        assert "12 examples per minute" in said
        assert "about 3 min left" in said
        assert "2 skipped: 2 no response." in said
        assert not [b for b in at.button if b.key in ("train-resume", "train-delete-for-good")]
        at.button(key="train-pause").click()
        ran(at.run())
        assert cancel.wait(5)
        assert "Stopping in good order" in texts(at)
        assert at.button(key="train-pause").disabled
        run.tell(Progress("paused", "collect", 3, 40))
    assert "Paused" in texts(ran(at.run()))
    assert at.button(key="train-resume").label == "Resume"


def test_stopping_says_that_the_run_is_kept(runs):
    run = made(runs, "r")
    with run.working(threading.Event()):
        run.tell(Progress("running", "collect", 3, 40))
        at = opened("train", run_folder="r")
        at.button(key="train-stop").click()
        ran(at.run())
        run.tell(Progress("paused", "collect", 3, 40))
    assert f"The run is kept in {run.folder}" in texts(ran(at.run()))


@pytest.mark.parametrize("name", ["../outside", "..", ".", "a/b", "a\\b", "/etc", ".drafts", MARKUP, ""])
def test_an_address_reaches_only_the_runs_of_the_folder(runs, name):
    made(runs, "inside", state="done")
    made(runs.parent, "outside", state="done")
    at = opened("train", run_folder=name)
    assert not at.get("plotly_chart")
    assert at.button(key="train-start").disabled, "the form of a new run"
    assert not name or f"no run called {name!r}" in texts(at)


def test_a_click_on_a_run_shows_it_and_another_page_does_not_lose_it(runs):
    made(runs, "one", state="paused")
    at = opened("train")
    at.button(key="train-open-one").click()
    ran(at.run())
    assert at.query_params["run_folder"] == "one"
    at.switch_page("pages/heads.py").run()
    at.query_params.clear()
    at.switch_page("pages/train.py").run()
    assert at.query_params["run_folder"] == "one"
    at.button(key="train-new").click()
    assert ran(at.run()).button(key="train-start")


def test_a_run_is_deleted_after_a_confirmation_and_not_while_somebody_works_there(runs):
    run = made(runs, "r", state="paused")
    at = opened("train", run_folder="r")
    with run.working(threading.Event()):
        at.button(key="train-delete-for-good").click()
        ran(at.run())
        assert run.folder.is_dir()
        assert "stop it first" in texts(at)
    at.button(key="train-delete-for-good").click()
    ran(at.run())
    assert not list(runs.glob("*r*/request.json"))
    assert "run_folder" not in at.query_params


def test_a_folder_name_is_a_label_and_not_markdown():
    assert train_runs.plain("a*b_[c](d):e:$f$") == r"a\*b\_\[c\]\(d\)\:e\:\$f\$"


# ------------------------------------------------------------------------------------------------- what came out


def test_the_figures_are_those_of_the_report(runs, trained):
    run = copied(trained, runs)
    report = run.read("fits/default/report.json")
    at = opened("train", run_folder=run.name)
    said = texts(at)
    assert f"correlates {report['correlation']:.3f} with what the ablations did" in said
    assert f"{report['correlation_average_attention']:.3f}" in said
    assert train_report.more_examples(report["learning_curve"]) in said
    assert f"{report['stability']['rank_correlation']:.2f} (rank correlation)" in said
    assert "largest heads" not in said, "eight heads have no top twenty"
    assert len(at.get("plotly_chart")) == 3
    assert MARKUP in said, "the name of the data, as text"
    held = by_step(report).data[0]
    assert np.allclose(held.y, [row["validation"] for row in report["history"]])
    assert list(by_examples(report).data[0].x) == [row["examples"] for row in report["learning_curve"]]


@pytest.mark.parametrize("content", ["", "{}", "[]", '{"correlation": "x", "history": 5}', None])
def test_a_damaged_report_is_one_sentence(runs, trained, content):
    run = copied(trained, runs)
    if content is None:
        (run.folder / "estimator.safetensors").write_bytes(b"no estimator")
    else:
        (run.folder / "fits/default/report.json").write_text(content)
    at = opened("train", run_folder=run.name)
    assert "report cannot be read" in texts(at)


@pytest.mark.parametrize(("gain", "says"), [(0.009, "hardly"), (0.011, "probably"), (-0.2, "hardly")])
def test_the_learning_curve_says_whether_more_examples_would_help(gain, says):
    rows = [
        {"examples": n, "correlation": c, "deviation": 0} for n, c in ((5, 0.1), (10, 0.5), (20, 0.5 + gain))
    ]
    assert says in train_report.more_examples(rows)
    assert "too few" in train_report.more_examples(rows[:1])
    assert "too few" in train_report.more_examples(rows[:2]), "ten examples say nothing either"


def test_nothing_held_out_is_said(runs, trained):
    report = RunFolder(trained).read("fits/default/report.json")
    assert "were held out" in train_report.in_words(report)[0]
    whole = report["examples"]
    none = report | {"examples_training": whole, "examples_validation": whole}
    assert "none could be held out" in train_report.in_words(none)[0]
    few = report | {"examples_validation": 1, "examples_training": 4, "examples": 5}
    assert "on one example that was held out (the mean over" in train_report.in_words(few)[0]
    assert "so few say little" in train_report.in_words(few)[0]


def test_using_it_in_explore_hands_over_the_file(runs, trained, monkeypatch):
    run = copied(trained, runs)
    taken = []
    from pages.ui import estimator_choice

    monkeypatch.setattr(estimator_choice, "use_estimator", taken.append)
    at = opened("train", run_folder=run.name)
    at.button(key="train-use").click()
    ran(at.run())
    (kept,) = [entry for entry in list_estimators() if entry.kind == "own"]
    assert taken == [kept.path], "it outlasts the run's folder"
    assert np.array_equal(kept.estimator.theta, load_estimator(run.folder / "estimator.safetensors").theta)
    assert [b for b in at.button_group if b.key == "picked"], "the Explore page"


def test_opening_the_page_imports_nothing_heavy():
    modules = ", ".join(f"pages.ui.{path.stem}" for path in sorted(APP.parent.glob("pages/ui/train_*.py")))
    code = f"import sys, {modules}; assert not {{'torch', 'transformers'}} & set(sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], cwd=APP.parent, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
