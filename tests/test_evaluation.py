"""Evaluation: the measures follow their definitions, and ablations are run once."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy import stats

import at2_core as at2
from at2_core import evaluation
from at2_core.data import Example
from at2_core.evaluation import lds, summarize
from at2_core.evaluation_runs import read_rows

EXAMPLES = [
    Example(
        f"e{i}",
        at2.ContextTask(
            context=f"The fox {i} runs. A dog sleeps. It is {1960 + i}. Berlin is near.", query="Who?"
        ),
    )
    for i in range(3)
]


def test_lds_is_spearmans_correlation_of_sums():
    rng = np.random.default_rng(0)
    scores, keep, outcomes = rng.normal(size=6), rng.random((20, 6)) < 0.5, rng.normal(size=20)
    expected = stats.spearmanr([scores[row].sum() for row in keep], outcomes).statistic
    assert lds(scores, keep, outcomes) == pytest.approx(expected)
    assert np.isnan(lds(np.zeros(6), keep, outcomes))


def test_a_drop_is_what_removing_the_best_sources_costs(tiny_lm):
    est = at2.uniform_estimator(tiny_lm)
    frame = at2.evaluate(
        tiny_lm, EXAMPLES[:1], {"average": est}, num_ablations=8, ks=(1, 2, 9), max_new_tokens=8
    )
    gen = at2.generate(tiny_lm, EXAMPLES[0].task, max_new_tokens=8)
    att = at2.attribute(tiny_lm, gen, est, "sentence")
    order = np.argsort(-att.scores.mean(0))
    keep = np.ones((3, len(order)), bool)
    keep[1, order[:1]] = False
    keep[2, order[:2]] = False
    whole, one, two = at2.log_prob(at2.ablate(tiny_lm, gen, att.sources, keep, method="mask"))
    assert frame["drop_1"][0] == pytest.approx(whole - one, abs=1e-3)
    assert frame["drop_2"][0] == pytest.approx(whole - two, abs=1e-3)
    assert np.isnan(frame["drop_9"][0])


def test_ablations_are_shared_between_methods_and_calls(tiny_lm, tmp_path, monkeypatch):
    runs = []
    real = evaluation.ablate
    monkeypatch.setattr(evaluation, "ablate", lambda *a, **k: runs.append(len(a[3])) or real(*a, **k))
    methods = {"average": at2.uniform_estimator(tiny_lm), "random": None}
    options = {"out_dir": tmp_path, "num_ablations": 8, "ks": (1,), "max_new_tokens": 8}
    first = at2.evaluate(tiny_lm, EXAMPLES, methods, **options)
    made = sum(runs)
    again = at2.evaluate(tiny_lm, EXAMPLES, methods, **options)
    assert sum(runs) == made, "the second call must find every ablation in the folder"
    pd.testing.assert_frame_equal(first.drop(columns="seconds"), again.drop(columns="seconds"), atol=1e-4)


def test_rows_of_a_name_are_those_asked_for_last(tiny_lm, tmp_path):
    thetas = [np.full((2, 4), 0.1, np.float32), np.eye(2, 4, dtype=np.float32)]
    made = []
    for theta in (*thetas, thetas[0]):
        est = at2.Estimator(theta, "e", tiny_lm.name)
        frame = at2.evaluate(
            tiny_lm, EXAMPLES[:1], {"mine": est}, out_dir=tmp_path, num_ablations=6, max_new_tokens=6
        )
        made.append(frame["drop_1"][0])
        rows = read_rows(tmp_path)
        assert len(rows) == 1
        assert rows["drop_1"][0] == made[-1]
    assert made[0] == made[2]


def test_without_ablations_the_response_is_kept_all_the_same(tiny_lm, tmp_path, monkeypatch):
    options = {"out_dir": tmp_path, "num_ablations": 0, "max_new_tokens": 6}
    first = at2.evaluate(tiny_lm, EXAMPLES[:1], ["bm25"], **options)
    monkeypatch.setattr(evaluation, "generate", None)
    again = at2.evaluate(tiny_lm, EXAMPLES[:1], ["bm25", "random"], **options)
    assert again["tokens"][0] == first["tokens"][0]


def test_an_example_that_cannot_be_judged_is_listed_with_its_reason(tiny_lm):
    empty = Example("empty", at2.ContextTask(context="", query="Who?"))
    frame = at2.evaluate(tiny_lm, [empty], {"random": None}, num_ablations=4)
    assert frame["method"].isna().all()
    assert "context" in frame["skipped"][0]


def test_intervals_hold_the_mean_and_differences_are_paired():
    rng = np.random.default_rng(0)
    base = rng.normal(size=40)
    frame = pd.DataFrame(
        [
            {"example": i, "method": m, "lds": b + shift}
            for i, b in enumerate(base)
            for m, shift in (("a", 0), ("b", 0.1))
        ]
    )
    table = summarize(frame, "a").set_index("method")
    assert (table["low"] < table["mean"]).all()
    assert (table["mean"] < table["high"]).all()
    assert table.loc["b", "difference_low"] == pytest.approx(0.1)
    assert table.loc["b", "difference_high"] == pytest.approx(0.1)


def test_what_one_model_measured_is_not_taken_for_another(tiny_model, tmp_path):
    from at2_core.data import Example
    from at2_core.evaluation import ExampleAblations

    example = Example("e", at2.ContextTask(context="The fox runs. Berlin is far.", query="Who runs?"))
    made = []
    for kind in ("llama", "qwen3"):
        ablations = ExampleAblations(tiny_model(kind), example, tmp_path, "sentence", 6)
        ablations.measure(np.array([[True, False]]))
        made.append(ablations.path)
    assert made[0] != made[1]
    again = ExampleAblations(tiny_model("llama"), example, tmp_path, "sentence", 6)
    assert len(again.keep) == 1
