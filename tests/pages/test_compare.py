"""The Compare page, driven as a browser would: its columns hold what the engine says, and the address is its state."""

from __future__ import annotations

import base64
import json
import math
import time
from contextlib import nullcontext
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import streamlit as st
from scipy import stats
from streamlit.testing.v1 import AppTest

import at2_core as at2
from at2_core import baselines, models
from at2_core.catalogue import Entry
from at2_core.errors import Cancelled, ModelNotAvailable
from at2_core.estimator import Estimator, save_estimator
from at2_core.generation import response_targets
from at2_core.verification import check
from pages.ui import compare_methods, compare_quality, compare_state, session
from pages.ui.compare_board import CHUNK, Ablations, Board, Job, Outcomes, Result, board, marks
from pages.ui.compare_methods import WORDS, Way, short_name
from pages.ui.compare_parts import Page
from pages.ui.compare_state import State
from pages.ui.jobs import Run, Settings

APP = Path(__file__).parents[2] / "app.py"
THETA = np.array([[0.1, -0.3, 0.05, 0.2], [0.0, 0.4, -0.15, 0.25]], np.float32)
HOSTILE = "<script>alert(1)</script> *x*"
DOCUMENTS = [
    at2.Document("Foxes", "The quick brown fox jumps. The dog sleeps in the sun. 🦊 It runs."),
    at2.Document(HOSTILE, "Paris is the capital of France. *Berlin* is not."),
]
RESPONSE = "The dog sleeps. Paris is far away."


@pytest.fixture
def estimator(tiny_lm, tmp_path):
    made = Estimator(THETA, "made for this test", tiny_lm.name, tiny_lm.fingerprint)
    save_estimator(made, tmp_path / "theta.safetensors")
    return made


@pytest.fixture
def other(tiny_lm, tmp_path, monkeypatch):
    """A second estimator of the same model, in the catalogue."""
    made = Estimator(THETA[::-1].copy(), f"AT2 {HOSTILE}", tiny_lm.name, tiny_lm.fingerprint)
    monkeypatch.setattr(
        compare_methods, "list_estimators", lambda: [Entry("own", tmp_path / "other.safetensors", made)]
    )
    return made


@pytest.fixture
def generation(tiny_lm):
    return at2.replay(tiny_lm, at2.ContextTask(documents=DOCUMENTS, query="What does the dog do?"), RESPONSE)


@pytest.fixture
def exploration(tiny_lm, generation, estimator, tiny_folder, tmp_path, monkeypatch):
    """An exploration by the tiny model, findable as ?run=test, on a server that has the tiny model and this estimator."""
    exact = partial(models.load_model, device="cpu", dtype="float32")
    monkeypatch.setattr(models, "load_model", exact)
    monkeypatch.setattr(session, "MODEL", str(tiny_folder("llama")))
    monkeypatch.setattr(session, "ESTIMATOR", str(tmp_path / "theta.safetensors"))
    monkeypatch.setattr(session, "HEAD_START", 0.0)
    monkeypatch.setenv("AT2_EVALUATIONS", str(tmp_path / "evaluations"))
    st.cache_resource.clear()
    st.cache_data.clear()
    made = at2.explore(tiny_lm, generation, estimator)
    session.runs()._runs["test"] = Run("test", generation.task, Settings(), state="done", exploration=made)
    yield made
    settle()
    st.cache_resource.clear()
    st.cache_data.clear()


def opened(**params: str) -> AppTest:
    session.engine().start()
    session.engine().wait()
    at = AppTest.from_file(str(APP), default_timeout=60)
    at.query_params["run"] = "test"
    at.run()
    for name, value in params.items():
        at.query_params[name] = value
    return settled(at.switch_page("pages/compare.py").run())


def settle() -> None:
    end = time.monotonic() + 60
    while any(job.active for job in board()._jobs.values()):
        assert time.monotonic() < end, "a job does not end"
        time.sleep(0.02)


def settled(at: AppTest) -> AppTest:
    """What the page shows once nothing runs any more."""
    settle()
    at.run()
    assert not at.exception
    return at


def sent(at: AppTest) -> dict:
    (component,) = [c for c in at.get("bidi_component") if "-compare-" in c.proto.id]
    return json.loads(component.proto.json)


def scores(at: AppTest, exploration) -> dict[str, np.ndarray | None]:
    """The matrices in the browser, by method."""
    payload, rows = sent(at), len(exploration.response_ids)
    return {
        c["key"]: None
        if c["scores"] is None
        else np.frombuffer(base64.b64decode(c["scores"]), "<f4").reshape(rows, len(payload["sources"]))
        for c in payload["columns"]
    }


def choose(at: AppTest, **view) -> AppTest:
    """What the component sends when something is chosen in it."""
    (component,) = [c for c in at.get("bidi_component") if "-compare-" in c.proto.id]
    states = at._tree.get_widget_states()
    widget = states.widgets.add()
    widget.id = component.proto.id
    widget.json_value = json.dumps({"view": {"pin": None, "unit": "sentence", "difference": None, **view}})
    at._run(states)
    assert not at.exception
    return at


def address(at: AppTest) -> dict[str, str]:
    one = {key: value[0] if isinstance(value, list) else value for key, value in at.query_params.items()}
    return {key: value for key, value in one.items() if key in compare_state.KEYS}


def said(at: AppTest) -> str:
    return "\n".join(text.value for text in at.text)


def tables(at: AppTest) -> list:
    return [frame.value for frame in at.dataframe]


# ------------------------------------------------------------------------------------------------- the columns


def test_it_opens_with_at2_average_attention_and_bm25_and_a_plain_address(
    exploration, tiny_lm, generation, estimator
):
    at = opened()
    shown = scores(at, exploration)
    assert list(shown) == ["at2", "average", "bm25"]
    assert address(at) == {}
    expected = at2.attribute(tiny_lm, generation, estimator, granularity="sentence").scores
    np.testing.assert_allclose(shown["at2"], expected, atol=1e-6)
    bm25 = baselines.matrix(
        baselines.find_method("bm25"), tiny_lm, generation, exploration.sources["sentence"]
    )
    np.testing.assert_allclose(shown["bm25"], bm25.scores, atol=1e-6)
    assert all(c["cost"].startswith("0 forward passes · ") for c in sent(at)["columns"])


def test_pieces_of_the_prompt_are_its_sources_and_whole_other_parts(exploration):
    payload = sent(opened(granularity="word"))
    units = payload["prompt"].encode("utf-16-le")
    pieces = np.frombuffer(base64.b64decode(payload["pieces"]), "<i4").reshape(-1, 2)
    texts = [units[2 * a : 2 * b].decode("utf-16-le") for a, b in pieces]
    sources = exploration.sources["word"]
    assert [texts[piece] for piece, _ in payload["sources"]] == [source.text for source in sources]
    assert any("🦊" in source.text for source in sources)  # a character that counts two in a browser
    assert [document for _, document in payload["sources"]] == [source.document for source in sources]
    assert {"What does the dog do?", "Foxes", HOSTILE} <= set(texts)


def test_a_costly_method_says_its_cost_and_waits_for_the_button(exploration, tiny_lm, generation):
    at = opened(methods="average,leave_one_out")
    sources = exploration.sources["sentence"]
    assert scores(at, exploration)["leave_one_out"] is None
    assert f"Leave one out: {len(sources) + 1} forward passes" in said(at)
    settled(at.button(key="compute-leave_one_out").click().run())
    logps = at2.log_prob(
        at2.ablate(
            tiny_lm, generation, sources, np.vstack([np.ones(len(sources)), 1 - np.eye(len(sources))])
        )[..., None]
    )
    shown = scores(at, exploration)["leave_one_out"]
    np.testing.assert_allclose(shown, (logps[0] - logps[1:]).T, atol=1e-4)
    assert "forward passes" not in "\n".join(
        line for line in said(at).splitlines() if line.startswith("Leave")
    )
    again = opened(methods="average,leave_one_out")  # a reload, or another person
    np.testing.assert_array_equal(scores(again, exploration)["leave_one_out"], shown)


def test_another_estimator_of_the_model_is_a_method_and_its_name_is_text(
    exploration, tiny_lm, generation, other
):
    key = f"theta-{other.fingerprint}"
    at = opened(methods=f"at2,{key}")
    shown = scores(at, exploration)
    expected = at2.attribute(tiny_lm, generation, other, granularity="sentence").scores
    np.testing.assert_allclose(shown[key], expected, atol=1e-6)
    assert np.abs(shown[key] - shown["at2"]).max() > 1e-3
    assert [c["name"] for c in sent(at)["columns"]] == ["AT2", f"AT2 {HOSTILE}"]
    assert not [m.value for m in at.markdown if "<script" in m.value]
    assert not [b.label for b in at.button if "<script" in b.label]


def test_estimators_of_the_same_name_are_told_apart_and_each_scores_by_its_own_theta(
    exploration, tiny_lm, generation, tmp_path, monkeypatch
):
    twins = [
        Estimator(theta, "AT2", tiny_lm.name, tiny_lm.fingerprint) for theta in (THETA[::-1].copy(), -THETA)
    ]
    entries = [Entry(str(n), tmp_path / f"{n}.safetensors", twin) for n, twin in enumerate(twins)]
    monkeypatch.setattr(compare_methods, "list_estimators", lambda: entries)
    keys = [f"theta-{twin.fingerprint}" for twin in twins]
    at = opened(methods=f"at2,{keys[1]}")
    for _ in range(2):  # what is drawn, and what comes back from the browser with the next run
        shown = scores(at, exploration)
        assert list(shown) == ["at2", keys[1]]
        expected = at2.attribute(tiny_lm, generation, twins[1], granularity="sentence").scores
        np.testing.assert_allclose(shown[keys[1]], expected, atol=1e-6)
        names = [c["name"] for c in sent(at)["columns"]]
        assert names[1] == f"AT2 · {twins[1].fingerprint}"
        assert names[0].startswith("AT2 · ")
        settled(at)
    settled(at.multiselect[0].set_value([keys[1], keys[0]]).run())
    assert address(at) == {"methods": f"{keys[1]},{keys[0]}"}
    assert len(set(at.multiselect[0].options)) == len(at.multiselect[0].options)


def test_a_name_that_looks_like_another_with_its_fingerprint_is_told_apart_too():
    made = [Estimator(theta, "mine", "m", "f") for theta in (THETA, -THETA, 2 * THETA)]
    names = ["mine", "mine", f"mine · {made[0].fingerprint}"]
    ways = {
        f"theta-{e.fingerprint}": Way(f"theta-{e.fingerprint}", n, "", e)
        for e, n in zip(made, names, strict=True)
    }
    assert len({way.name for way in compare_methods.told_apart(ways).values()}) == 3


def test_an_estimator_of_another_model_is_not_offered(exploration, tiny_lm, tmp_path, monkeypatch):
    foreign = Estimator(THETA, "foreign", "another-model", "0" * 12)
    monkeypatch.setattr(compare_methods, "list_estimators", lambda: [Entry("own", tmp_path / "x", foreign)])
    at = opened(methods=f"average,theta-{foreign.fingerprint}")
    assert list(scores(at, exploration)) == ["average"]
    assert "foreign" not in at.multiselect[0].options


def test_one_method_is_too_few_and_none_leaves_a_sentence(exploration):
    at = opened(methods="average,bm25")
    at.multiselect[0].set_value(["average"]).run()
    assert "Choose at least two methods" in said(at)
    at.multiselect[0].set_value([]).run()
    assert "Choose at least two methods" in said(at)
    assert not [c for c in at.get("bidi_component") if "-compare-" in c.proto.id]


# ------------------------------------------------------------------------------------------------- the figures


def test_agreement_is_of_the_pinned_span(exploration, tiny_lm, generation, estimator):
    at = opened(methods="at2,average", granularity="word")
    sources = exploration.sources["word"]
    sides = [
        at2.attribute(tiny_lm, generation, est, granularity="word").scores
        for est in (estimator, at2.uniform_estimator(tiny_lm))
    ]
    for pin in (None, [0, 1]):
        choose(at, pin=pin)
        rows = slice(pin[0], pin[1] + 1) if pin else slice(None)
        one, two = (side[rows].mean(axis=0) for side in sides)
        (table, _) = tables(at)
        assert table["Rank correlation"][0] == pytest.approx(stats.spearmanr(one, two).statistic, abs=2e-4)
        shared = set(np.argsort(-one)[:3]) & set(np.argsort(-two)[:3])
        assert table["Top 3 shared"][0] == f"{len(shared)} of 3"
        assert f"over {len(sources)} word sources" in said(at)
        assert ("For the whole response" in said(at)) == (pin is None)


def test_measuring_gives_each_methods_lds_for_the_pinned_span(exploration, tiny_lm, generation, estimator):
    at = opened(methods="at2,average", granularity="word", pin="0-2")
    assert "LDS here" not in tables(at)[1]
    settled(at.button(key="compare-measure-start").click().run())
    sources, rows = exploration.sources["word"], slice(0, 3)
    own = at2.attribute(tiny_lm, generation, estimator, granularity="word").scores
    expected = check(tiny_lm, generation, sources, own[rows].mean(axis=0), rows).lds
    assert tables(at)[1]["LDS here"][0].startswith(f"{expected:.2f} (".replace("-", "−"))
    assert "LDS: how well scores predict" in said(at)


def test_a_method_is_called_better_only_where_intervals_do_not_meet():
    told = partial(compare_quality.verdict, different=32)
    assert told([("a", 0.94, 0.3), ("b", 0.87, 0.3)]) == "a predicts best here; too close to tell apart: b."
    clear = [("a", 0.1, 0.3), ("b", 0.9, 0.3), ("c", math.nan, math.nan)]
    assert told(clear).startswith("b predicts best here, by more")
    assert told([("a", 0.69, 0.8), ("b", 0.2, 0.3)]).startswith("None of them")  # shuffled, they do as well
    assert told([("a", 0.69, 0.8), ("b", 0.6, 0.3)]).startswith(
        "a predicts best here, but not better than its own"
    )
    assert told([("a", 0.9, 0.3)]) == ""
    low, high = compare_quality.interval(0.5, 32)
    assert 0.15 < low < 0.25 < 0.7 < high < 0.75


def test_a_single_source_has_no_order(exploration, monkeypatch):
    sources = dict(exploration.sources)
    monkeypatch.setitem(sources, "paragraph", sources["paragraph"][:1])
    object.__setattr__(exploration, "sources", sources)
    at = opened(methods="at2,average", granularity="paragraph")
    assert "no order of sources to compare" in said(at)


def test_quality_that_an_evaluation_measured_is_shown_beside(exploration, tmp_path, monkeypatch):
    from at2_core.evaluation_runs import SHOWN, EvaluationRequest, ask
    from at2_core.runs import RunFolder

    def evaluated(name: str, rows: list[dict], **request) -> None:
        run = RunFolder(tmp_path / "evaluations" / name)
        (run.folder / "rows").mkdir(parents=True)
        ask(run, EvaluationRequest(model=exploration.model, data="x.jsonl", **request))
        for number, row in enumerate(rows):
            about = {"example": str(number), "number": number, "key": str(number), "group": ""}
            run.write(
                f"rows/{number}.json", {**about, "rows": row, "shown": {method: method for method in row}}
            )
        names = [f"rows/{number}.json" for number in range(len(rows))]
        run.write(SHOWN, {"sheets": names, "methods": list(rows[0])})

    evaluated("evaluated", [{"at2": {"lds": lds}, "average": {"lds": None}} for lds in (0.25, 0.5)])
    time.sleep(0.02)  # what follows was begun later, and is no evaluation of the model's own theta
    evaluated(".deleted-gone-1", [{"at2": {"lds": 0.9}}])
    evaluated("damaged", [{"at2": {"lds": "high"}}])
    evaluated("torn", [{"at2": {"lds": 0.8}}])
    (tmp_path / "evaluations" / "torn" / "rows" / "0.json").write_text('{"number": 0}')
    at = opened(methods="at2,average")
    assert list(tables(at)[1]["LDS elsewhere"]) == ["0.38", "–"]
    assert "2 examples of the latest evaluation, evaluated" in said(at)
    evaluated("others", [{"at2": {"lds": 0.9}, "average": {"lds": 0.1}}], estimators=("a",))
    st.cache_data.clear()
    assert list(tables(opened(methods="at2,average"))[1]["LDS elsewhere"]) == ["–", "0.10"]


# ------------------------------------------------------------------------------------------------- the address


def test_what_is_chosen_is_in_the_address_and_comes_back_from_it(exploration):
    at = opened()
    at.multiselect[0].set_value(["at2", "random", "bm25"]).run()
    choose(at, pin=[1, 2], unit="token", difference=["bm25", "at2"])
    at.segmented_control[0].set_value("word").run()
    wanted = {
        "methods": "at2,random,bm25",
        "granularity": "word",
        "unit": "token",
        "pin": "1-2",
        "difference": "bm25,at2",
    }
    assert address(at) == wanted
    again = opened(**wanted)
    assert address(again) == wanted
    assert sent(again)["initial"] == {"pin": [1, 2], "unit": "token", "difference": ["bm25", "at2"]}
    assert sent(again)["granularity"] == "word"


def test_what_was_pinned_on_explore_is_pinned_here_until_it_is_let_go(exploration):
    session.engine().start()
    session.engine().wait()
    fresh = AppTest.from_file(str(APP), default_timeout=60)
    fresh.query_params["run"] = "test"
    fresh.session_state["explore-kept"] = (exploration.id, {"pin": "1-2"})
    fresh.run()
    fresh.session_state["explore-kept"] = (exploration.id, {"pin": "1-2"})
    settled(fresh.switch_page("pages/compare.py").run())
    assert address(fresh) == {"pin": "1-2"}
    assert address(choose(fresh)) == {}


def test_a_pin_does_not_send_the_matrices_again(exploration):
    at = opened()
    before = sent(at)
    assert sent(choose(at, pin=[0, 3])) == before


def test_nonsense_in_the_address_is_dropped(exploration):
    at = opened(methods="nonsense,at2,at2", granularity="letter", unit="x", pin="5-2", difference="at2,at2")
    assert list(scores(at, exploration)) == ["at2"]
    assert address(at) == {"methods": "at2"}


@pytest.mark.parametrize("state", [
    State(("at2", "average")),
    State(("bm25", "at2", "random"), "word", "token", (0, 4), ("random", "bm25")),
])  # fmt: skip
def test_a_state_survives_its_address(state):
    usual = ("at2", "average")
    assert (
        compare_state.read(compare_state.write(state, usual), ["at2", "average", "bm25", "random"], usual, 5)
        == state
    )


def test_what_a_browser_sends_is_checked(exploration):
    at = opened()
    choose(at, pin=[3, 10**9], unit=7, difference=["at2", "leave_one_out"])
    assert address(at) == {}


# ------------------------------------------------------------------------------------------ words and costs


def test_names_descriptions_and_costs_are_those_of_the_engine(tiny_lm, generation, estimator):
    assert tuple(WORDS) == baselines.METHODS
    wide = Estimator(np.ones((4, 8), np.float32), "wide", "m", "f")
    sources, targets = at2.cut(generation.rendered, "sentence"), response_targets(generation)
    for key, (name, about) in WORDS.items():
        method = baselines.find_method(key, wide)
        assert method.about == about
        assert key == "best_head" or method.name == name
        assert Way(key, name, about).by_sentence == method.by_sentence
        if key not in ("context_cite_128", "context_cite_256"):
            scored = baselines.matrix(baselines.find_method(key, estimator), tiny_lm, generation, sources)
            assert scored.passes == Way(key, name, about).passes(len(sources), len(targets)), key


def test_the_model_is_left_out_of_an_estimators_name():
    names = {"AT2 for m, on HotpotQA": "AT2, on HotpotQA", "AT2 for m": "AT2 for m", "mine": "mine"}
    assert {name: short_name(Estimator(THETA, name, "m", "")) for name in names} == names


def test_an_ablation_is_measured_once_whoever_asks():
    asked, known, keep = [], Ablations(), np.random.default_rng(0).random((20, 6)) < 0.5
    keep = np.unique(keep, axis=0)

    def run(rows):
        asked.extend(row.tobytes() for row in rows)
        return rows.sum(axis=1, keepdims=True).astype(np.float32)

    found, reused = known.measure(keep[:9], run, Job(("", "", "")), nullcontext)
    assert reused == 0
    assert found[:, 0].tolist() == keep[:9].sum(axis=1).tolist()
    found, reused = known.measure(keep[::-1], run, Job(("", "", "")), nullcontext)
    assert reused == 9
    assert found[:, 0].tolist() == keep[::-1].sum(axis=1).tolist()
    assert len(asked) == len(set(asked)) == len(keep)


def test_a_stopped_method_keeps_what_it_measured_and_can_go_on(exploration):
    at = opened(methods="average,context_cite_64", granularity="word")
    shared = board().ablations(exploration.id, "word")
    measure = shared.measure

    def slowly(keep, run, job, hold):
        def first_then_stop(rows):
            job.cancel.set()  # the person presses Stop while the first ablations run
            return run_uncancelled(rows)

        from at2_core.ablation import ablate

        gen = session.engine().kept(exploration.id)

        def run_uncancelled(rows):
            return ablate(session.engine().lm, gen, exploration.sources["word"], rows)

        return measure(keep, first_then_stop, job, hold)

    shared.measure = slowly
    settled(at.button(key="compute-context_cite_64").click().run())
    assert "ContextCite 64, stopped" in said(at)
    assert scores(at, exploration)["context_cite_64"] is None
    shared.measure = measure
    settled(at.button(key="compute-context_cite_64").click().run())
    (column,) = [c for c in sent(at)["columns"] if c["key"] == "context_cite_64"]
    assert column["scores"]
    assert column["cost"].startswith("64 forward passes · ")
    assert column["cost"].endswith(f" s + {CHUNK} shared · by sentence")
    assert tables(at)[1]["Time"][1].endswith(f" s + {CHUNK} shared")


def test_others_have_the_model_between_the_ablations_of_a_costly_method(exploration, monkeypatch):
    from at2_core import ablation

    real, calls = ablation.ablate, []

    def slow(lm, gen, sources, keep, **more):
        calls.append(len(keep))
        time.sleep(0.2)
        return real(lm, gen, sources, keep, **more)

    monkeypatch.setattr(ablation, "ablate", slow)
    at = opened(methods="average,context_cite_256", granularity="word")
    at.button(key="compute-context_cite_256").click().run()
    while not calls:
        time.sleep(0.01)
    with session.engine().hold():
        made = sum(calls)
        time.sleep(0.3)
        (job,) = [job for job in board()._jobs.values() if job.active]
        assert sum(calls) == made < 256  # it waits in the meantime
        assert job.state == "running"
        assert "waiting for its next turn" in said(at.run())
    settled(at)
    result = board().result(job.key)
    assert result.seconds < 0.25 * len(calls) + 0.2  # the wait is not the method's


@pytest.mark.parametrize("key", ["gradient", "rollout"])
def test_a_method_that_makes_no_ablations_can_be_stopped(exploration, monkeypatch, key):
    def until_stopped(*_, cancel, **__):
        assert cancel.wait(30)
        raise Cancelled("Stopped.")

    monkeypatch.setattr(baselines, "matrix", until_stopped)
    at = opened(methods=f"leave_one_out,{key}")
    at.button(key=f"compute-{key}").click().run()
    while board().job((exploration.id, "sentence", key)).state == "waiting":
        time.sleep(0.01)
    at.run().button(key=f"stop-compare-{key}").click().run()
    settled(at)
    assert ", stopped: " in said(at)
    assert not session.engine().busy


def test_looking_for_the_pace_keeps_no_ablations():
    held = Board()
    held.ablations("one", "word")._rows[b"x"] = np.zeros(1)
    for number in range(20):
        assert held.pace(str(number), "word") is None
    assert held.pace("one", "word") == 0
    assert len(held._ablations) == 1


def test_methods_that_failed_without_a_model_are_computed_when_it_is_there(exploration, monkeypatch):
    def missing(*_, **__):
        raise ModelNotAvailable("There is no such model.")

    load = models.load_model
    monkeypatch.setattr(models, "load_model", missing)
    engine = session.engine()
    engine.start()
    while engine.status != "failed":
        time.sleep(0.01)
    at = AppTest.from_file(str(APP), default_timeout=60)
    at.query_params["run"] = "test"
    at.query_params["methods"] = "average,bm25"
    settled(at.switch_page("pages/compare.py").run())
    assert scores(at, exploration)["bm25"] is None
    assert "There is no such model." in said(at)
    monkeypatch.setattr(models, "load_model", load)
    engine.start(again=True)
    engine.wait()
    at.run()
    settled(at)
    assert scores(at, exploration)["bm25"] is not None


def test_scores_are_judged_by_ablations_that_no_method_learned_from(exploration):
    keep = np.unique(np.random.default_rng(0).random((60, 20)) < 0.5, axis=0)[:32]
    way, measured = (
        Way("context_cite_64", "ContextCite 64", ""),
        Outcomes(keep, np.zeros((32, 3), np.float32), 1.0),
    )
    many = replace_sources(exploration, 20)
    page = Page(many, "sentence", session.engine(), Board())

    def judged_after(learned: int):
        page.board._keep(
            page.key(way), Result(np.zeros((3, 20)), "", 64, 0, 1, frozenset(marks(keep[:learned])))
        )
        return compare_quality.judges(page, [way], measured)

    found = judged_after(12)
    assert not set(marks(found.outcomes.keep)) & set(marks(keep[:12]))
    assert len(found.outcomes.keep) == len(found.outcomes.logit_probs) == found.different == 20
    assert found.sure
    too_few = judged_after(25)
    assert len(too_few.outcomes.keep) == 32
    assert not too_few.sure
    assert any("ContextCite 64 learned from 25 of these ablations itself" in note for note in too_few.notes)
    few = Page(replace_sources(exploration, 5), "sentence", session.engine(), Board())
    coarse = compare_quality.judges(few, [way], Outcomes(keep[:, :5], measured.logit_probs, 1.0))
    assert not coarse.sure
    assert "With only 5 sentences the 32 ablations repeat themselves" in coarse.notes[0]


def replace_sources(exploration, count: int):
    return replace(exploration, sources={"sentence": exploration.sources["word"][:count]})


def test_no_method_is_called_best_by_ablations_that_repeat_themselves(exploration):
    at = opened(methods="at2,average")  # five sentences
    settled(at.button(key="compare-measure-start").click().run())
    assert "ablations repeat themselves" in said(at)
    assert "predicts best" not in said(at)
    assert {"LDS here", "Shuffled"} <= set(tables(at)[1])


def test_a_response_that_is_gone_is_told(exploration):
    at = AppTest.from_file(str(APP), default_timeout=60)
    at.query_params["run"] = "gone"
    ran = at.switch_page("pages/compare.py").run()
    assert not ran.exception
    assert "That generation is not on this server any more; here is an example." in said(ran)


def test_the_oldest_results_go_when_there_are_too_many():
    held = Board()
    for number in range(3):
        held._keep(
            (str(number), "", ""), Result(np.zeros((1 << 12, 1 << 13), np.float32), "", 0, 0, 0)
        )  # 128 MB
    assert [held.result((str(n), "", "")) is not None for n in range(3)] == [False, True, True]
