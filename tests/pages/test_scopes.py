"""What is attributed to, and thoughts: what the component is sent, what the address says, what files and Verify make of it."""

from __future__ import annotations

import base64
import csv
import io
import json
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import streamlit as st
from streamlit.testing.v1 import AppTest

import at2_core as at2
from at2_core import exploration as explorations
from at2_core import verification
from at2_core.attribution import all_token_scores
from at2_core.exploration import explore
from at2_core.sources import SCOPES
from pages.ui import (
    compare_state,
    compare_tables,
    compare_view,
    estimator_scores,
    export,
    head_reading,
    session,
    token_heatmap,
    verify,
    verify_picture,
)
from pages.ui.token_heatmap import ROLES, ViewState, sentence_kinds

APP = Path(__file__).parents[2] / "app.py"
TASK = at2.ContextTask(
    documents=(
        at2.Document("Animals", "The fox runs. The dog sleeps."),
        at2.Document("Cities", "Paris is far."),
    ),
    query="Who runs?",
    system="Be brief.",
    history=(at2.Turn("user", "Hello."), at2.Turn("assistant", "Good day. Ask.")),
)
RESPONSE = "<think>\nThe fox? It runs.\n</think>\n\nThe fox. It is fast."
TWICE = "<think>Hm.</think>The fox.<think>Or?</think>It is fast."


@pytest.fixture(autouse=True)
def server(tiny_folder, monkeypatch):
    """A fresh server whose model is the tiny one."""
    monkeypatch.setattr(session, "MODEL", str(tiny_folder("llama")))
    monkeypatch.setattr(session, "HEAD_START", 0)
    st.cache_resource.clear()
    yield
    for run in list(session.runs()._runs.values()):
        run.cancel.set()
    st.cache_resource.clear()


def given(task: at2.ContextTask = TASK, response: str = RESPONSE):
    """A finished run of a given response."""
    from pages.ui.jobs import Settings

    run = session.runs().start(session.engine(), task, Settings(response=response))
    for _ in range(300):
        if not run.active:
            break
        time.sleep(0.1)
    assert run.state == "done", run.error
    return run


def opened(**address: str) -> AppTest:
    at = AppTest.from_file(str(APP), default_timeout=60)
    for key, value in address.items():
        at.query_params[key] = value
    return ran(at.run())


def ran(at: AppTest) -> AppTest:
    assert not at.exception, at.exception
    return at


def component(at: AppTest):
    return at.get("bidi_component")[0]


def payload(at: AppTest) -> dict:
    return json.loads(component(at).proto.json)


def floats(text: str) -> np.ndarray:
    return np.frombuffer(base64.b64decode(text), "<f4")


def rows(sent: dict, granularity: str) -> np.ndarray:
    return np.frombuffer(base64.b64decode(sent["sources"][granularity]), "<i4").reshape(-1, 7)


def texts(at: AppTest) -> str:
    return "\n".join(text.value for text in at.text)


# ------------------------------------------------------------------------------------------ what the browser gets


def test_the_browser_gets_every_source_with_its_role_and_the_responses_own_scores():
    run = given()
    sent = payload(opened(run=run.id))
    both = sent["prompt"] + sent["response"]
    found = [(ROLES[role], turn, both[start:end]) for start, end, *_, role, turn in rows(sent, "sentence")]
    assert found == [
        ("system", -1, "Be brief."),
        ("user", 0, "Hello."),
        ("assistant", 1, "Good day. "),
        ("assistant", 1, "Ask."),
        ("title", -1, "Animals"),
        ("context", -1, "The fox runs. "),
        ("context", -1, "The dog sleeps."),
        ("title", -1, "Cities"),
        ("context", -1, "Paris is far."),
        ("query", -1, "Who runs?"),
        ("thought", -1, "The fox? "),
        ("thought", -1, "It runs."),
        ("response", -1, "The fox. "),
        ("response", -1, "It is fast."),
    ]
    count = len(run.exploration.response_ids)
    own = floats(sent["own"]).reshape(count, count)
    assert np.array_equal(own, run.exploration.own_scores["average"])
    assert not np.triu(own).any()
    assert [part["role"] for part in sent["parts"] if part["kind"] == "history"] == [
        "User, turn 1",
        "Assistant, turn 1",
    ]


def test_a_thought_and_its_markers_are_told_from_the_answer():
    run = given()
    sent = payload(opened(run=run.id))
    said = [sent["response"][a:b] for a, b in sent["sentences"]]
    assert list(zip(sent["sentence_kinds"], said, strict=True)) == [
        ("m", "<think>\n"),
        ("t", "The fox? "),
        ("t", "It runs."),
        ("m", "\n</think>\n\n"),
        ("a", "The fox. "),
        ("a", "It is fast."),
    ]
    assert attributed(run, sent) == ["The fox. It is fast."]
    assert sent["whole_name"] == "the whole answer"
    assert sent["thought_closed"]


def test_all_answers_of_a_response_are_attributed_and_no_marker():
    run = given(response=TWICE)
    at = opened(run=run.id)
    sent = payload(at)
    assert sent["sentence_kinds"] == "mtmamtma"
    assert attributed(run, sent) == ["The fox.", "It is fast."]
    assert sent["whole_name"] == "the whole answer"
    assert "sentence sources for the whole answer" in texts(at)
    assert "what the answer came from" in texts(at)


def test_a_thought_that_was_cut_off_is_all_thought():
    run = given(response="<think>\nThe fox? It")
    at = opened(run=run.id)
    sent = payload(at)
    assert sent["sentence_kinds"] == "mtt"
    assert not sent["thought_closed"]
    assert attributed(run, sent) == ["The fox? It"]
    assert sent["whole_name"] == "the thought"
    assert "sentence sources for the thought" in texts(at)
    assert "what the thought came from" in texts(at)


def test_a_thought_that_closed_before_any_answer_was_not_cut_off():
    run = given(response="<think>The fox?</think>")
    at = opened(run=run.id)
    assert payload(at)["thought_closed"]
    assert "cut off" not in texts(at)


def test_a_response_without_a_thought_is_all_answer():
    sent = payload(opened(run=given(response="The fox. It is fast.").id))
    assert sent["sentence_kinds"] == "aa"
    assert sent["whole"] == [[0, sent["counts"][1] - 1]]
    assert sent["whole_name"] == "the whole response"


def attributed(run, sent: dict) -> list[str]:
    """The texts of what is attributed where nothing is picked."""
    offsets = run.exploration.response_offsets
    return [sent["response"][offsets[first][0] : offsets[last][1]].strip() for first, last in sent["whole"]]


@pytest.mark.parametrize("response", [RESPONSE, TWICE, "<think>Hm."])
def test_heads_and_compare_attribute_the_same_rows_as_explore(response):
    run = given(response=response)
    explored = payload(opened(run=run.id))
    name, exploration = explored["whole_name"], run.exploration
    rows = [t for first, last in explored["whole"] for t in range(first, last + 1)]
    lm = session.engine().lm
    features = at2.head_features(lm, explorations.generation(exploration), "sentence")
    expected = features[:, :, rows].mean(axis=2)
    found = head_reading.source_attention(exploration.id, exploration.target, exploration, lm)
    assert np.allclose(found, expected, atol=1e-6)
    assert head_reading.span_name(exploration, None) == name
    spans = [head_reading.span_text(exploration, span) for span in head_reading.sentence_spans(exploration)]
    assert not [text for text in spans if "think>" in text]
    columns = compare_view._payload(exploration, "sentence", [])
    assert (columns["whole"], columns["whole_name"]) == (explored["whole"], name)
    state = compare_state.State(methods=("average", "bm25"))
    assert compare_tables.target_words(exploration, state) == name


def test_markers_that_a_person_gives_hold_on_the_other_pages_too():
    run = given(response="[The fox? It runs.] The fox.")
    for page in ("pages/heads.py", "pages/compare.py"):
        at = opened(run=run.id, opens="[", closes="]")
        ran(at.switch_page(page).run())
        assert at.query_params["opens"] == "["
        said = [sent for c in at.get("bidi_component") if "whole_name" in (sent := json.loads(c.proto.json))]
        assert {sent["whole_name"] for sent in said} <= {"the whole answer"}
        if page == "pages/compare.py":
            assert len(said) == 1
        else:
            names = next(box.options for box in at.selectbox if box.key == "heads-pin")
            assert names[0] == "The whole answer"


# ------------------------------------------------------------------------------------------------- the address


@pytest.mark.parametrize("scope", SCOPES)
def test_a_scope_in_the_address_is_kept(scope):
    at = opened(run=given().id, scope=scope)
    assert payload(at)["initial"]["scope"] == scope
    assert at.query_params.get("scope", "context") == scope


def test_a_scope_that_makes_no_sense_is_the_context():
    run = given(response="The fox.")
    for asked in ("<script>", "thought"):  # there is no thought here
        at = opened(run=run.id, scope=asked)
        assert payload(at)["initial"]["scope"] == "context"
        assert "scope" not in at.query_params


def test_a_source_in_the_response_can_be_kept_in_the_address():
    run = given()
    n = run.exploration.prompt.n
    at = opened(run=run.id, scope="all", source=f"{n + 3}-{n + 4}")
    assert payload(at)["initial"]["source"] == [n + 3, n + 4]


def test_what_the_browser_switches_to_comes_into_the_address():
    run = given()
    at = opened(run=run.id)
    at.session_state[f"explore-{run.exploration.id}"] = {"view": {"scope": "thought"}}
    ran(at.run())
    assert at.query_params["scope"] == "thought"


# -------------------------------------------------------------------------------------------------- own markers


def test_markers_that_a_person_gives_cut_at_once_and_stand_in_the_address():
    run = given(response="[The fox? It runs.] The fox.")
    at = opened(run=run.id)
    assert "no thought between" in texts(at)
    at.text_input(key=f"marker-opens-{run.exploration.id}-0").set_value("[")
    at.text_input(key=f"marker-closes-{run.exploration.id}-0").set_value("]")
    ran(at.run())
    assert payload(at)["sentence_kinds"] == "mttma"
    assert (at.query_params["opens"], at.query_params["closes"]) == ("[", "]")
    again = opened(run=run.id, opens="[", closes="]", scope="thought")  # a reload
    assert payload(again)["sentence_kinds"] == "mttma"
    assert payload(again)["initial"]["scope"] == "thought"
    assert "thinks for" in texts(again)
    ran(again.button(key="markers-usual").click().run())
    assert payload(again)["sentence_kinds"] == "a"
    assert "opens" not in again.query_params


def test_half_a_pair_of_markers_is_said_so_and_the_text_stays():
    run = given(response="[Hm.] The fox.")
    at = opened(run=run.id, opens="[", closes=" ")
    assert "marker on both sides" in texts(at)
    assert payload(at)["response"] == "[Hm.] The fox."


def test_the_kinds_of_sentences_are_those_of_any_markers():
    made = given(response="a[b]c").exploration
    assert sentence_kinds(explorations.with_markers(made, ("[", "]"))) == "amtma"


# ------------------------------------------------------------------------------------- scores that are not there yet


def test_scores_of_the_response_that_a_file_lacks_are_read_when_they_are_asked_for():
    run = given()
    own = run.exploration.own_scores["average"]
    run.exploration = replace(run.exploration, own_scores={})
    assert payload(opened(run=run.id))["own"] == ""
    sent = payload(opened(run=run.id, scope="all"))
    assert np.allclose(floats(sent["own"]), own.ravel(), atol=1e-6)


def test_an_example_of_another_model_says_why_it_has_none():
    given()  # so that the model is there
    at = opened(example="lighthouse", scope="all")
    assert payload(at)["response"]
    if not explorations.load_example("lighthouse").own_scores:
        assert payload(at)["own"] == ""
        assert "smollm2" in texts(at)


def test_a_chosen_estimator_brings_scores_of_the_response_along():
    run = given()
    lm = session.engine().lm
    theta = np.random.default_rng(0).normal(size=(lm.num_layers, lm.num_heads)).astype(np.float32)
    est = at2.Estimator(theta, "mine", lm.name, lm.fingerprint)
    of_prompt, own = estimator_scores._scores(run.exploration, est)
    expected = all_token_scores(lm, explorations.generation(run.exploration), est)
    assert np.allclose(np.hstack([of_prompt, own]), expected, atol=1e-6)


# --------------------------------------------------------------------------------------------- files and Verify


@pytest.fixture(scope="module")
def made(tiny_lm):
    gen = at2.replay(tiny_lm, TASK, RESPONSE)
    return gen, explore(tiny_lm, gen, None)


@pytest.mark.parametrize("scope", SCOPES)
def test_files_hold_the_engines_scores_of_the_scope(tiny_lm, made, scope):
    gen, exploration = made
    view = ViewState(scope=scope)
    ((first, last),) = exploration.target
    start, end = gen.response_offsets[first][0], gen.response_offsets[last][1]
    att = at2.attribute(tiny_lm, gen, at2.uniform_estimator(tiny_lm), "sentence", scope)
    scores, own = exploration.scores["average"], exploration.own_scores["average"]
    assert (
        np.abs(export.target_scores(exploration, scores, view, own) - att.for_span(start, end)).max() < 1e-5
    )
    table = list(
        csv.DictReader(io.StringIO(export.ranked_table(exploration, scores, view, "average", None, own)[1:]))
    )
    assert {row["role"] for row in table} == {s.role for s in att.sources}
    assert {row["scope"] for row in table} == {scope}
    whole = json.loads(export.everything(exploration, scores, view, "average", None, own))
    assert np.abs(np.array(whole["scores"]) - att.scores).max() < 1e-5
    both = whole["prompt"] + whole["response"]
    assert [both[s["start"] : s["end"]] for s in whole["sources"]] == [s.text for s in att.sources]
    assert all(s["document"] is None for s in whole["sources"] if s["role"] not in ("context", "title"))


def test_files_and_verify_are_of_all_answers(tiny_lm):
    exploration = explore(tiny_lm, at2.replay(tiny_lm, TASK, TWICE), None)
    scores, own, view = (
        exploration.scores["average"],
        exploration.own_scores["average"],
        ViewState(scope="all"),
    )
    rows, n = exploration.rows(), exploration.prompt.n
    assert len(exploration.target) == 2
    mean = np.hstack([scores, own])[rows].mean(axis=0)
    expected = [
        # No answer is a source of the answers; what was thought between them is one of the second.
        0 if source.role == "response" else mean[source.token_start : source.token_end].sum()
        for source in exploration.sources_in("sentence", "all")
    ]
    assert np.abs(export.target_scores(exploration, scores, view, own) - expected).max() < 1e-5
    between = [s for s in exploration.sources_in("sentence", "all") if s.role == "thought"][-1]
    assert between.token_start - n > rows[0]
    assert expected[exploration.sources_in("sentence", "all").index(between)] > 0
    (a, b), (c, d) = exploration.target
    whole = json.loads(export.everything(exploration, scores, view, "average", None, own))["target"]
    assert whole["runs"] == [{"first_token": a, "last_token": b}, {"first_token": c, "last_token": d}]
    (row, *_) = csv.DictReader(io.StringIO(export.ranked_table(exploration, scores, view)[1:]))
    assert row["target_tokens"] == f"{a} to {b}, {c} to {d}"
    subject = verify.subject_of(exploration, view, "average", None)
    assert subject.target.tolist() == rows.tolist()
    assert not verify.is_pinned(exploration, subject)


def test_what_is_verified_may_be_several_runs(tiny_lm):
    exploration = explore(tiny_lm, at2.replay(tiny_lm, TASK, TWICE), None)
    gen, sources = explorations.generation(exploration), exploration.sources_in("sentence", "context")
    scores = np.arange(len(sources), 0, -1.0)
    found = verification.remove_top(tiny_lm, gen, sources, scores, exploration.rows(), 1)
    keep = np.ones((2, len(sources)), bool)
    keep[1, 0] = False
    log_probs = at2.ablate(tiny_lm, gen, sources, keep)[:, exploration.rows()].astype(float)
    whole, without = -np.log1p(np.exp(-log_probs)).sum(axis=1)
    assert found.top.drop == pytest.approx(whole - without, abs=1e-4)


# ------------------------------------------------------------------------------------------ parts of a whole prompt


def test_marked_parts_of_a_whole_prompt_are_called_as_where_they_were_marked(tiny_lm):
    text = "Read. The fox runs. The dog sleeps. Who?"
    marks = [(6, 19), (20, 35)]
    exploration = explore(
        tiny_lm, at2.replay(tiny_lm, at2.ContextTask(prompt=text, marked=marks), "The dog."), None
    )
    sent = token_heatmap.payload(exploration, exploration.scores["average"], None, {})
    assert (sent["titles"], sent["numbered"]) == (["Source 1", "Source 2"], True)
    assert compare_view._payload(exploration, "sentence", [])["titles"] == ["Source 1", "Source 2"]
    assert head_reading.source_name(exploration, 1).startswith("Source 2: ")
    subject = verify.subject_of(exploration, ViewState(), "average", None)
    assert verify_picture._name(exploration, subject, 1) == "Source 2"


def test_documents_keep_their_titles(made):
    _, exploration = made
    sent = token_heatmap.payload(exploration, exploration.scores["average"], None, {})
    assert (sent["titles"], sent["numbered"]) == (["Animals", "Cities"], False)
    assert token_heatmap.document_name(TASK, 1) == "Doc 2 · Cities"
    assert token_heatmap.document_name(at2.ContextTask("c", "q"), 0) == ""


def test_verify_takes_away_sources_of_the_prompt_alone(made):
    _, exploration = made
    asked = {
        scope: verify.subject_of(exploration, ViewState(scope=scope), "average", None) for scope in SCOPES
    }
    assert asked["context"].scope == "context"
    assert asked["prompt"] == asked["all"]
    assert asked["all"].scope == "prompt"
    assert asked["all"].runs == exploration.target


def test_verify_says_what_it_leaves_out():
    run = given()
    at = opened(run=run.id, scope="all")
    assert "left out of this" in texts(at)
    sent = [json.loads(c.proto.json) for c in at.get("bidi_component")][1]
    assert sent["removal"]["removed"]["items"]
    ran(at.button(key="verify-remove").click().run())
    for _ in range(300):
        if not any(job.active for job in verify.jobs().all()):
            break
        time.sleep(0.1)
    (job,) = verify.jobs().all()
    assert job.state == "done", job.error
    assert job.verified is not None
    at = opened(run=run.id, scope="thought")
    assert "attribute to the context or the prompt" in texts(at)
