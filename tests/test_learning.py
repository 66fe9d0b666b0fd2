"""Learning: the fit finds what is there, a run survives any end, and nothing is mixed up between models."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time

import numpy as np
import pytest
import torch

import at2_core as at2
from at2_core.data import Example, parse_examples, read_examples
from at2_core.learning import Collected, FitSettings, Settings, collect, correlation, fit, learn, shrink

SETTINGS = Settings(num_ablations=8, max_new_tokens=10, max_prompt_tokens=200)
QUICK = FitSettings(steps=60, learning_rate=1e-2)


def examples(count=8):
    return [
        Example(
            f"e{i}",
            at2.ContextTask(context=f"The fox number {i} runs. Berlin is {i} km away.", query="Who runs?"),
        )
        for i in range(count)
    ]


def planted(theta, targets=60, noise=0.1, seed=0):
    rng = np.random.default_rng(seed)
    predictors = rng.normal(size=(targets, 16, *theta.shape)).astype(np.float32)
    outcomes = np.einsum("gmlh,lh->gm", predictors, theta) + noise * rng.normal(size=(targets, 16))
    return Collected(predictors, outcomes.astype(np.float32))


def test_a_planted_theta_is_found():
    theta = np.array([[0.5, -0.2, 0.0], [0.3, 0.0, 0.0]], np.float32)
    found, _ = fit([planted(theta)], FitSettings(steps=800, learning_rate=1e-2))
    assert np.abs(found).sum() == pytest.approx(1, abs=1e-5)
    assert np.abs(found - theta).max() < 0.03


def test_the_nonnegative_fit_has_no_negative_coefficient():
    found, _ = fit(
        [planted(np.array([[0.6, -0.4]], np.float32))], FitSettings(steps=300, learning_rate=1e-2), True
    )
    assert (found >= 0).all()
    assert found[0, 0] > 0.9


def test_correlation_is_pearsons():
    a, b = torch.randn(5, 32), torch.randn(5, 32)
    expected = [np.corrcoef(x, y)[0, 1] for x, y in zip(a.numpy(), b.numpy(), strict=True)]
    assert np.allclose(correlation(a, b), expected, atol=1e-5)
    assert correlation(torch.ones(1, 4), b[:1, :4]) == 0


def test_shrinking_all_the_way_is_average_attention():
    theta = np.array([[0.9, -0.1]], np.float32)
    assert np.allclose(shrink(theta, 1), 0.5)
    assert np.allclose(shrink(theta, 0), theta)


def test_predictors_and_outcomes_follow_the_paper(tiny_lm):
    """The plain slow way: signs times per-token features, outcome of each sentence from its own ablations."""
    example = examples(1)[0]
    got = collect(tiny_lm, example, SETTINGS)
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


@pytest.mark.skipif(os.name == "nt", reason="SIGKILL is a POSIX signal")
def test_a_killed_run_goes_on_to_the_same_theta(tiny_folder, tmp_path):
    data = tmp_path / "data.jsonl"
    lines = [{"id": e.id, "context": e.task.context, "query": e.task.query} for e in examples(10)]
    data.write_text("\n".join(map(json.dumps, lines)))
    command = [sys.executable, "-m", "at2_core", "learn", "--model", str(tiny_folder("llama")), "--data", str(data),
               "--ablations", "8", "--max-new-tokens", "10", "--dtype", "float32"]  # fmt: skip
    subprocess.run([*command, "--out", str(tmp_path / "whole")], check=True, timeout=120, capture_output=True)
    killed = subprocess.Popen(
        [*command, "--out", str(tmp_path / "cut")], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    deadline = time.time() + 90
    while (
        len(list((tmp_path / "cut").glob("examples/*.npz"))) < 2
        and time.time() < deadline
        and killed.poll() is None
    ):
        time.sleep(0.02)
    killed.send_signal(signal.SIGKILL)
    killed.wait()
    subprocess.run([*command, "--out", str(tmp_path / "cut")], check=True, timeout=120, capture_output=True)
    thetas = [at2.load_estimator(tmp_path / run / "estimator.safetensors").theta for run in ("whole", "cut")]
    assert np.array_equal(*thetas)


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
    with pytest.raises(at2.At2Error, match="None of the 2 examples"):
        learn(tiny_lm, bad, tmp_path / "bad", settings=SETTINGS)


def test_examples_are_read_from_json_lines(tmp_path):
    path = tmp_path / "d.jsonl"
    path.write_text(
        '{"id": "a", "context": "C", "query": "Q"}\n\n'
        '{"query": "Q", "documents": [{"title": null, "sentences": ["One.", "Two."]}], "response": "R"}\n'
    )
    first, second = read_examples(path)
    assert (first.id, first.task.context) == ("a", "C")
    assert second.task.documents == (at2.Document("", "One. Two."),)
    assert second.response == "R"


@pytest.mark.parametrize("line", ["nonsense", "[]", '{"context": "C"}', '{"query": "Q", "documents": [5]}'])
def test_a_line_that_is_no_example_is_named(line):
    with pytest.raises(at2.At2Error, match=r"Line 2 of f\.jsonl"):
        list(parse_examples(['{"context": "C", "query": "Q"}', line], "f.jsonl"))
