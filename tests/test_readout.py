"""What heads write towards the response: by blocks as at once, generated as replayed, learned, kept and judged.

That it is what the model's own log-probability feels, for every family of models, is in test_conformance.py.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

import at2_core as at2
from at2_core import attention
from at2_core.attribution import source_features
from at2_core.baselines import shuffled_heads
from at2_core.collecting import measure, respond
from at2_core.data import Example
from at2_core.fitting import Collected, FitSettings, levelled, tied, untied
from at2_core.generation import generation_from_ids
from at2_core.learning import _choose_direct, learn
from at2_core.runs import RunFolder, Settings

TASK = at2.ContextTask(
    context="The fox runs. Berlin is 12 km away. The dog sleeps in the sun.", query="Who runs?"
)
SETTINGS = Settings(
    num_ablations=8, max_new_tokens=10, max_prompt_tokens=200, granularity="sentence", direct=True
)
QUICK = FitSettings(steps=60, learning_rate=1e-2, resamples=2, splits=1)


@pytest.fixture(scope="module")
def gen(tiny_lm):
    return at2.generate(tiny_lm, TASK, max_new_tokens=12, temperature=1.0, seed=1)


def with_direct(lm, seed=0):
    rng = np.random.default_rng(seed)
    theta, direct = rng.normal(size=(2, lm.num_layers, lm.num_heads)).astype(np.float32)
    return at2.Estimator(theta, "both", lm.name, lm.fingerprint, direct=direct)


def each_row(gen):
    return [slice(t, t + 1) for t in range(gen.num_tokens)]


def test_scores_are_both_kinds_of_features_times_their_coefficients(tiny_lm, gen):
    est = with_direct(tiny_lm)
    attribution = at2.attribute(tiny_lm, gen, est, "sentence")
    kinds = [
        source_features(tiny_lm, gen, attribution.sources, each_row(gen), direct=direct).numpy()
        for direct in (False, True)
    ]
    plain = sum(np.einsum("lh,lhts->ts", c, f) for c, f in zip((est.theta, est.direct), kinds, strict=True))
    assert np.abs(attribution.scores - plain).max() < 1e-5
    attention_alone = at2.attribute(tiny_lm, gen, replace(est, direct=None), "sentence").scores
    assert np.abs(attribution.scores - attention_alone).max() > 1e-2


def test_a_head_without_attention_weight_in_theta_still_counts_by_what_it_writes(tiny_lm, gen):
    est = with_direct(tiny_lm)
    written = at2.token_scores(tiny_lm, gen, replace(est, theta=np.zeros_like(est.theta)))
    both, theta = (at2.token_scores(tiny_lm, gen, e) for e in (est, replace(est, direct=None)))
    assert np.abs(both - theta - written).max() < 1e-5
    assert written.any()


def test_blocks_of_rows_change_nothing(tiny_lm, gen, monkeypatch):
    est = with_direct(tiny_lm)
    whole = at2.token_scores(tiny_lm, gen, est)
    monkeypatch.setattr(attention, "BLOCK_FLOATS", 2 * tiny_lm.num_heads * len(gen.prompt_ids))
    assert np.abs(at2.token_scores(tiny_lm, gen, est) - whole).max() < 1e-6


def test_a_generated_response_has_the_scores_of_a_replayed_one(tiny_lm, gen):
    est = with_direct(tiny_lm)
    again = generation_from_ids(tiny_lm, TASK, gen.response_ids)
    assert np.abs(at2.token_scores(tiny_lm, gen, est) - at2.token_scores(tiny_lm, again, est)).max() < 1e-5
    reaching = at2.all_token_scores(tiny_lm, gen, est)
    n = len(gen.prompt_ids)
    assert np.abs(reaching[:, :n] - at2.token_scores(tiny_lm, gen, est)).max() < 1e-6
    assert not np.triu(reaching[:, n:]).any()


def test_a_kept_beginning_gives_the_same(tiny_lm):
    est, kept = with_direct(tiny_lm), at2.KeptPrefix()
    at2.generate(tiny_lm, TASK, max_new_tokens=4, prefix=kept)
    other = replace(TASK, query="Who sleeps?")
    scores = [
        at2.token_scores(tiny_lm, at2.generate(tiny_lm, other, max_new_tokens=8, prefix=prefix), est)
        for prefix in (kept, None)
    ]
    assert np.abs(scores[0] - scores[1]).max() < 1e-4


def test_a_long_prompt_read_in_pieces_gives_the_same(tiny_lm, monkeypatch):
    est = with_direct(tiny_lm)
    whole = at2.token_scores(tiny_lm, at2.generate(tiny_lm, TASK, max_new_tokens=8), est)
    monkeypatch.setattr("at2_core.generation.PREFILL", 16)
    pieces = at2.token_scores(tiny_lm, at2.generate(tiny_lm, TASK, max_new_tokens=8), est)
    assert np.abs(whole - pieces).max() < 1e-4


def test_a_model_whose_heads_cannot_be_told_apart_says_so(tiny_model, tmp_path):
    lm = tiny_model("gemma3")
    gen = at2.generate(lm, TASK, max_new_tokens=4)
    with pytest.raises(at2.At2Error, match="only their attention can be scored"):
        at2.token_scores(lm, gen, with_direct(lm))
    with pytest.raises(at2.At2Error, match="only their attention"):
        learn(lm, [], tmp_path / "run", settings=SETTINGS)
    assert not (tmp_path / "run").exists()
    assert at2.token_scores(lm, gen, at2.uniform_estimator(lm)).any()


def test_predictors_hold_the_layers_twice(tiny_lm):
    example = Example("e", TASK)
    ids = respond(tiny_lm, example, SETTINGS)
    both = measure(tiny_lm, example, ids, SETTINGS)
    gen = generation_from_ids(tiny_lm, TASK, ids)
    sources = at2.cut(gen.rendered, "sentence")
    keep = at2.random_keep(8, len(sources), np.random.default_rng([0, example.seed]))
    target = slice(0, gen.num_tokens)
    plain = source_features(tiny_lm, gen, sources, [target], direct=True)[:, :, 0].numpy()
    assert both.predictors.shape[2:] == (2 * tiny_lm.num_layers, tiny_lm.num_heads)
    if len(both.predictors) == 1:
        signs = 2.0 * keep - 1
        assert (
            np.abs(both.predictors[0, :, tiny_lm.num_layers :] - np.einsum("ms,lhs->mlh", signs, plain)).max()
            < 1e-4
        )
    alone = measure(tiny_lm, example, ids, replace(SETTINGS, direct=False))
    assert np.array_equal(alone.predictors, both.predictors[:, :, : tiny_lm.num_layers])
    assert np.array_equal(alone.outcomes, both.outcomes)


def test_levelled_parts_spread_alike_and_the_factors_take_coefficients_back():
    rng = np.random.default_rng(0)
    scale = np.array([1, 1, 40, 40], np.float32)[:, None]
    collected = [
        Collected(rng.normal(size=(2, 16, 4, 3)).astype(np.float32) * scale, np.zeros((2, 16)))
        for _ in range(9)
    ]
    level, factors = levelled(collected)
    spreads = np.std([c.predictors for c in level], axis=(0, 1, 2, 4))
    assert spreads.max() / spreads.min() < 1.2
    theta = rng.normal(size=(4, 3)).astype(np.float32)
    for before, after in zip(collected, level, strict=True):
        there = np.einsum("gmlh,lh->gm", after.predictors, theta)
        assert np.allclose(
            there, np.einsum("gmlh,lh->gm", before.predictors, theta * factors), rtol=1e-4, atol=1e-4
        )


def planted(direct, noise=0.3):
    """Examples whose outcomes follow attention (2 layers, 3 heads) and what heads write, by these coefficients (2, 3)."""
    rng = np.random.default_rng(1)
    theta = np.array([[0.5, -0.2, 0.0], [0.3, 0.0, 0.0]], np.float32)
    found = []
    for i in range(40):
        predictors = rng.normal(size=(1, 16, 4, 3)).astype(np.float32)
        outcomes = np.einsum("gmlh,lh->gm", predictors, np.concatenate([theta, direct]))
        outcomes += noise * rng.normal(size=outcomes.shape)
        found.append(Collected(predictors, outcomes.astype(np.float32), f"context {i}"))
    return found


@pytest.mark.parametrize("kind", ["shared", "own"])
def test_one_coefficient_for_what_all_heads_write_is_taken_where_that_is_as_good(kind):
    same = np.full((2, 3), 0.2, np.float32)
    direct = same if kind == "shared" else np.array([[0.6, 0, 0], [0, -0.6, 0]], np.float32)
    chosen = _choose_direct(planted(direct), replace(QUICK, steps=300, splits=3), lambda *_: None, None)
    theta, found = np.split(chosen.theta, 2)
    assert chosen.report["direct"][kind] == max(chosen.report["direct"].values())
    assert (np.ptp(found) == 0) == (kind == "shared")
    assert np.abs(found / theta[0, 0] - direct / 0.5).max() < 0.25
    assert chosen.deviation.shape == chosen.theta.shape


def test_tied_examples_predict_what_untied_coefficients_do():
    rng, (example, *_) = np.random.default_rng(3), planted(np.zeros((2, 3), np.float32))
    theta = rng.normal(size=(7, 1)).astype(np.float32)
    one = np.einsum("gmlh,lh->gm", tied([example])[0].predictors, theta)
    assert np.allclose(one, np.einsum("gmlh,lh->gm", example.predictors, untied(theta, (2, 3))), atol=1e-4)


def test_a_run_learns_both_and_its_file_brings_them_back(tiny_lm, tmp_path):
    examples = [
        Example(f"e{i}", replace(TASK, context=f"{TASK.context} Number {i} runs too.")) for i in range(8)
    ]
    est = learn(tiny_lm, examples, tmp_path / "run", settings=SETTINGS, fit_settings=QUICK)
    assert (
        est.theta.shape == est.direct.shape == est.deviation.shape == (tiny_lm.num_layers, tiny_lm.num_heads)
    )
    assert est.direct.any()
    assert "direct" in est.metadata["method"]
    back = at2.load_estimator(tmp_path / "run" / "estimator.safetensors")
    assert np.array_equal(back.direct, est.direct)
    assert back.fingerprint == est.fingerprint != replace(est, direct=None).fingerprint
    again = at2.fit_run(RunFolder(tmp_path / "run"), None, None, QUICK)
    assert again.direct is not None
    with pytest.raises(at2.At2Error, match="leave the recipe out"):
        at2.fit_run(RunFolder(tmp_path / "run"), None, None, QUICK, recipe="reference")


def test_a_folder_of_an_earlier_version_is_still_its_own(tmp_path):
    run = RunFolder(tmp_path)
    run.identify("m", "f", "float32", Settings())
    old = run.read("run.json")
    del old["direct"]
    run.write("run.json", old)
    run.identify("m", "f", "float32", Settings())
    with pytest.raises(at2.RunFolderMismatch, match="direct"):
        run.identify("m", "f", "float32", Settings(direct=True))


def test_muted_and_shuffled_heads_lose_what_they_write_too(tiny_lm, gen):
    est = with_direct(tiny_lm)
    muted = at2.without_heads(est, [(0, 1), (1, 3)])
    assert muted.direct[0, 1] == muted.direct[1, 3] == 0
    assert np.count_nonzero(muted.direct != est.direct) == 2
    everywhere = [(layer, head) for layer in range(tiny_lm.num_layers) for head in range(tiny_lm.num_heads)]
    assert not at2.token_scores(tiny_lm, gen, at2.without_heads(est, everywhere)).any()
    sources = at2.cut(gen.rendered, "sentence")
    shuffled, own = (
        m(tiny_lm, gen, sources).scores for m in (shuffled_heads(est), at2.find_method("at2", est))
    )
    assert np.abs(shuffled - own).max() > 1e-3
