"""The Evaluate page: a new evaluation, one that is followed, figures that say what they are, and the way to every example."""

from __future__ import annotations

import csv
import dataclasses
import io
import json
import shutil
import subprocess
import sys
import threading
import time
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import streamlit as st
from streamlit.testing.v1 import AppTest

import at2_core as at2
from at2_core import baselines, catalogue, models
from at2_core.data import read_data
from at2_core.evaluation import evaluate
from at2_core.evaluation_runs import SHOWN, EvaluationRequest, ask, asked, read_rows
from at2_core.measures import summarize
from at2_core.runs import Progress, RunFolder
from pages.ui import (
    evaluate_charts,
    evaluate_estimate,
    evaluate_examples,
    evaluate_export,
    evaluate_figures,
    evaluate_methods,
    evaluate_runs,
    evaluate_start,
    evaluate_table,
    session,
    train_process,
)
from pages.ui.draft import PATH, UPLOAD

APP = Path(__file__).parents[2] / "app.py"
HOSTILE = "<b>x</b> **y** ![i](http://evil.example/i.png) :red[z] $a$"
METHODS = ("average", "bm25", "random", "context_cite_8")
THETA = np.arange(8, dtype=np.float32).reshape(2, 4) / 28


@pytest.fixture
def home(tiny_folder, tmp_path, monkeypatch):
    """The folder of evaluations, empty, on a server that has the tiny model and no estimators but the bundled ones."""
    monkeypatch.setattr(models, "load_model", partial(models.load_model, device="cpu", dtype="float32"))
    monkeypatch.setattr(session, "HEAD_START", 0)
    monkeypatch.setattr(session, "MODEL", str(tiny_folder("llama")))
    monkeypatch.setattr(catalogue, "own_home", lambda: tmp_path / "estimators")
    monkeypatch.setenv("AT2_EVALUATIONS", str(tmp_path / "evaluations"))
    monkeypatch.setenv("AT2_RUNS", str(tmp_path / "runs"))
    st.cache_resource.clear()
    st.cache_data.clear()
    yield tmp_path / "evaluations"
    until(lambda: session.engine().status != "loading")  # loading changes torch's default dtype for everybody
    st.cache_resource.clear()


@pytest.fixture(scope="session")
def towns(tmp_path_factory) -> Path:
    """Six examples with a known truth, one of a single source, and a row that is none."""
    path = tmp_path_factory.mktemp("examples") / "towns.jsonl"
    rows = [
        {
            "id": f"town-{i}" if i != 1 else HOSTILE,
            "query": f"Where is tower {i}?",
            "documents": [
                {"title": "A", "sentences": [f"Tower {i} is in Paris.", "It rains.", "Dogs sleep."]},
                {"title": "B", "sentences": ["Foxes run.", f"The moon has {i} seas."]},
            ],
            "answer": "Paris",
            "supporting_facts": [[0, 0]],
            "response": "It is in Paris." if i % 2 else "It is in Rome.",
        }
        for i in range(6)
    ]
    rows.append({"id": "short", "query": "What?", "context": "One sentence.", "response": "Nothing."})
    path.write_text("\n".join([*map(json.dumps, rows), "{broken"]), encoding="utf-8")
    return path


@pytest.fixture(scope="session")
def judged(tiny_lm, tiny_folder, towns, tmp_path_factory) -> Path:
    """An evaluation that has been done, by the real engine."""
    folder = tmp_path_factory.mktemp("judged") / "towns-done"
    run = RunFolder(folder)
    request = EvaluationRequest(str(tiny_folder("llama")), str(towns), {"response": "response"}, methods=METHODS,
                                ablations=8, max_new_tokens=8)  # fmt: skip
    ask(run, request)
    examples = read_data(towns, dict(request.columns)).examples
    evaluate(tiny_lm, examples, METHODS, out_dir=folder, num_ablations=8, max_new_tokens=8)
    run.tell(Progress("done", "evaluate", 7, 7))
    return folder


def until(true, seconds: float = 60) -> None:
    for _ in range(int(seconds / 0.1)):
        if true():
            return
        time.sleep(0.1)
    raise AssertionError("it did not come to that")


def opened(**params: str) -> AppTest:
    at = AppTest.from_file(str(APP), default_timeout=60)
    at.run()
    at.switch_page("pages/evaluate.py")
    for name, value in params.items():
        at.query_params[name] = value
    return ran(at.run())


def ran(at: AppTest) -> AppTest:
    assert not at.exception, at.exception
    return at


def texts(at: AppTest) -> str:
    return "\n".join(element.value for element in at.text)


def given(path: Path) -> AppTest:
    """The form, with the path of a file entered and methods that need no estimator."""
    at = opened()
    at.segmented_control(key="evaluate-kind").set_value(PATH)
    at.multiselect(key="evaluate-methods").set_value(["average", "bm25", "context_cite_32"])
    ran(at.run())
    at.text_input(key="evaluate-path").set_value(str(path))
    return ran(at.run())


def started(at: AppTest, monkeypatch) -> EvaluationRequest:
    """What Start writes down."""
    commands = []
    monkeypatch.setattr(
        train_process, "start", lambda run, command: commands.append((run.name, command)) or True
    )
    at.button(key="evaluate-start").click()
    ran(at.run())
    (run,) = evaluate_runs.evaluations()
    assert commands == [(run.name, "evaluate")]
    assert at.query_params["evaluation"] == run.name
    return asked(run)


def made(home: Path, name: str, *, state: str | None = None, **facts) -> RunFolder:
    run = RunFolder(home / name)
    ask(run, EvaluationRequest("tiny", "d.jsonl"))
    if state:
        run.tell(Progress(state, **facts))
    return run


def copied(judged: Path, home: Path) -> RunFolder:
    shutil.copytree(judged, home / judged.name)
    return RunFolder(home / judged.name)


# ------------------------------------------------------------------------------------------------- a new one


def test_an_empty_page_says_what_an_evaluation_is_for_and_what_to_do_first(home):
    at = opened()
    assert "measures how true scores are" in texts(at)
    assert "Begin with a file" in texts(at)
    assert at.button(key="evaluate-start").disabled
    assert "draft" not in at.query_params
    assert not home.exists(), "looking leaves nothing behind"


def test_columns_of_known_truth_can_be_chosen_here_and_not_on_the_train_page(home, towns):
    at = given(towns)
    assert at.selectbox(key="evaluate-column-answer").value == "answer"
    assert at.selectbox(key="evaluate-column-truth").value == "supporting_facts"
    assert "6 of them say which sentences support the answer" in texts(at)
    at.selectbox(key="evaluate-column-truth").set_value("")
    assert "support the answer" not in texts(ran(at.run()))
    at.switch_page("pages/train.py").run()
    at.segmented_control(key="train-kind").set_value(PATH)
    ran(at.run())
    at.text_input(key="train-path").set_value(str(towns))
    ran(at.run())
    assert [b for b in at.selectbox if b.key == "train-column-query"]
    assert not [b for b in at.selectbox if b.key in ("train-column-truth", "train-column-answer")]


def test_start_writes_down_what_was_chosen_and_shows_the_evaluation(home, towns, monkeypatch):
    at = given(towns)
    chosen = {
        "examples": 3,
        "ablations": 5,
        "new-tokens": 9,
        "seed": 4,
        "min-sources": 3,
        "prompt-tokens": 200,
    }
    for field, value in chosen.items():
        at.number_input(key=f"evaluate-{field}").set_value(value)
    at.segmented_control(key="evaluate-granularity").set_value("word")
    request = started(at, monkeypatch)  # the last edits come with the click
    assert request == EvaluationRequest(
        session.MODEL, str(towns), {}, examples=3, methods=("average", "context_cite_32", "bm25"), granularity="word",
        ablations=5, max_new_tokens=9, seed=4, min_sources=3, max_prompt_tokens=200,
    )  # fmt: skip


def test_an_upload_is_kept_with_the_evaluation(home, towns, monkeypatch):
    at = opened()
    at.multiselect(key="evaluate-methods").set_value(["average"])
    at.file_uploader[0].upload(towns.name, towns.read_bytes(), "application/json")
    ran(at.run())
    request = started(at, monkeypatch)
    (run,) = evaluate_runs.evaluations()
    assert request.data == str(run.folder / "data-towns.jsonl")
    assert Path(request.data).read_bytes() == towns.read_bytes()


@pytest.mark.parametrize("name", ["evaluation.json", "progress.json", "shown.json"])
def test_an_upload_is_none_of_the_folders_own_files(home, towns, monkeypatch, name):
    at = opened()
    at.multiselect(key="evaluate-methods").set_value(["average"])
    rows = [json.loads(line) for line in towns.read_text().splitlines()[:3]]
    at.file_uploader[0].upload(name, json.dumps(rows).encode(), "application/json")
    ran(at.run())
    assert Path(started(at, monkeypatch).data).name == f"data-{name}"


def test_how_many_are_removed_can_be_chosen(home, towns, monkeypatch):
    at = given(towns)
    box = at.text_input(key="evaluate-top-k")
    assert box.value == "1, 3, 5"
    for wrong in ("0", "1, x", "2 3", "-1", "3, 3", "1.5", "٣"):
        at.text_input(key="evaluate-top-k").set_value(wrong)
        ran(at.run())
        assert at.button(key="evaluate-start").disabled, wrong
        assert "Top k is no list" in texts(at)
    at.text_input(key="evaluate-top-k").set_value(" 2,10 ")
    ran(at.run())
    assert f"about {7 * (32 + 1 + 6 + 32):,} ablations" in texts(at)
    assert started(at, monkeypatch).top_k == (2, 10)


def test_a_reload_finds_what_was_typed(home, towns):
    at = given(towns)
    at.number_input(key="evaluate-ablations").set_value(17)
    ran(at.run())
    again = opened(draft=at.query_params["draft"])
    assert "7 of 8 rows can be used." in texts(again)
    assert again.number_input(key="evaluate-ablations").value == 17
    assert set(again.multiselect(key="evaluate-methods").value) == {"average", "bm25", "context_cite_32"}


@pytest.mark.parametrize(
    "content",
    ["", "[]", '{"ablations": -4, "methods": ["no such"], "estimators": [1], "kind": "x", "upload": "../x"}'],
)
def test_a_damaged_draft_is_an_empty_form(home, content):
    folder = home / ".drafts" / ("a" * 12)
    folder.mkdir(parents=True)
    (folder / "draft.json").write_text(content)
    at = opened(draft="a" * 12)
    assert at.number_input(key="evaluate-ablations").value == 32
    assert "at2" in at.multiselect(key="evaluate-methods").value


def test_what_will_be_run_is_said_in_ablations(home, towns):
    at = given(towns)
    # 7 examples; 32 at random, all sources once, 3 drops of each of 3 methods, and ContextCite's own 32.
    assert f"about {7 * (32 + 1 + 9 + 32):,} ablations" in texts(at)
    at.multiselect(key="evaluate-methods").set_value(["average", "leave_one_out"])
    ran(at.run())
    sources = evaluate_methods.passes_of(["leave_one_out"], (6 * 5 + 1) / 7)
    assert f"about {7 * (32 + 1 + 6 + sources):,.0f} ablations" in texts(at)
    at.number_input(key="evaluate-ablations").set_value(0)
    assert "judged by known truth alone" in texts(ran(at.run()))


def test_without_ablations_and_without_truth_there_is_nothing_to_judge_by(home, towns):
    at = given(towns)
    at.number_input(key="evaluate-ablations").set_value(0)
    at.selectbox(key="evaluate-column-truth").set_value("")
    ran(at.run())
    assert "only known truth to judge by" in texts(at)
    assert at.button(key="evaluate-start").disabled


def test_minutes_come_from_trying_one_example(home, towns):
    at = given(towns)
    at.number_input(key="evaluate-new-tokens").set_value(8)
    at.button(key="evaluate-estimate").click()
    ran(at.run())
    until(lambda: "for each ablation, as tried" in texts(ran(at.run())))


def test_what_is_tried_is_one_of_those_that_are_judged(home, towns, tiny_lm):
    examples = read_data(towns, {"response": "response"}).examples
    asked_for = partial(EvaluationRequest, session.MODEL, str(towns))
    short = next(example for example in examples if example.id == "short")
    for request in (asked_for(min_sources=3), asked_for(max_prompt_tokens=10_000, min_sources=4)):
        job = evaluate_estimate.Job()
        found = evaluate_estimate.fitting(tiny_lm, [*[short] * 3, *examples], request, job)
        assert short not in found
        assert len(found) == 6
        assert job.share == 6 / 10
    with pytest.raises(at2.At2Error, match="None of the first 7 examples has enough sources"):
        evaluate_estimate.fitting(tiny_lm, examples, asked_for(max_prompt_tokens=1), evaluate_estimate.Job())


def test_an_estimate_that_waits_can_be_stopped(home, towns):
    session.engine().start()
    session.engine().wait()
    at = given(towns)
    with session.engine().hold():
        at.button(key="evaluate-estimate").click()
        ran(at.run())
        at.button(key="evaluate-estimate-stop").click()
        ran(at.run())
        until(lambda: "Stopped; nothing is known" in texts(ran(at.run())))
    assert not session.engine().busy


def test_an_estimate_of_an_empty_response_says_so(home, towns, monkeypatch):
    from at2_core import example_ablations

    real = example_ablations.replay
    monkeypatch.setattr(
        example_ablations, "replay", lambda *args: dataclasses.replace(real(*args), response_ids=[])
    )
    at = given(towns)
    at.selectbox(key="evaluate-column-response").set_value("response")
    ran(at.run())
    at.button(key="evaluate-estimate").click()
    ran(at.run())
    until(lambda: "ended its response to the example that was tried at once" in texts(ran(at.run())))


def test_two_at_once_are_warned_of(home, towns):
    run = made(home, "other")
    with run.working(threading.Event()):
        run.tell(Progress("running", "evaluate", 1, 9))
        at = given(towns)
        assert "The evaluation 'other' is running too: they share this machine" in texts(at)
        assert not at.button(key="evaluate-start").disabled
    assert "share this machine" not in texts(ran(at.run()))


# ------------------------------------------------------------------------------------------------- estimators


def test_estimators_that_fit_are_offered_and_the_others_say_why_not(home, tiny_lm, towns, monkeypatch):
    session.engine().start()
    session.engine().wait()
    for theta, name, model, fingerprint in (
        (THETA, "mine", tiny_lm.name, tiny_lm.fingerprint),
        (THETA[::-1], "cousin", "another model", ""),
        (THETA + 1, "stranger", "third model", "0" * 16),
    ):
        catalogue.add_estimator(at2.Estimator(theta.copy(), name, model, fingerprint))
    at = given(towns)
    choice = at.multiselect(key="evaluate-estimators")
    assert choice.options == ["cousin, negative control: of another model", "mine"] or choice.options == [
        "mine", "cousin, negative control: of another model",
    ]  # fmt: skip
    said = texts(at)
    assert "The estimator 'stranger' was learned for third model, whose weights differ" in said
    assert "30 layers of 9 heads, but" in said, "a bundled one has another shape"
    at.multiselect(key="evaluate-methods").set_value(["at2", "shuffled_heads"])
    ran(at.run())
    assert "This model has no estimator, which AT2, Shuffled heads need" in texts(at)
    assert at.button(key="evaluate-start").disabled
    entries = {e.name: e.fingerprint for e in catalogue.list_estimators()}
    at.multiselect(key="evaluate-estimators").set_value([entries["cousin"], entries["mine"]])
    ran(at.run())
    assert "3 methods are judged" in texts(at), "AT2 by two estimators, and the control"
    assert set(started(at, monkeypatch).estimators) == {entries["cousin"], entries["mine"]}


def test_of_two_estimators_with_one_name_the_chosen_one_is_judged(home, tiny_lm, towns, monkeypatch):
    for theta in (THETA, THETA[::-1], THETA + 1):
        catalogue.add_estimator(
            at2.Estimator(theta.copy(), "AT2 for tiny", tiny_lm.name, tiny_lm.fingerprint)
        )
    session.engine().start()
    session.engine().wait()
    at = given(towns)
    at.multiselect(key="evaluate-methods").set_value(["at2"])
    ran(at.run())
    choice = at.multiselect(key="evaluate-estimators")
    assert len(set(choice.options)) == 3
    last = catalogue.list_estimators()[-1].fingerprint
    choice.set_value([option for option in choice.options if last in option])
    ran(at.run())
    ran(at.run())
    assert at.multiselect(key="evaluate-estimators").value == [last]
    assert started(at, monkeypatch).estimators == (last,)


@pytest.mark.parametrize("loaded", [False, True])
def test_the_estimator_that_the_server_was_given_is_the_models_own(
    home, tiny_lm, towns, tmp_path, monkeypatch, loaded
):
    path = tmp_path / "given.safetensors"
    at2.save_estimator(at2.Estimator(THETA, "given", tiny_lm.name, tiny_lm.fingerprint), path)
    monkeypatch.setattr(session, "ESTIMATOR", str(path))
    if loaded:
        session.engine().start()
        session.engine().wait()
    at = given(towns)
    assert at.multiselect(key="evaluate-estimators").options == ["given, the model's own"]
    at.multiselect(key="evaluate-methods").set_value(["at2", "average"])
    ran(at.run())
    assert not at.button(key="evaluate-start").disabled
    assert started(at, monkeypatch).estimators == (str(path),), (
        "the process does not know what the server was given"
    )


def test_a_model_is_the_same_however_its_folder_is_written(home, towns, monkeypatch):
    session.engine().start()
    session.engine().wait()
    path = Path(session.MODEL)
    monkeypatch.chdir(path.parent)
    monkeypatch.setattr(session, "MODEL", path.name)
    session.engine().start()
    at = given(towns)
    assert at.text_input(key="evaluate-model").value == path.name
    at.button(key="evaluate-estimate").click()
    assert "loaded here" not in texts(ran(at.run()))
    assert started(at, monkeypatch).model == str(path)


def test_names_and_sentences_are_the_engines(tiny_lm):
    est = at2.Estimator(THETA, "e", tiny_lm.name)
    for name in evaluate_methods.OFFERED:
        method = baselines.find_method(name, est, tiny_lm)
        assert evaluate_methods.ABOUT[name] == method.about
        if name not in ("best_head", "top_heads"):  # these say which heads, which the page cannot know yet
            assert evaluate_methods.NAMES[name] == method.name
    assert set(baselines.METHODS) <= set(evaluate_methods.OFFERED)
    assert str(baselines.RETRIEVAL_HEADS) in evaluate_methods.NAMES["top_heads"]
    assert evaluate_methods.label("at2 **mine**") == "AT2: **mine**"
    assert evaluate_methods.label("context_cite_8") == "ContextCite 8"


def test_every_measure_is_explained(judged):
    for measure in set(summarize(read_rows(judged))["measure"]):
        assert evaluate_methods.explained(measure).endswith("."), measure
    assert "top 3 of the sources" in evaluate_methods.explained("drop_3")


# ------------------------------------------------------------------------------------------------- how far it is


def test_one_that_works_is_followed_paused_and_resumed(home, judged, monkeypatch):
    run = copied(judged, home)
    cancel = threading.Event()
    with run.working(cancel):
        run.tell(Progress("running", "evaluate", 3, 40, seconds_left=200, per_minute=2.25))
        at = opened(evaluation=run.name)
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


def test_the_process_carries_out_what_was_asked(home, tiny_folder, towns):
    run = RunFolder(home / "r")
    ask(run, EvaluationRequest(str(tiny_folder("llama")), str(towns), examples=2, methods=("average", "bm25"), ablations=4,
                               max_new_tokens=4, device="cpu"))  # fmt: skip
    assert train_process.start(run, "evaluate")
    assert not train_process.start(run, "evaluate")
    assert train_process.seen(run).state == "starting"
    until(lambda: train_process.seen(run).state == "done")
    until(lambda: not train_process.alive(run))
    at = opened(evaluation="r")
    assert set(at.dataframe[0].value["method"]) == {"Average attention", "BM25"}


def test_the_list_says_how_far_each_is(home):
    made(home, "half", state="paused", stage="evaluate", done=3, total=40)
    made(home, "whole", state="done", stage="evaluate", done=40, total=40)
    said = texts(opened())
    assert "○ paused, 3 of 40 examples" in said
    assert "✓ done" in said
    assert "measures how true" not in said, "the purpose is for those who have none yet"


@pytest.mark.parametrize("name", ["../outside", "..", "a/b", "/etc", ".drafts", HOSTILE])
def test_an_address_reaches_only_the_evaluations_of_the_folder(home, judged, name):
    copied(judged, home.parent)
    (home.parent / judged.name).rename(home.parent / "outside")
    at = opened(evaluation=name)
    assert at.button(key="evaluate-start").disabled, "the form of a new one"
    assert not at.get("plotly_chart")
    assert f"no evaluation called {name!r}" in texts(at)


def test_it_is_deleted_after_a_confirmation_and_not_while_somebody_works_there(home):
    run = made(home, "r", state="paused")
    at = opened(evaluation="r")
    with run.working(threading.Event()):
        at.button(key="evaluate-delete-for-good").click()
        ran(at.run())
        assert "stop it first" in texts(at)
    at.button(key="evaluate-delete-for-good").click()
    ran(at.run())
    assert not run.folder.exists()
    assert "evaluation" not in at.query_params


@pytest.mark.parametrize("content", ["", "[]", '{"format": 1}', '{"format": 1, "model": 3}'])
def test_a_damaged_request_is_one_sentence(home, judged, content):
    run = copied(judged, home)
    (run.folder / "evaluation.json").write_text(content)
    at = opened(evaluation=run.name)
    assert "Traceback" not in texts(at)


# ------------------------------------------------------------------------------------------------- what came out


def test_the_table_says_what_the_summary_says(home, judged):
    run = copied(judged, home)
    summary = summarize(read_rows(judged), "average")
    at = opened(evaluation=run.name)
    shown = at.dataframe[0].value.set_index("method")
    for method in METHODS:
        own = summary[(summary["method"] == method) & (summary["measure"] == "lds")].iloc[0]
        cell = f"{own['mean']:.2f} [{own['low']:.2f}, {own['high']:.2f}]"
        assert shown.loc[evaluate_methods.label(method), "lds"] == cell
    assert shown.loc["ContextCite 8", "passes"] == 8
    assert "What removing sources does to the response: 6 examples." in texts(at)
    assert "1 example skipped: 1 × no response, or a single source" in texts(at)
    assert len(at.get("plotly_chart")) == 2


def test_rows_without_any_measure_are_one_sentence(home, judged):
    run = copied(judged, home)
    for path in run.folder.glob("rows/*.json"):
        sheet = json.loads(path.read_text())
        for row in sheet["rows"].values():
            for name in [n for n in row if n not in ("sources", "tokens", "prompt", "passes", "seconds")]:
                row.pop(name)
        path.write_text(json.dumps(sheet))
    assert "There is nothing to show" in texts(opened(evaluation=run.name))
    assert evaluate_export.summary_markdown(run) == ""


def test_only_what_was_asked_for_last_is_shown(home, judged):
    run = copied(judged, home)
    before = evaluate_figures.stamp(run)
    assert evaluate_methods.label("random") in set(opened(evaluation=run.name).dataframe[0].value["method"])
    shown = run.read(SHOWN)
    run.write(SHOWN, shown | {"methods": ["average", "bm25"], "sheets": shown["sheets"][:3]})
    assert evaluate_figures.stamp(run) != before
    at = opened(evaluation=run.name)
    assert set(at.dataframe[0].value["method"]) == {"Average attention", "BM25"}
    assert "3 examples" in texts(at)
    (run.folder / SHOWN).unlink()
    assert not opened(evaluation=run.name).dataframe


def test_known_truth_stands_apart_by_answer(home, judged):
    run = copied(judged, home)
    at = opened(evaluation=run.name)
    at.segmented_control(key="evaluate-judged-by").set_value("supported")
    ran(at.run())
    assert "Known truth, where the response gives the answer that it supports: 3 examples." in texts(at)
    summary = summarize(read_rows(judged), "average")
    own = summary[
        (summary["measure"] == "mrr") & (summary["answer"] == "supported") & (summary["method"] == "bm25")
    ].iloc[0]
    assert at.dataframe[0].value.set_index("method").loc["BM25", "mrr"].startswith(f"{own['mean']:.2f} [")


def test_the_form_begins_afresh_after_figures_were_looked_at(home, judged):
    run = copied(judged, home)
    at = opened(evaluation=run.name)
    at.button(key="train-new").click()
    ran(at.run())
    assert at.segmented_control(key="evaluate-kind").value == UPLOAD
    assert at.number_input(key="evaluate-ablations").value == 32


def test_differences_are_paired_and_to_the_method_that_was_chosen(home, judged):
    run = copied(judged, home)
    at = opened(evaluation=run.name)
    at.segmented_control(key="evaluate-shown").set_value("Differences")
    ran(at.run())
    at.selectbox(key="evaluate-reference").set_value("random")
    ran(at.run())
    own = summarize(read_rows(judged), "random")
    own = own[(own["method"] == "bm25") & (own["measure"] == "lds")].iloc[0]
    table = at.dataframe[0].value.set_index("method")
    assert table.loc["BM25", "lds"].startswith(f"{own['difference_mean']:+.2f} [")
    assert table.loc["Random", "lds"] == "reference"


@pytest.mark.parametrize(("examples", "expected"), [(5, {(1, 1)}), (4, set())])
def test_the_best_of_a_column_is_marked_and_a_tie_of_all_or_of_few_is_not(examples, expected):
    rows = [("a", 0.5, 1.0), ("b", 0.7, 1.0)]
    part = pd.DataFrame(
        [{"measure": m, "answer": "", "method": name, "examples": examples, "mean": mean, "low": mean, "high": mean,
          "passes": 0, "seconds": 0.0} for name, *means in rows for m, mean in zip(("lds", "mrr"), means, strict=True)]
    )  # fmt: skip
    html = evaluate_table.marked(evaluate_table.cells(part, None), part, None)
    html._compute()
    marked = {place for place, style in html.ctx.items() if style}
    assert marked == expected, "row b, column lds"


def test_one_example_has_no_interval_and_no_mark(judged):
    rows = read_rows(judged).dropna(subset=["method"])
    one = summarize(rows[rows["example"] == "town-2"], "average")
    part = one[one["answer"] == ""]
    for reference in (None, "average"):
        cells = evaluate_table.cells(part, reference)
        said = cells.set_index("method").loc["BM25", "drop_1"]
        assert said.endswith(" (one example)"), said
        html = evaluate_table.marked(cells, part, reference)
        html._compute()
        assert not any(html.ctx.values())
    for figure in (evaluate_charts.by_method(one, "drop_1", ""), evaluate_charts.by_cost(one, "drop_1", "")):
        assert not any(trace.error_x.visible or trace.error_y.visible for trace in figure.data)
        assert np.isfinite([*figure.layout.yaxis.range]).all()
        assert "nan" not in figure.to_json()


def test_pictures_show_means_intervals_and_costs(judged):
    summary = summarize(read_rows(judged))
    own = summary[(summary["measure"] == "lds")].set_index("method")
    figure = evaluate_charts.by_method(summary, "lds", "")
    assert sorted(trace.x[0] for trace in figure.data) == sorted(own["mean"])
    first = figure.data[0]
    assert first.x[0] + first.error_x.array[0] == pytest.approx(own["high"][own["mean"].idxmin()])
    cost = evaluate_charts.by_cost(summary, "lds", "")
    assert {a.text for a in cost.layout.annotations} == {evaluate_methods.label(m) for m in METHODS}
    places = {trace.x[0] for trace in cost.data if "8 passes" in trace.hovertemplate}
    assert min(places) > 2 * max(trace.x[0] for trace in cost.data if "0 passes" in trace.hovertemplate)


def test_names_at_one_place_are_moved_apart():
    shifts = evaluate_charts.apart([0, 0, 0, 5], [10, 12, 13, 12])
    moved = sorted(h + s for h, s in zip([10, 12, 13], shifts[:3], strict=True))
    assert np.diff(moved).min() > evaluate_charts.LINE - 0.5
    assert shifts[3] == 0


def test_a_name_in_a_picture_is_text():
    named = evaluate_charts._named("at2 <a href='http://evil'>")
    assert "<" not in named


def test_nothing_is_summarised_again_while_no_row_is_added(home, judged, monkeypatch):
    run = copied(judged, home)
    opened(evaluation=run.name)
    monkeypatch.setattr(evaluate_figures, "summarize", lambda *_: pytest.fail("summarised again"))
    monkeypatch.setattr(evaluate_figures, "read_rows", lambda *_: pytest.fail("read again"))
    opened(evaluation=run.name)


def test_while_it_works_a_large_table_is_not_worked_out_for_every_row(monkeypatch, tmp_path):
    state, clock, rows = {}, [100.0], [(500, 1)]
    monkeypatch.setattr(evaluate_figures.st, "session_state", state)
    monkeypatch.setattr(evaluate_figures.time, "monotonic", lambda: clock[0])
    monkeypatch.setattr(evaluate_figures, "stamp", lambda run: rows[0])
    run = RunFolder(tmp_path / "r")
    assert evaluate_figures.unhurried(run, True) == (500, 1)
    rows[0], clock[0] = (501, 2), 104.0
    assert evaluate_figures.unhurried(run, True) == (500, 1), "the next after 5 seconds"
    assert evaluate_figures.unhurried(run, False) == (501, 2), "at the end at once"
    rows[0], clock[0] = (502, 3), 110.0
    assert evaluate_figures.unhurried(run, True) == (502, 3)


def test_files_hold_what_the_page_shows(home, judged):
    run = copied(judged, home)
    rows = list(csv.DictReader(io.StringIO(evaluate_export.rows_csv(run).removeprefix("\ufeff"))))
    assert len(rows) == 6 * len(METHODS)
    summary = list(csv.DictReader(io.StringIO(evaluate_export.summary_csv(run).removeprefix("\ufeff"))))
    assert {row["method"] for row in summary} == set(METHODS)
    assert "| method | LDS |" in evaluate_export.summary_markdown(run)
    assert evaluate_export._cell("=1+1") == "'=1+1"
    assert evaluate_export._cell(-1.5) == -1.5


# ------------------------------------------------------------------------------------------------- its examples


def test_examples_have_a_row_each_with_every_methods_measure(home, judged):
    table = evaluate_examples.by_example(read_rows(judged).dropna(subset=["method"]), "lds")
    assert list(table["example"]) == ["town-0", HOSTILE, *(f"town-{i}" for i in range(2, 6))]
    assert set(table["supported"]) == {"yes", "no"}
    rows = read_rows(judged)
    own = rows[(rows["example"] == "town-2") & (rows["method"] == "bm25")]["lds"].item()
    assert table.set_index("example").loc["town-2", "bm25"] == pytest.approx(own, nan_ok=True)


def test_any_example_opens_in_explore_as_it_was_judged(home, judged, tiny_lm):
    run = copied(judged, home)
    at = opened(evaluation=run.name)
    assert at.button(key="evaluate-open").disabled
    rows = read_rows(judged)
    key = rows.loc[rows["example"] == "town-3", "key"].iloc[0]
    at.session_state[f"evaluate-chosen-{run.name}"] = key
    ran(at.run())
    assert "Example town-3" in texts(at)
    at.button(key="evaluate-open").click()
    ran(at.run())
    until(lambda: "looking_at" in ran(at.run()).session_state and at.session_state["looking_at"][0] == "run")
    shown = session.runs().get(at.session_state["looking_at"][1])
    until(lambda: not shown.active)
    assert shown.exploration.text == "It is in Paris."
    assert shown.exploration.task.query == "Where is tower 3?"
    assert list(shown.exploration.response_ids) == evaluate_examples.response_ids(run, key)


@pytest.mark.parametrize("damaged", [False, True])
def test_a_response_of_the_models_own_is_the_same_again(home, towns, tiny_folder, damaged):
    session.engine().start()
    lm = session.engine().wait()
    run = RunFolder(home / "own")
    request = EvaluationRequest(
        session.MODEL, str(towns), methods=("average",), examples=2, ablations=4, max_new_tokens=6
    )
    ask(run, request)
    example = read_data(towns, {"response": ""}).examples[0]
    evaluate(lm, [example], ["average"], out_dir=run.folder, num_ablations=4, max_new_tokens=6)
    ids = evaluate_examples.response_ids(run, example.key)
    assert ids
    if damaged:
        for path in run.folder.glob("ablations/*.npz"):
            path.write_bytes(b"no array")
    assert (evaluate_examples.response_ids(run, example.key) is None) == damaged
    shown = session.runs().start(
        session.engine(), example.task, evaluate_examples.settings_of(run, request, example)
    )
    until(lambda: not shown.active)
    assert list(shown.exploration.response_ids) == ids
    assert shown.exploration.stop_reason == ("length" if len(ids) == 6 else "end"), (
        "the model's own, not a given one"
    )
    at = AppTest.from_file(str(APP), default_timeout=60)
    at.query_params["run"] = shown.id
    said = texts(ran(at.run()))
    assert "From the evaluation own, example town-0." in said
    assert "Your own text" not in said


def test_what_waits_for_the_model_is_forgotten_with_another_choice_and_with_the_page(
    home, judged, monkeypatch
):
    run = copied(judged, home)
    keys = list(dict.fromkeys(read_rows(judged)["key"]))
    monkeypatch.setattr(session.engine(), "start", lambda again=False: None)  # it is never there

    def wished() -> AppTest:
        at = opened(evaluation=run.name)
        at.session_state[f"evaluate-chosen-{run.name}"] = keys[0]
        ran(at.run())
        at.button(key="evaluate-open").click()
        ran(ran(at.run()).run())
        assert at.session_state[evaluate_examples.OPENING] == (run.name, keys[0])
        return at

    at = wished()
    at.session_state[f"evaluate-chosen-{run.name}"] = keys[1]
    assert evaluate_examples.OPENING not in ran(at.run()).session_state
    for elsewhere in ("pages/train.py", "pages/heads.py"):
        at = wished()
        ran(at.switch_page(elsewhere).run())
        at.switch_page("pages/evaluate.py")
        at.query_params["evaluation"] = run.name
        assert evaluate_examples.OPENING not in ran(at.run()).session_state


def test_an_example_that_is_gone_is_one_sentence(home, judged, tmp_path):
    run = copied(judged, home)
    elsewhere = tmp_path / "other.jsonl"
    elsewhere.write_text('{"query": "q", "context": "A text. And more."}\n')
    found = run.read("evaluation.json") | {"data": str(elsewhere), "columns": {}}
    run.write("evaluation.json", found)
    with pytest.raises(at2.At2Error, match=r"not in other\.jsonl any more"):
        evaluate_examples.find_example(asked(run), "0" * 16)


def test_responses_of_another_model_are_not_opened(home, judged):
    run = copied(judged, home)
    run.write("evaluation.json", run.read("evaluation.json") | {"model": "another/model"})
    at = opened(evaluation=run.name)
    assert "These responses are those of another/model" in texts(at)
    assert at.button(key="evaluate-open").disabled


def test_a_second_click_starts_nothing(home, towns, monkeypatch):
    begun = []
    monkeypatch.setattr(train_process, "start", lambda run, command: begun.append(run.name) or True)
    at = given(towns)
    draft = at.query_params["draft"]
    at.button(key="evaluate-start").click()
    ran(at.run())
    evaluate_start.start_evaluation("".join(draft), asked(evaluate_runs.evaluations()[0]))
    assert len(begun) == 1
    assert len(evaluate_runs.evaluations()) == 1


def test_hostile_names_are_never_markdown(home, judged):
    name = HOSTILE.replace("/", "-")
    judged = shutil.copytree(judged, home / name)
    run = RunFolder(judged)
    shown = run.read(SHOWN)
    run.write(SHOWN, shown | {"methods": ["average", f"at2 {HOSTILE}"]})
    for path in run.folder.glob("rows/*.json"):  # what bm25 scored is now an estimator's
        sheet = json.loads(path.read_text())
        if "bm25" in sheet["shown"]:
            sheet["shown"] = {"average": sheet["shown"]["average"], f"at2 {HOSTILE}": sheet["shown"]["bm25"]}
        path.write_text(json.dumps(sheet))
    at = opened(evaluation=name)
    rows = read_rows(run.folder)
    key = rows.loc[rows["example"] == HOSTILE, "key"].iloc[0]
    at.session_state[f"evaluate-chosen-{name}"] = key
    ran(at.run())
    assert f"Example {HOSTILE}" in texts(at), "it is there, as text"
    assert name in [element.value for element in at.text]
    assert f"at2 {HOSTILE}" in at.dataframe[1].value
    read = [
        e.value
        for e in [*at.markdown, *at.caption, *at.title, *at.header, *at.subheader, *at.error, *at.info]
    ]
    read += [e.label for e in [*at.button, *at.expander, *at.selectbox, *at.text_input, *at.checkbox]]
    read += [o for e in at.segmented_control for o in e.options]
    unescaped = [text for text in read if "![i]" in text or "**y**" in text or "<b>" in text]
    assert not unescaped
    assert any("evil" in text for text in read), "the list's buttons have the name, with its signs escaped"


def test_opening_the_page_imports_nothing_heavy():
    modules = ", ".join(f"pages.ui.{path.stem}" for path in sorted(APP.parent.glob("pages/ui/evaluate_*.py")))
    code = f"import sys, {modules}; assert not {{'torch', 'transformers'}} & set(sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], cwd=APP.parent, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
