"""Evaluation: the measures follow their definitions, and ablations are run once."""

from __future__ import annotations

import copy
import threading

import numpy as np
import pandas as pd
import pytest
from scipy import stats

import at2_core as at2
from at2_core import example_ablations
from at2_core.baselines import Method, find_method
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
    real = example_ablations.ablate
    monkeypatch.setattr(example_ablations, "ablate", lambda *a, **k: runs.append(len(a[3])) or real(*a, **k))
    methods = {"average": at2.uniform_estimator(tiny_lm), "random": None}
    options = {"out_dir": tmp_path, "num_ablations": 8, "ks": (1,), "max_new_tokens": 8}
    first = at2.evaluate(tiny_lm, EXAMPLES, methods, **options)
    made = sum(runs)
    again = at2.evaluate(tiny_lm, EXAMPLES, methods, **options)
    assert sum(runs) == made, "the second call must find every ablation in the folder"
    pd.testing.assert_frame_equal(first.drop(columns="seconds"), again.drop(columns="seconds"), atol=1e-4)


def test_rows_are_those_that_were_asked_for_last(tiny_lm, tmp_path):
    theta = np.random.default_rng(1).normal(size=(2, 4)).astype(np.float32)
    signs = {sign: {"mine": at2.Estimator(sign * theta, "e", tiny_lm.name)} for sign in (1, -1)}
    options = {"out_dir": tmp_path, "num_ablations": 6, "max_new_tokens": 6}
    drops = []
    for sign in (1, -1, 1):
        frame = at2.evaluate(tiny_lm, EXAMPLES[:1], signs[sign], **options)
        drops.append(frame["drop_1"][0])
        pd.testing.assert_frame_equal(read_rows(tmp_path), frame)
    assert drops[0] == drops[2] != drops[1]
    at2.evaluate(tiny_lm, EXAMPLES, ["bm25", "random"], **options)
    frame = at2.evaluate(tiny_lm, EXAMPLES[1:2], ["random"], **options)
    assert read_rows(tmp_path)["example"].tolist() == frame["example"].tolist() == ["e1"]


def test_a_record_that_is_there_twice_has_rows_of_its_own(tiny_lm, tmp_path):
    options = {"out_dir": tmp_path, "num_ablations": 4, "max_new_tokens": 4}
    at2.evaluate(tiny_lm, [EXAMPLES[0], EXAMPLES[0]], ["bm25", "random"], **options)
    rows = read_rows(tmp_path)
    assert len(rows) == 4
    assert not rows.duplicated(["example", "method"]).any()


def test_two_names_for_one_method_have_a_row_each(tiny_lm, tmp_path):
    est = at2.uniform_estimator(tiny_lm)
    at2.evaluate(
        tiny_lm, EXAMPLES[:1], {"a": est, "b": est}, out_dir=tmp_path, num_ablations=4, max_new_tokens=4
    )
    assert read_rows(tmp_path)["method"].tolist() == ["a", "b"]


def test_without_ablations_and_truth_there_is_nothing_to_judge_by(tiny_lm):
    frame = at2.evaluate(tiny_lm, EXAMPLES[:1], ["bm25"], num_ablations=0, max_new_tokens=4)
    assert "nothing is known" in frame["skipped"][0]


def test_a_method_that_says_nothing_has_no_correlation_and_is_not_left_out(tiny_lm):
    silent = at2.Estimator(np.zeros((2, 4), np.float32), "e", tiny_lm.name)
    frame = at2.evaluate(tiny_lm, EXAMPLES, {"silent": silent}, num_ablations=8, max_new_tokens=8)
    assert (frame["lds"] == 0).all()


def test_another_template_is_another_prompt(tiny_lm, tmp_path):
    from dataclasses import replace

    options = {"out_dir": tmp_path, "num_ablations": 4, "max_new_tokens": 4}
    first = at2.evaluate(tiny_lm, EXAMPLES[:1], ["random"], **options)
    other = copy.deepcopy(tiny_lm.tokenizer)
    other.chat_template = "Now: " + other.chat_template
    second = at2.evaluate(replace(tiny_lm, tokenizer=other), EXAMPLES[:1], ["random"], **options)
    assert second["prompt"][0] > first["prompt"][0]


def test_a_disk_that_fails_ends_the_evaluation_and_not_the_example(tiny_lm, tmp_path):
    (tmp_path / "ablations").write_text("in the way")
    with pytest.raises(at2.At2Error, match="cannot be"):
        at2.evaluate(tiny_lm, EXAMPLES[:1], ["random"], out_dir=tmp_path, num_ablations=4, max_new_tokens=4)


def test_a_stop_keeps_what_was_done(tiny_lm, tmp_path):
    cancel = threading.Event()

    def stop(case):
        cancel.set()
        raise at2.Cancelled("stopped")

    methods = {"bm25": find_method("bm25"), "stopping": Method("stopping", "S", "", stop)}
    options = {"out_dir": tmp_path, "num_ablations": 4, "max_new_tokens": 4}
    with pytest.raises(at2.Cancelled):
        at2.evaluate(tiny_lm, EXAMPLES[:1], methods, cancel=cancel, **options)
    assert read_rows(tmp_path)["method"].tolist() == ["bm25"]


def test_without_ablations_the_response_is_kept_all_the_same(tiny_lm, tmp_path, monkeypatch):
    task = at2.ContextTask(documents=[at2.Document("", "The fox runs. Berlin is far.")], query="Who?")
    examples = [Example("e", task, truth=((0, 0, 13),))]
    options = {"out_dir": tmp_path, "num_ablations": 0, "max_new_tokens": 6}
    first = at2.evaluate(tiny_lm, examples, ["bm25"], **options)
    monkeypatch.setattr(example_ablations, "generate", None)
    again = at2.evaluate(tiny_lm, examples, ["bm25", "random"], **options)
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
    from at2_core.example_ablations import ExampleAblations

    example = Example("e", at2.ContextTask(context="The fox runs. Berlin is far.", query="Who runs?"))
    made = []
    for kind in ("llama", "qwen3"):
        ablations = ExampleAblations(tiny_model(kind), example, tmp_path, "sentence", 6)
        ablations.measure(np.array([[True, False]]))
        made.append(ablations.path)
    assert made[0] != made[1]
    again = ExampleAblations(tiny_model("llama"), example, tmp_path, "sentence", 6)
    assert len(again.keep) == 1
