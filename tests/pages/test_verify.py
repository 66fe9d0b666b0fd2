"""Verify on the Explore page: nothing without a press, results only where they belong, and words that say what was found."""

from __future__ import annotations

import json
import math
import subprocess
import sys
import threading
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import streamlit as st
from hypothesis import given
from hypothesis import strategies as some
from scipy import stats
from streamlit.testing.v1 import AppTest

import at2_core as at2
from at2_core import exploration as explorations
from at2_core import models
from at2_core.verification import Check, Removal, Verified, judged
from pages.ui import export, jobs, session, verify_jobs, verify_picture, verify_words
from pages.ui.token_heatmap import ViewState
from pages.ui.verify import _state, subject_of
from pages.ui.verify_jobs import Job, Subject
from pages.ui.verify_words import BEYOND, GONE, NEW, SAME
from tests.pages.driving import until

APP = Path(__file__).parents[2] / "app.py"
HOSTILE = "<script>top.pwned=1</script> ![i](http://evil.example/i.png) :red[x] $y$"
TASK = at2.ContextTask(
    context="The fox runs away. The dog sleeps in the sun. Paris is far. Berlin is near. It is 1969.",
    query="What does the dog do?",
)
TOKENS = 16


@pytest.fixture(autouse=True)
def server(tiny_folder, monkeypatch):
    """A fresh server whose model is the tiny one."""
    monkeypatch.setattr(models, "load_model", partial(models.load_model, device="cpu", dtype="float32"))
    monkeypatch.setattr(session, "MODEL", str(tiny_folder("llama")))
    monkeypatch.setattr(session, "HEAD_START", 0)
    st.cache_resource.clear()
    yield
    for job in verify_jobs.jobs().all():
        job.cancel.set()
    until(lambda: session.engine().status != "loading")  # loading changes torch's default dtype for everybody
    st.cache_resource.clear()


@pytest.fixture
def run() -> jobs.Run:
    """A finished generation of the tiny model, on the server."""
    return finished_run()


def finished_run(task: at2.ContextTask = TASK, **settings) -> jobs.Run:
    engine = session.engine()
    engine.start()
    engine.wait()
    begun = session.runs().start(engine, task, jobs.Settings(max_new_tokens=TOKENS, **settings))
    until(lambda: not begun.active)
    assert begun.state == "done", begun.error
    return begun


def opened(run: jobs.Run, **address: str) -> AppTest:
    at = AppTest.from_file(str(APP), default_timeout=60)
    for key, value in {"run": run.id, **address}.items():
        at.query_params[key] = value
    return ran(at.run())


def ran(at: AppTest) -> AppTest:
    assert not at.exception, at.exception
    return at


def press(at: AppTest, key: str) -> AppTest:
    return ran(at.button(key=key).click().run())


def ended(at: AppTest) -> AppTest:
    until(lambda: not any(job.active for job in verify_jobs.jobs().all()))
    return ran(at.run())


def board(at: AppTest) -> dict:
    """What the section's one component is sent, parsed as the browser would."""
    return next(sent for e in at.get("bidi_component") if "lines" in (sent := json.loads(e.proto.json)))


def picture(at: AppTest, name: str) -> dict | None:
    return board(at)[name]


def texts(at: AppTest) -> str:
    """What is said as text, the component's lines included."""
    sent = [json.loads(e.proto.json) for e in at.get("bidi_component")]
    lines = [line["text"] for data in sent for line in data.get("lines", [])]
    return "\n".join([*(text.value for text in at.text), *lines])


def values_of(run: jobs.Run, pin: tuple[int, int] | None = None, granularity: str = "sentence") -> np.ndarray:
    """The second computation: rows of the source-summed scores, then their mean."""
    exploration = run.exploration
    scores, sources = exploration.scores["average"], exploration.sources[granularity]
    rows = np.stack([scores[:, s.token_start : s.token_end].sum(axis=1) for s in sources], axis=1)
    first, last = pin or (0, len(scores) - 1)
    return rows[first : last + 1].mean(axis=0)


def stop(at: AppTest, name: str) -> AppTest:
    """The component's button: its trigger, sent as the browser sends it."""
    component = next(e for e in at.get("bidi_component") if "lines" in json.loads(e.proto.json))
    states = at._tree.get_widget_states()
    widget = states.widgets.add()
    widget.id = f"$$STREAMLIT_INTERNAL_KEY_{component.proto.id}__events"
    widget.json_trigger_value = json.dumps([{"event": "stop", "value": name}])
    return ran(at._run(states))


def words(answer: dict) -> str:
    return "".join(text for text, _, _ in answer["words"])


# ---------------------------------------------------------------------------------------------------- pressing it


def test_nothing_is_measured_without_a_press_and_the_page_says_what_would_be_removed(run):
    at = opened(run, remove="2")
    assert verify_jobs.jobs().all() == []
    shown = picture(at, "removal")
    assert shown["drop"] is None
    assert shown["answers"] is None
    assert "Press" in shown["hint"]
    top = np.argsort(-values_of(run))[:2]
    quoted = [item["text"] for item in shown["removed"]["items"]]
    assert quoted == [run.exploration.sources["sentence"][s].text.strip() for s in top]


def test_a_press_measures_what_is_shown_and_lets_the_model_answer_again(run):
    at = ended(press(opened(run, pin="2-5", remove="2"), "verify-remove"))
    shown, values = picture(at, "removal"), values_of(run, (2, 5))
    lm, exploration = session.engine().lm, run.exploration
    keep = np.ones(len(values), bool)
    keep[np.argsort(-values)[:2]] = False
    gen, sources = explorations.generation(exploration), exploration.sources["sentence"]
    both = at2.ablate(lm, gen, sources, np.stack([np.ones_like(keep), keep]), method="mask")[:, 2:6]
    log_p = -np.log1p(np.exp(-both.astype(float))).sum(axis=1)
    measured, random = shown["drop"]["bars"]
    assert measured["value"] == pytest.approx(log_p[0] - log_p[1], abs=1e-3)
    assert measured["text"] == verify_words.nats(measured["value"])
    assert len(random["draws"]) == min(5, math.comb(len(values) - 2, 2)), "others, each time different ones"
    assert random["value"] == pytest.approx(np.mean(random["draws"]))
    assert shown["drop"]["headline"].startswith("Without these 2 sentences the pinned words are ")
    share = np.abs(values[~keep]).sum() / np.abs(values).sum()
    assert shown["removed"]["note"] == f"{100 * share:.1f} % of the attribution"
    assert words(shown["answers"]["before"]) == exploration.text
    job = verify_jobs.jobs().all()[0]
    assert words(shown["answers"]["after"]) == job.after
    assert not shown["answers"]["after"]["streaming"]
    cut = (
        f"Stopped at {TOKENS} tokens." if job.after_cut else ""
    )  # as long as the response, which was cut too
    assert (shown["answers"]["before"]["note"], shown["answers"]["after"]["note"]) == (
        f"Stopped at {TOKENS} tokens.",
        cut,
    )
    pinned = "".join(text for text, _, is_pinned in shown["answers"]["before"]["words"] if is_pinned)
    first, last = exploration.response_offsets[2][0], exploration.response_offsets[5][1]
    assert exploration.text[first:last].strip() in pinned


def test_a_check_says_its_correlation_and_gives_the_prediction_its_unit(run):
    at = ended(press(press(opened(run), "verify-check"), "verify-remove"))
    shown, job = (
        picture(at, "check"),
        verify_jobs.jobs().get(Subject(run.exploration.id, ((0, TOKENS - 1),), "sentence", "average"), 0),
    )
    points = np.array(shown["points"])
    assert points.shape == (32, 2)
    correlation = stats.spearmanr(points[:, 0], points[:, 1]).statistic
    assert f"correlation {correlation:.2f}".replace("-", "−") in shown["headline"]
    assert any("repeat themselves" in sentence for sentence in shown["meaning"])  # five sentences
    values = values_of(run)
    bars = {bar["kind"]: bar for bar in picture(at, "removal")["drop"]["bars"]}
    assert bars["predicted"]["value"] == pytest.approx(job.check.nats_per_score * values.max(), rel=1e-4)


def test_results_are_shown_only_for_what_they_were_measured_for(run):
    at = ended(press(press(opened(run, pin="2-5"), "verify-check"), "verify-remove"))
    assert picture(at, "removal")["drop"]
    assert picture(at, "check")
    for other in ({"pin": "2-6"}, {"pin": "none"}, {"pin": "2-5", "granularity": "word"}):
        elsewhere = opened(run, **other)
        assert picture(elsewhere, "removal")["drop"] is None
        assert picture(elsewhere, "check") is None
    more = opened(run, pin="2-5", remove="3")  # the check is of the scores, however many sources go
    assert picture(more, "removal")["drop"] is None
    assert picture(more, "check")
    head = opened(run, pin="2-5", method="head", layer="1", head="2")
    assert picture(head, "removal")["drop"] is None
    assert picture(head, "removal")["removed"]["note"].endswith("of the attention")
    again = opened(run, pin="2-5")  # a reload: another session with the same address
    assert picture(again, "removal") == picture(at, "removal")
    assert picture(again, "check") == picture(at, "check")


def test_the_number_is_in_the_address_and_stays_within_the_sources(run):
    at = opened(run)
    slider = at.slider(key="verify-k-sentence-4")
    assert (slider.min, slider.max) == (1, 4)  # five sentences
    ran(slider.set_value(3).run())
    assert at.query_params["remove"] == ["3"] or at.query_params["remove"] == "3"
    ran(at.slider(key="verify-k-sentence-4").set_value(1).run())
    assert "remove" not in at.query_params
    for nonsense in ("99", "9" * 5000, "²", "٣"):
        assert opened(run, remove=nonsense).slider(key="verify-k-sentence-4").value == 1
    words = opened(run, granularity="word", remove="5")
    assert words.slider(key="verify-k-word-5").value == 5


def test_a_single_source_is_told_and_nothing_is_offered(run):
    at = opened(run, granularity="document")
    assert "only one document" in texts(at)
    assert not [button for button in at.button if button.key and button.key.startswith("verify")]


# --------------------------------------------------------------------------------------- waiting, stopping, failing


def test_a_job_waits_its_turn_can_be_stopped_and_begun_again(run):
    engine = session.engine()
    with engine.hold():  # somebody else is generating
        at = opened(run)
        assert "The model is busy" in texts(at)
        at = press(at, "verify-remove")
        assert "yours is next" in texts(at)
        assert at.button(key="verify-remove").disabled
        assert "yours is next" in texts(opened(run))  # also after a reload
        at = ended(stop(at, "removal"))
    assert "stopped" in texts(at)
    assert picture(at, "removal")["drop"] is None
    at = ended(press(at, "verify-remove"))
    assert picture(at, "removal")["drop"]
    assert not engine.busy


def test_others_who_begin_something_do_not_have_the_page_drawn_again(run):
    subject = Subject(run.exploration.id, ((0, TOKENS - 1),), "sentence", "average")
    free = _state(subject, 1)
    with session.engine().hold():
        assert _state(subject, 1) == free


def test_a_job_that_works_already_is_not_begun_twice(run):
    engine, subject = session.engine(), Subject(run.exploration.id, ((0, TOKENS - 1),), "sentence", "average")
    with engine.hold():
        begun = [
            verify_jobs.jobs().start(engine, run.exploration, subject, 2, values_of(run)) for _ in range(2)
        ]
        assert begun[0] is begun[1]
        begun[0].cancel.set()
    until(lambda: not begun[0].active)


def test_the_registry_forgets_the_oldest_that_have_ended(run, monkeypatch):
    monkeypatch.setattr(verify_jobs, "MOST_JOBS", 3)
    monkeypatch.setattr(verify_jobs, "_work", lambda job, *_: setattr(job, "state", "done"))
    registry = verify_jobs.Jobs()
    subjects = [Subject(run.exploration.id, ((0, n),), "sentence", "average") for n in range(6)]
    for subject in subjects:
        job = registry.start(session.engine(), run.exploration, subject, 1, values_of(run))
        until(lambda job=job: not job.active)
    assert [job.subject for job in registry.all()] == subjects[-3:]


def test_an_answer_that_is_stopped_keeps_what_was_measured(run, monkeypatch):
    from at2_core import verification

    gate, real = threading.Event(), verification.answer_without

    def slow(*args, on_token, cancel, **more):
        def tell(text: str) -> None:
            on_token(text)
            gate.set()
            assert cancel.wait(30)

        return real(*args, on_token=tell, cancel=cancel, **more)

    monkeypatch.setattr(verification, "answer_without", slow)
    at = press(opened(run), "verify-remove")
    assert gate.wait(30)
    streamed = picture(ran(at.run()), "removal")
    assert streamed["drop"]
    assert streamed["answers"]["after"]["streaming"]
    assert not any(kind == GONE for _, kind, _ in streamed["answers"]["before"]["words"])  # not reached yet
    assert "Answering without this sentence: 1 of at most 16 tokens" in texts(at)
    stopped = picture(ended(stop(at, "removal")), "removal")
    assert stopped["drop"] == streamed["drop"]
    assert "Stopped" in stopped["answers"]["headline"]


def test_while_the_model_loads_the_buttons_wait_and_say_so(monkeypatch):
    engine = session.engine()
    engine.status, engine.message = "loading", "Loading the model"
    at = ran(AppTest.from_file(str(APP), default_timeout=60).run())
    assert at.button(key="verify-remove").disabled
    assert at.button(key="verify-check").disabled
    assert "Verifying needs the model. Loading the model…" in texts(at)
    engine.status, engine.message = "failed", "There is no such model."
    assert "Verifying needs the model. There is no such model." in texts(ran(at.run()))
    engine.status = "idle"


def test_an_exploration_of_another_model_is_refused_in_the_known_words(run):
    at = AppTest.from_file(str(APP), default_timeout=60)
    example = session.example_ids()[0]
    at.query_params["example"] = example
    said = texts(ran(at.run()))
    made_with = explorations.load_example(example).model
    assert f"This was made with {made_with}; {session.engine().lm.name} is loaded now." in said
    assert f"Verifying asks the model that made this, {made_with}." in said
    assert not [button for button in at.button if button.key == "verify-remove"]


def test_a_failure_is_told_and_can_be_tried_again(run, monkeypatch):
    from at2_core import verification

    monkeypatch.setattr(verification, "check", lambda *_, **__: 1 / 0)
    at = ended(press(opened(run), "verify-check"))
    assert "ZeroDivisionError" in texts(at)
    assert not at.button(key="verify-check").disabled
    monkeypatch.undo()


def test_a_given_response_is_compared_with_what_the_model_says_itself():
    at = opened(finished_run(response="  The dog\n\nsleeps. "), pin="0-1")
    shown = picture(ended(press(at, "verify-remove")), "removal")["answers"]
    job = verify_jobs.jobs().all()[0]
    assert shown["before"]["title"] == "What the model says with all sources"
    assert words(shown["before"]) == job.before
    assert "given or sampled" in shown["note"]
    likeliest = at2.generate(session.engine().lm, TASK, max_new_tokens=job.max_tokens).text
    assert job.before == likeliest


def test_hostile_text_is_sent_as_data_and_never_as_markdown():
    task = at2.ContextTask(
        documents=[at2.Document(HOSTILE, f"{HOSTILE}. The dog sleeps.")] * 2, query="What?"
    )
    at = ended(press(opened(finished_run(task, response=HOSTILE)), "verify-remove"))
    shown = picture(at, "removal")
    assert "<script>" in shown["removed"]["items"][0]["name"]
    for kind in ("markdown", "html", "info", "error", "warning", "success", "caption"):
        assert not any("pwned" in str(element.proto) for element in at.get(kind))


# ---------------------------------------------------------------------------------------------- what is verified


def test_scores_of_other_estimators_and_heads_are_other_subjects(run):
    view = ViewState(pin=(1, 2), granularity="word")
    made = replace(run.exploration, estimator_fingerprint="aaaaaaaaaaaa")
    other = replace(made, estimator_fingerprint="bbbbbbbbbbbb")
    subjects = [subject_of(e, view, "at2", None) for e in (made, other)]
    subjects += [subject_of(made, view, "former", None), subject_of(made, view, "average", None)]
    subjects += [subject_of(made, view, "head", head) for head in ((0, 1), (1, 0))]
    assert len(set(subjects)) == len(subjects)
    assert subject_of(made, view, "average", None) == subject_of(other, view, "average", None)
    assert (subjects[0].runs, subjects[0].target.tolist()) == (((1, 2),), [1, 2])


def test_the_answer_may_be_half_as_long_again_but_never_longer_than_the_model_takes(run):
    made = replace(run.exploration, stop_reason="end")
    assert verify_jobs.answer_tokens(made, 512) == 32
    assert verify_jobs.answer_tokens(replace(made, response_ids=(5,) * 100), 512) == 150
    assert verify_jobs.answer_tokens(replace(made, response_ids=(5,) * 100, stop_reason="length"), 512) == 100
    assert verify_jobs.answer_tokens(made, made.prompt.n + 20) == 20


# ------------------------------------------------------------------------------------------------------ in words


@pytest.mark.parametrize(
    ("drop", "said"),
    [
        (math.log(340), "1/340 as likely"),
        (math.log(340_000), "1/340,000 as likely"),
        (1.0, "1/2.7 as likely"),
        (0.3, "74 % as likely"),
        (0.01, "about as likely as before"),
        (-0.5, "even more likely: 1.6 times as likely"),
        (60.0, "less than a millionth as likely"),
        (-60.0, "even more likely: more than a million times as likely"),
        (math.inf, "of a likelihood that cannot be told"),
    ],
)
def test_a_drop_in_nats_is_a_sentence(drop, said):
    assert verify_words.as_likely(drop) == f"the pinned words are {said}"


def changes(before: str, after: str, **more) -> tuple[list[tuple[str, str]], list[tuple[str, str]]]:
    return tuple(
        [(w.text.strip(), w.kind) for w in found]
        for found in verify_words.word_changes(before, after, **more)
    )


def test_what_changed_is_marked_word_by_word():
    before, after = changes("The keeper was Agnes Thorne.", "The keeper was James Fletcher, a captain.")
    assert [w for w, kind in before if kind == GONE] == ["Agnes", "Thorne."]
    assert [w for w, kind in after if kind == NEW] == ["James", "Fletcher,", "a", "captain."]
    assert {kind for w, kind in (*before, *after) if w in ("The", "keeper", "was")} == {SAME}


def test_a_comma_is_no_change_and_words_between_changes_do_not_flicker():
    before, after = changes("It has 5 visitors per week.", "It has 7 visitors per week, or so.")
    assert [w for w, kind in after if kind == NEW] == ["7", "or", "so."]
    assert [w for w, kind in before if kind == GONE] == ["5"]
    _, after = changes("one two three the four five six", "uno dos tres the quattro cinque sei")
    assert {kind for _, kind in after} == {NEW}


def test_what_lies_beyond_a_cut_is_no_change():
    before, after = changes("The dog sleeps in the", "The dog sleeps in the sun and dreams.", before_cut=True)
    assert {kind for _, kind in after[5:]} == {BEYOND}
    before, after = changes("The dog sleeps in the sun.", "The dog", after_cut=True)
    assert {kind for _, kind in before[2:]} == {BEYOND}
    assert {kind for _, kind in changes("The dog sleeps.", "The dog")[0][2:]} == {GONE}  # it ended there


def test_an_answer_that_went_elsewhere_before_it_was_cut_has_lost_what_it_left_out():
    texts = (
        "It sells flour, and the smokehouse sells eel.",
        "It sells flour, which is the main ingredient of bread",
    )
    before, after = changes(*texts, after_cut=True)
    assert {kind for _, kind in before[3:]} == {GONE}
    assert {kind for _, kind in after[3:]} == {NEW}
    before, _ = changes(*texts, after_cut=True, growing=True)  # it may still come to that
    assert {kind for _, kind in before[3:]} == {BEYOND}
    pinned = verify_words.word_changes(*texts, pin=(16, 45), after_cut=True)
    assert verify_words.verdict(*pinned, "it") == "Without it the pinned words are gone from the answer."
    pinned = verify_words.word_changes(texts[0], "It sells", pin=(16, 45), after_cut=True)
    assert "was stopped before it came to the pinned words" in verify_words.verdict(*pinned, "it")


@given(some.text(), some.text(), some.booleans())
def test_the_words_of_both_answers_tile_them_and_the_same_answer_is_the_same(before, after, cut):
    old, new = verify_words.word_changes(before, after, after_cut=cut)
    assert "".join(w.text for w in old) == before
    assert "".join(w.text for w in new) == after
    assert {w.kind for words in verify_words.word_changes(before, before) for w in words} <= {SAME}


@pytest.mark.parametrize(
    ("after", "said"),
    [
        ("The Old Town branch has 31,600 visitors per week.", "the answer stays the same, word for word."),
        ("The Old Town branch has 20,950 visitors per week.", "the pinned words are gone from the answer."),
        ("There are 31,600 visitors.", "the answer changes, but the pinned words stay."),
        ("", "the model ends its answer at once."),
    ],
)
def test_the_verdict_is_about_what_was_pinned(after, said):
    before = "The Old Town branch has 31,600 visitors per week."
    at = before.index("31,600")
    found = verify_words.word_changes(before, after, pin=(at, at + 6))
    assert verify_words.verdict(*found, "this word") == f"Without this word {said}"


def test_without_a_pin_the_verdict_counts():
    found = verify_words.word_changes("A fox runs.", "A dog runs.")
    assert (
        verify_words.verdict(*found, "this word")
        == "Without this word the answer changes: 1 of its 3 words is new."
    )
    found = verify_words.word_changes("A fox runs and sleeps.", "A fox runs.")
    assert verify_words.verdict(*found, "this word") == "Without this word the answer loses 2 of its 5 words."


def meaning(lds: float, **more) -> str:
    usual = {
        "chance": 0.0, "chance_high": 0.3, "ablations": 32, "different": 32, "sources": 20,
        "granularity": "sentence", "constant": "scores",
    }  # fmt: skip
    return " ".join(verify_words.check_meaning(lds, **usual | more))


def test_a_correlation_is_held_against_what_the_same_scores_reach_by_chance():
    assert "can be trusted here" in meaning(0.81)
    assert "for a hint" in meaning(0.45)
    assert "do not trust the colours here" in meaning(0.1)
    assert "do not trust the colours here" in meaning(-0.5)
    positive = meaning(0.69, chance=0.69, chance_high=0.82)  # random, but all positive
    assert "shuffled over the sources, reach 0.69 on average" in positive
    assert "0.82 or more" in positive
    assert "do not trust the colours here" in positive
    assert verify_words.check_headline(0.814).endswith("with correlation 0.81.")


def test_random_scores_that_predict_only_since_every_source_helps_are_not_trusted():
    rng = np.random.default_rng(0)
    keep = rng.random((32, 12)) < 0.5
    outcomes = keep.sum(axis=1)[:, None] + 0.1 * rng.standard_normal(
        (32, 1)
    )  # how many stay is all that counts
    found = judged(rng.random(12), keep, outcomes)
    assert found.lds > 0.6
    said = meaning(found.lds, chance=found.chance, chance_high=found.chance_high)
    assert "trusted here" not in said


def test_what_cannot_be_told_says_why():
    assert "all alike" in meaning(math.nan)
    assert "stay equally likely" in meaning(math.nan, constant="outcomes")
    assert "no correlation" in verify_words.check_headline(math.nan)
    few = meaning(0.9, sources=3, different=8)
    assert "With only 3 sentences the 32 ablations repeat themselves: 8 differ" in few
    assert "trust" not in few
    assert "repeat" not in meaning(0.9)


def test_the_interval_is_fishers_and_holds_the_correlation():
    low, high = verify_words.interval(0.81, 32)
    centre, spread = math.atanh(0.81), 1.96 * math.sqrt(1.06 / 29)
    assert (low, high) == pytest.approx((math.tanh(centre - spread), math.tanh(centre + spread)))
    assert -1 <= verify_words.interval(1.0, 32)[0] <= verify_words.interval(1.0, 32)[1] <= 1


def test_random_draws_that_took_the_same_sources_are_told(run):
    subject = Subject(run.exploration.id, ((0, TOKENS - 1),), "sentence", "average")
    draws = (Removal((0,), 0.2, 1.0), Removal((1,), 0.1, -0.5))
    job = Job(subject, 1, state="done", verified=Verified(Removal((0,), 0.5, 2.0), draws))
    job.after = run.exploration.text
    checked = Job(subject, 0, state="done", check=Check(0.5, np.arange(3.0), np.arange(3.0), 10.0))
    drop = verify_picture._drop(run.exploration, subject, np.array([0.3, 0.1]), job, checked)
    assert "1 of the 2 random draws (circles) took it too" in drop["note"]
    assert [bar["kind"] for bar in drop["bars"]] == ["measured", "predicted", "random"]
    assert drop["bars"][1]["value"] == pytest.approx(3.0)
    assert drop["bars"][2]["text"] == "0.25 nats (−0.50 to 1.00)"


def test_target_scores_are_means_of_source_sums(run):
    scores, view = run.exploration.scores["average"], ViewState(pin=(2, 5))
    assert export.target_scores(run.exploration, scores, view) == pytest.approx(
        values_of(run, (2, 5)), rel=1e-5
    )


def test_nothing_heavy_is_imported_with_the_section():
    code = "import sys, pages.ui.verify; assert not {'torch', 'transformers', 'scipy'} & set(sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], cwd=APP.parent, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
