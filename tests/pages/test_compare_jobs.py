"""What the Compare page computes: words and costs are the engine's, nothing is measured twice, all can be stopped."""

from __future__ import annotations

import time
from contextlib import nullcontext

import numpy as np
import pytest
from streamlit.testing.v1 import AppTest

import at2_core as at2
from at2_core import baselines, models
from at2_core.errors import Cancelled, ModelNotAvailable
from at2_core.estimator import Estimator
from at2_core.generation import response_targets
from pages.ui import compare_work, session
from pages.ui.compare_board import CHUNK, Ablations, Board, Job, Result, board
from pages.ui.compare_methods import WORDS, Way, short_name
from tests.pages.comparing import opened, scores, sent, settled, tables
from tests.pages.driving import APP, THETA, texts


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
    assert "ContextCite 64, stopped" in texts(at)
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
    began = time.monotonic()
    at.button(key="compute-context_cite_256").click().run()
    while not calls:
        time.sleep(0.01)
    with session.engine().hold():
        held = time.monotonic()
        made = sum(calls)
        time.sleep(0.3)
        (job,) = [job for job in board()._jobs.values() if job.active]
        assert sum(calls) == made < 256  # it waits in the meantime
        assert job.state == "running"
        assert "waiting for its next turn" in texts(at.run())
        held = time.monotonic() - held
    settled(at)
    result = board().result(job.key)
    assert result.seconds < time.monotonic() - began - 0.9 * held  # the wait is not the method's


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
    assert ", stopped: " in texts(at)
    assert not session.engine().busy


def test_gradients_that_no_memory_is_left_for_are_refused_and_the_others_computed(exploration, monkeypatch):
    monkeypatch.setattr(compare_work, "free_memory", lambda device: 1_000_000)
    at = opened(methods="average,gradient")
    at = settled(at)
    if scores(at, exploration)["gradient"] is None and [b for b in at.button if b.key == "compute-gradient"]:
        settled(at.button(key="compute-gradient").click().run())
    said = texts(at)
    assert f"Gradients through a prompt of {exploration.prompt.n} tokens need " in said
    assert "choose another method, or close other programs" in said
    assert scores(at, exploration)["gradient"] is None
    assert scores(at, exploration)["average"] is not None


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
    assert "There is no such model." in texts(at)
    monkeypatch.setattr(models, "load_model", load)
    engine.start(again=True)
    engine.wait()
    at.run()
    settled(at)
    assert scores(at, exploration)["bm25"] is not None


def test_the_oldest_results_go_when_there_are_too_many():
    held = Board()
    for number in range(3):
        held._keep(
            (str(number), "", ""), Result(np.zeros((1 << 12, 1 << 13), np.float32), "", 0, 0, 0)
        )  # 128 MB
    assert [held.result((str(n), "", "")) is not None for n in range(3)] == [False, True, True]
