"""The form of the Evaluate page: what is asked for is what is written down, and what it costs is known before."""

from __future__ import annotations

import dataclasses
import json
import threading
from functools import partial
from pathlib import Path

import pytest
from streamlit.testing.v1 import AppTest

import at2_core as at2
from at2_core import baselines, catalogue
from at2_core.data import read_data
from at2_core.evaluation_runs import EvaluationRequest, ask, asked, read_rows
from at2_core.measures import summarize
from at2_core.progress import Progress
from at2_core.runs import RunFolder
from pages.ui import evaluate_estimate, evaluate_methods, evaluate_runs, run_start, session, train_process
from pages.ui.draft import PATH
from pages.ui.evaluate_draft import FORM
from tests.pages.driving import THETA, opened, ran, ready, texts, until


def given(path: Path) -> AppTest:
    """The form, with the path of a file entered and methods that need no estimator."""
    at = opened("evaluate")
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


# ------------------------------------------------------------------------------------------------- a new one


def test_an_empty_page_says_what_an_evaluation_is_for_and_what_to_do_first(evaluations):
    at = opened("evaluate")
    assert "measures how true scores are" in texts(at)
    assert "Begin with a file" in texts(at)
    assert at.button(key="evaluate-start").disabled
    assert "draft" not in at.query_params
    assert not evaluations.exists(), "looking leaves nothing behind"


def test_columns_of_known_truth_can_be_chosen_here_and_not_on_the_train_page(evaluations, towns):
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


def test_start_writes_down_what_was_chosen_and_shows_the_evaluation(evaluations, towns, monkeypatch):
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


def test_an_upload_is_kept_with_the_evaluation(evaluations, towns, monkeypatch):
    at = opened("evaluate")
    at.multiselect(key="evaluate-methods").set_value(["average"])
    at.file_uploader[0].upload(towns.name, towns.read_bytes(), "application/json")
    ran(at.run())
    request = started(at, monkeypatch)
    (run,) = evaluate_runs.evaluations()
    assert request.data == str(run.folder / "data-towns.jsonl")
    assert Path(request.data).read_bytes() == towns.read_bytes()


@pytest.mark.parametrize("name", ["evaluation.json", "progress.json", "shown.json"])
def test_an_upload_is_none_of_the_folders_own_files(evaluations, towns, monkeypatch, name):
    at = opened("evaluate")
    at.multiselect(key="evaluate-methods").set_value(["average"])
    rows = [json.loads(line) for line in towns.read_text().splitlines()[:3]]
    at.file_uploader[0].upload(name, json.dumps(rows).encode(), "application/json")
    ran(at.run())
    assert Path(started(at, monkeypatch).data).name == f"data-{name}"


def test_how_many_are_removed_can_be_chosen(evaluations, towns, monkeypatch):
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


def test_a_reload_finds_what_was_typed(evaluations, towns):
    at = given(towns)
    at.number_input(key="evaluate-ablations").set_value(17)
    ran(at.run())
    again = opened("evaluate", draft=at.query_params["draft"])
    assert "7 of 8 rows can be used." in texts(again)
    assert again.number_input(key="evaluate-ablations").value == 17
    assert set(again.multiselect(key="evaluate-methods").value) == {"average", "bm25", "context_cite_32"}


@pytest.mark.parametrize(
    "content",
    ["", "[]", '{"ablations": -4, "methods": ["no such"], "estimators": [1], "kind": "x", "upload": "../x"}'],
)
def test_a_damaged_draft_is_an_empty_form(evaluations, content):
    folder = evaluations / ".drafts" / ("a" * 12)
    folder.mkdir(parents=True)
    (folder / "draft.json").write_text(content)
    at = opened("evaluate", draft="a" * 12)
    assert at.number_input(key="evaluate-ablations").value == 32
    assert "at2" in at.multiselect(key="evaluate-methods").value


def test_what_will_be_run_is_said_in_ablations(evaluations, towns):
    at = given(towns)
    # 7 examples; 32 at random, all sources once, 3 drops of each of 3 methods, and ContextCite's own 32.
    assert f"about {7 * (32 + 1 + 9 + 32):,} ablations" in texts(at)
    at.multiselect(key="evaluate-methods").set_value(["average", "leave_one_out"])
    ran(at.run())
    sources = evaluate_methods.passes_of(["leave_one_out"], (6 * 5 + 1) / 7)
    assert f"about {7 * (32 + 1 + 6 + sources):,.0f} ablations" in texts(at)
    at.number_input(key="evaluate-ablations").set_value(0)
    assert "judged by known truth alone" in texts(ran(at.run()))


def test_without_ablations_and_without_truth_there_is_nothing_to_judge_by(evaluations, towns):
    at = given(towns)
    at.number_input(key="evaluate-ablations").set_value(0)
    at.selectbox(key="evaluate-column-truth").set_value("")
    ran(at.run())
    assert "only known truth to judge by" in texts(at)
    assert at.button(key="evaluate-start").disabled


def test_minutes_come_from_trying_one_example(evaluations, towns):
    at = given(towns)
    at.number_input(key="evaluate-new-tokens").set_value(8)
    at.button(key="evaluate-estimate").click()
    ran(at.run())
    until(lambda: "for each ablation, as tried" in texts(ran(at.run())))


def test_what_is_tried_is_one_of_those_that_are_judged(evaluations, towns, tiny_lm):
    examples = read_data(towns, {"response": "response"}).examples
    asked_for = partial(EvaluationRequest, session.MODEL, str(towns))
    short = next(example for example in examples if example.id == "short")
    for request in (asked_for(min_sources=3), asked_for(max_prompt_tokens=10_000, min_sources=4)):
        found, share = evaluate_estimate.fitting(
            tiny_lm, [*[short] * 3, *examples], request, threading.Event()
        )
        assert short not in found
        assert len(found) == 6
        assert share == 6 / 10
    with pytest.raises(at2.At2Error, match="None of the first 7 examples has enough sources"):
        evaluate_estimate.fitting(tiny_lm, examples, asked_for(max_prompt_tokens=1), threading.Event())


def test_an_estimate_that_waits_can_be_stopped(evaluations, towns):
    ready()
    at = given(towns)
    with session.engine().hold():
        at.button(key="evaluate-estimate").click()
        ran(at.run())
        at.button(key="evaluate-estimate-stop").click()
        ran(at.run())
        until(lambda: "Stopped; nothing is known" in texts(ran(at.run())))
    assert not session.engine().busy


def test_an_estimate_of_an_empty_response_says_so(evaluations, towns, monkeypatch):
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


def test_two_at_once_are_warned_of(evaluations, towns):
    run = RunFolder(evaluations / "other")
    ask(run, EvaluationRequest("tiny", "d.jsonl"))
    with run.working(threading.Event()):
        run.tell(Progress("running", "evaluate", 1, 9))
        at = given(towns)
        assert "The evaluation 'other' is running too: they share this machine" in texts(at)
        assert not at.button(key="evaluate-start").disabled
    assert "share this machine" not in texts(ran(at.run()))


def test_a_second_click_starts_nothing(evaluations, towns, monkeypatch):
    begun = []
    monkeypatch.setattr(train_process, "start", lambda run, command: begun.append(run.name) or True)
    at = given(towns)
    draft = at.query_params["draft"]
    at.button(key="evaluate-start").click()
    ran(at.run())
    request = asked(evaluate_runs.evaluations()[0])
    run_start.start("".join(draft), request, "again", ask, FORM, evaluate_runs.EVALUATIONS)
    assert len(begun) == 1
    assert len(evaluate_runs.evaluations()) == 1


# ------------------------------------------------------------------------------------------------- estimators


def test_estimators_that_fit_are_offered_and_the_others_say_why_not(evaluations, tiny_lm, towns, monkeypatch):
    ready()
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


def test_of_two_estimators_with_one_name_the_chosen_one_is_judged(evaluations, tiny_lm, towns, monkeypatch):
    for theta in (THETA, THETA[::-1], THETA + 1):
        catalogue.add_estimator(
            at2.Estimator(theta.copy(), "AT2 for tiny", tiny_lm.name, tiny_lm.fingerprint)
        )
    ready()
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
    evaluations, tiny_lm, towns, tmp_path, monkeypatch, loaded
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


def test_a_model_is_the_same_however_its_folder_is_written(evaluations, towns, monkeypatch):
    ready()
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
