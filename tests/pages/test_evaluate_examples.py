"""The examples of an evaluation: any of them opens in Explore as it was judged, and none is more than text."""

from __future__ import annotations

import json
import shutil

import pytest
from streamlit.testing.v1 import AppTest

import at2_core as at2
from at2_core.data import read_data
from at2_core.evaluation import evaluate
from at2_core.evaluation_runs import SHOWN, EvaluationRequest, ask, asked, read_rows
from at2_core.runs import RunFolder
from pages.ui import evaluate_examples, session
from tests.pages.driving import APP, MARKUP, copied, opened, ran, texts, until


def test_examples_have_a_row_each_with_every_methods_measure(evaluations, judged):
    table = evaluate_examples.by_example(read_rows(judged).dropna(subset=["method"]), "lds")
    assert list(table["example"]) == ["town-0", MARKUP, *(f"town-{i}" for i in range(2, 6))]
    assert set(table["supported"]) == {"yes", "no"}
    rows = read_rows(judged)
    own = rows[(rows["example"] == "town-2") & (rows["method"] == "bm25")]["lds"].item()
    assert table.set_index("example").loc["town-2", "bm25"] == pytest.approx(own, nan_ok=True)


def test_any_example_opens_in_explore_as_it_was_judged(evaluations, judged, tiny_lm):
    run = copied(judged, evaluations)
    at = opened("evaluate", evaluation=run.name)
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
def test_a_response_of_the_models_own_is_the_same_again(evaluations, towns, tiny_folder, damaged):
    session.engine().start()
    lm = session.engine().wait()
    run = RunFolder(evaluations / "own")
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
    evaluations, judged, monkeypatch
):
    run = copied(judged, evaluations)
    keys = list(dict.fromkeys(read_rows(judged)["key"]))
    monkeypatch.setattr(session.engine(), "start", lambda again=False: None)  # it is never there

    def wished() -> AppTest:
        at = opened("evaluate", evaluation=run.name)
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


def test_an_example_that_is_gone_is_one_sentence(evaluations, judged, tmp_path):
    run = copied(judged, evaluations)
    elsewhere = tmp_path / "other.jsonl"
    elsewhere.write_text('{"query": "q", "context": "A text. And more."}\n')
    found = run.read("evaluation.json") | {"data": str(elsewhere), "columns": {}}
    run.write("evaluation.json", found)
    with pytest.raises(at2.At2Error, match=r"not in other\.jsonl any more"):
        evaluate_examples.find_example(asked(run), "0" * 16)


def test_responses_of_another_model_are_not_opened(evaluations, judged):
    run = copied(judged, evaluations)
    run.write("evaluation.json", run.read("evaluation.json") | {"model": "another/model"})
    at = opened("evaluate", evaluation=run.name)
    assert "These responses are those of another/model" in texts(at)
    assert at.button(key="evaluate-open").disabled


def test_hostile_names_are_never_markdown(evaluations, judged):
    name = MARKUP.replace("/", "-")
    judged = shutil.copytree(judged, evaluations / name)
    run = RunFolder(judged)
    shown = run.read(SHOWN)
    run.write(SHOWN, shown | {"methods": ["average", f"at2 {MARKUP}"]})
    for path in run.folder.glob("rows/*.json"):  # what bm25 scored is now an estimator's
        sheet = json.loads(path.read_text())
        if "bm25" in sheet["shown"]:
            sheet["shown"] = {"average": sheet["shown"]["average"], f"at2 {MARKUP}": sheet["shown"]["bm25"]}
        path.write_text(json.dumps(sheet))
    at = opened("evaluate", evaluation=name)
    rows = read_rows(run.folder)
    key = rows.loc[rows["example"] == MARKUP, "key"].iloc[0]
    at.session_state[f"evaluate-chosen-{name}"] = key
    ran(at.run())
    assert f"Example {MARKUP}" in texts(at), "it is there, as text"
    assert name in [element.value for element in at.text]
    assert f"at2 {MARKUP}" in at.dataframe[1].value
    read = [
        e.value
        for e in [*at.markdown, *at.caption, *at.title, *at.header, *at.subheader, *at.error, *at.info]
    ]
    read += [e.label for e in [*at.button, *at.expander, *at.selectbox, *at.text_input, *at.checkbox]]
    read += [o for e in at.segmented_control for o in e.options]
    unescaped = [text for text in read if "![i]" in text or "**y**" in text or "<b>" in text]
    assert not unescaped
    assert any("evil" in text for text in read), "the list's buttons have the name, with its signs escaped"
