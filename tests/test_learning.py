"""Learning: the fit finds what is there, a run survives any end, and nothing is mixed up between models."""

from __future__ import annotations

import threading

import numpy as np
import pytest

import at2_core as at2
from at2_core.collecting import measure, respond
from at2_core.data import Example
from at2_core.fitting import FitSettings
from at2_core.learning import Settings, learn
from at2_core.runs import RunFolder

SETTINGS = Settings(num_ablations=8, max_new_tokens=10, max_prompt_tokens=200)
QUICK = FitSettings(steps=60, learning_rate=1e-2, resamples=2, splits=1)


def examples(count=8):
    return [
        Example(
            f"e{i}",
            at2.ContextTask(context=f"The fox number {i} runs. Berlin is {i} km away.", query="Who runs?"),
        )
        for i in range(count)
    ]


def test_predictors_and_outcomes_follow_the_paper(tiny_lm):
    """The plain slow way: signs times per-token features, outcome of each sentence from its own ablations."""
    example = examples(1)[0]
    got = measure(tiny_lm, example, respond(tiny_lm, example, SETTINGS), SETTINGS)
    gen = at2.generate(tiny_lm, example.task, max_new_tokens=10)
    sources = at2.cut(gen.rendered, "token")
    keep = at2.random_keep(8, len(sources), np.random.default_rng([0, example.seed]))
    features = at2.head_features(tiny_lm, gen, "token")
    logit_probs = at2.ablate(tiny_lm, gen, sources, keep, method="mask")
    spans = at2.split_sentences(gen.text)
    starts = [s for s, _ in gen.response_offsets]
    rows = [[t for t, s in enumerate(starts) if a <= s < b] for a, b in spans]
    rows = [r for r, (a, b) in zip(rows, spans, strict=True) if r and gen.text[a:b].strip()]
    assert len(got.outcomes) == len(rows)
    for g, r in enumerate(rows):
        plain = np.einsum("ms,lhs->mlh", 2.0 * keep - 1, features[:, :, r].mean(2))
        assert np.abs(got.predictors[g] - plain).max() < 1e-4
        assert np.abs(got.outcomes[g] - at2.outcome(logit_probs[:, r])).max() < 1e-3


def test_a_stopped_run_goes_on_to_the_same_theta(tiny_lm, tmp_path):
    whole = learn(tiny_lm, examples(), tmp_path / "whole", settings=SETTINGS, fit_settings=QUICK)
    cancel = threading.Event()

    def stop_at_three(stage, done, total):
        if done == 3:
            cancel.set()

    with pytest.raises(at2.Cancelled):
        learn(tiny_lm, examples(), tmp_path / "cut", settings=SETTINGS, progress=stop_at_three, cancel=cancel)
    assert len(list((tmp_path / "cut" / "examples").glob("*.npz"))) == 3
    resumed = learn(tiny_lm, examples(), tmp_path / "cut", settings=SETTINGS, fit_settings=QUICK)
    assert np.array_equal(whole.theta, resumed.theta)
    assert at2.load_estimator(tmp_path / "cut" / "estimator.safetensors").fingerprint == whole.fingerprint


def test_an_estimator_is_called_by_what_it_was_learned_from(tiny_lm, tmp_path):
    about = {"name": " Dolly\n2023 ", "licence": "x"}
    found = learn(tiny_lm, examples(3), tmp_path, settings=SETTINGS, fit_settings=QUICK, about=about)
    assert found.name == f"AT2 for {tiny_lm.name}, learned from Dolly 2023"


def test_a_folder_of_other_settings_or_another_model_is_refused(tiny_model, tmp_path):
    lm = tiny_model("llama")
    learn(lm, examples(2), tmp_path, settings=SETTINGS, fit_settings=QUICK)
    with pytest.raises(at2.RunFolderMismatch, match="num_ablations 8, not 9"):
        learn(
            lm,
            examples(2),
            tmp_path,
            settings=Settings(num_ablations=9, max_new_tokens=10, max_prompt_tokens=200),
        )
    with pytest.raises(at2.RunFolderMismatch, match="another folder"):
        learn(tiny_model("gpt2"), examples(2), tmp_path, settings=SETTINGS)


def test_examples_that_cannot_be_used_are_counted(tiny_lm, tmp_path):
    bad = [
        Example("empty", at2.ContextTask(context=" ", query="Who?")),
        Example("long", at2.ContextTask(context="fox " * 300, query="Who?")),
    ]
    est = learn(tiny_lm, examples(3) + bad, tmp_path, settings=SETTINGS, fit_settings=QUICK)
    assert est.metadata["examples"] == 3
    assert sum(est.metadata["skipped"].values()) == 2
    with pytest.raises(at2.At2Error, match=r"None of the examples can be used .*1 times no context"):
        learn(tiny_lm, bad, tmp_path / "bad", settings=SETTINGS)


def test_a_damaged_example_is_collected_again(tiny_lm, tmp_path):
    whole = learn(tiny_lm, examples(6), tmp_path, settings=SETTINGS, fit_settings=QUICK)
    victim = sorted((tmp_path / "examples").glob("*.npz"))[2]
    victim.write_bytes(victim.read_bytes()[:40])
    again = learn(tiny_lm, examples(6), tmp_path, settings=SETTINGS, fit_settings=QUICK)
    assert again.metadata["examples"] == 6
    assert np.array_equal(again.theta, whole.theta)


def test_a_refused_folder_says_so_and_is_no_crash(tiny_model, tmp_path):
    learn(tiny_model("llama"), examples(3), tmp_path, settings=SETTINGS, fit_settings=QUICK)
    with pytest.raises(at2.RunFolderMismatch):
        learn(tiny_model("qwen3"), examples(3), tmp_path, settings=SETTINGS, fit_settings=QUICK)
    progress = RunFolder(tmp_path).progress()
    assert progress.state == "failed"
    assert "another folder" in progress.message
