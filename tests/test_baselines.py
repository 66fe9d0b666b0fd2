"""Every way to score, against a small independent computation of the same thing."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from sklearn.linear_model import Lasso

import at2_core as at2
from at2_core import baselines
from at2_core.baselines import METHODS, best_heads, find_method, matrix, refined_row, surrogate
from at2_core.verification import judged

TASK = at2.ContextTask(
    context="The quick fox runs far. Paris is a capital. The dog sleeps in the sun. 1969 people walked. It rains.",
    query="Who sleeps?",
)


@pytest.fixture(scope="module", params=["llama", "gemma3", "gpt2"])
def case(request, tiny_model):
    lm = tiny_model(request.param)
    gen = at2.replay(lm, TASK, "The dog sleeps. Paris is far.")
    return lm, gen, at2.cut(gen.rendered, "sentence")


def eager_weights(lm, gen):
    """(layers, heads, N, N) by the model's own slow kernel."""
    ids = torch.tensor([[*gen.prompt_ids, *gen.response_ids[:-1]]])
    kernel = lm.model.config._attn_implementation
    lm.model.set_attn_implementation("eager")
    try:
        with torch.inference_mode():
            return torch.stack(lm.model(ids, output_attentions=True).attentions)[:, 0].double()
    finally:
        lm.model.set_attn_implementation(kernel)


def whole(gen):
    return slice(0, gen.num_tokens)


def test_every_method_gives_a_row_for_each_target(case, tiny_model):
    lm, gen, sources = case
    est = at2.Estimator(np.random.default_rng(0).normal(size=(2, 4)).astype(np.float32), "e", lm.name)
    for name in ("at2_ablations_8", *METHODS[:-6], "context_cite_8", "bm25", "random"):
        scored = find_method(name, est, lm)(lm, gen, sources, targets=[slice(0, 2), whole(gen)])
        assert scored.scores.shape == (2, len(sources)), name
        assert scored.scores.dtype == np.float32
        assert np.isfinite(scored.scores).all()
        assert np.ptp(scored.scores[1]) > 0, f"{name} tells sources apart"


def test_attention_methods_are_means_of_eager_weights(case):
    lm, gen, sources = case
    rows = eager_weights(lm, gen)[:, :, len(gen.prompt_ids) - 1 :].numpy()  # (layers, heads, T, N)
    summed = np.stack(
        [rows[..., s.token_start : s.token_end].sum(-1).mean(2) for s in sources], -1
    )  # (l, h, S)
    theta = np.array([[0.1, 0.5, -0.9, 0.2], [0.3, 0.0, 0.4, -0.1]], np.float32)
    est = at2.Estimator(theta, "e", lm.name)
    expected = {
        "at2": np.einsum("lh,lhs->s", theta, summed),
        "average": summed.mean((0, 1)),
        "best_head": summed[0, 1],
        "top_heads_2": (summed[0, 1] + summed[1, 2]) / 2,
        "last_layer": summed[-1].mean(0),
    }
    for name, scores in expected.items():
        got = find_method(name, est, lm)(lm, gen, sources, targets=[whole(gen)])
        np.testing.assert_allclose(got.scores[0], scores, atol=2e-5, err_msg=name)
        assert got.passes == 0


def test_rollout_is_the_product_of_mixed_attention(case):
    lm, gen, sources = case
    product = np.eye(len(gen.prompt_ids) + gen.num_tokens - 1)
    for layer in eager_weights(lm, gen).mean(1).numpy():
        product = (layer + np.eye(len(layer))) / 2 @ product
    rows = product[len(gen.prompt_ids) - 1 :].mean(0)
    expected = [rows[s.token_start : s.token_end].sum() for s in sources]
    got = find_method("rollout")(lm, gen, sources, targets=[whole(gen)])
    np.testing.assert_allclose(got.scores[0], expected, atol=1e-5)


def log_prob_of(lm, gen, target, embedded):
    logits = lm.model(inputs_embeds=embedded).logits[0, len(gen.prompt_ids) - 1 :]
    chosen = torch.log_softmax(logits.double(), -1)[range(gen.num_tokens), gen.response_ids]
    return chosen[target].sum()


def test_gradients_are_differences_of_the_log_probability(case):
    lm, gen, sources = case
    target = slice(1, 4)
    ids = torch.tensor([[*gen.prompt_ids, *gen.response_ids[:-1]]])
    embedded = lm.model.get_input_embeddings()(ids).detach().requires_grad_(True)
    (gradient,) = torch.autograd.grad(log_prob_of(lm, gen, target, embedded), embedded)
    s = sources[2]
    norm = find_method("gradient")(lm, gen, sources, targets=[target]).scores[0]
    assert norm[2] == pytest.approx(float(gradient[0, s.token_start : s.token_end].abs().sum()), rel=1e-4)
    # Input times gradient is the slope when all of a source's embeddings are scaled: a difference, without autograd.
    got = find_method("input_x_gradient")(lm, gen, sources, targets=[target]).scores[0]
    with torch.no_grad():
        ends = []
        for scale in (1 - 1e-2, 1 + 1e-2):
            moved = embedded.clone()
            moved[0, s.token_start : s.token_end] *= scale
            ends.append(float(log_prob_of(lm, gen, target, moved)))
    assert got[2] == pytest.approx((ends[1] - ends[0]) / 2e-2, rel=0.05, abs=0.02)


def test_leave_one_out_is_a_drop_by_the_plain_mask(case):
    lm, gen, sources = case
    keep = np.concatenate([np.ones((1, len(sources)), bool), ~np.eye(len(sources), dtype=bool)])
    masked = at2.ablate(lm, gen, sources, keep, method="mask")
    log_p = -np.logaddexp(0, -masked.astype(float)).sum(1)
    got = find_method("leave_one_out")(lm, gen, sources, targets=[whole(gen)])
    np.testing.assert_allclose(got.scores[0], log_p[0] - log_p[1:], atol=1e-3)
    assert got.passes == 1 + len(sources)


def test_the_surrogate_is_a_lasso_on_standardised_masks():
    rng = np.random.default_rng(0)
    keep = rng.random((60, 7)) < 0.5
    outcomes = keep @ np.array([8.0, 0, 0, -4, 0, 0, 0.1]) + rng.normal(0, 0.1, 60) - 3
    # By hand: masks to mean 0 and deviation 1, outcomes per token, and the coefficients scaled back.
    mean, deviation = keep.mean(0), keep.std(0)
    coefficients = Lasso(alpha=0.01).fit((keep - mean) / deviation, outcomes / 5).coef_ / deviation * 5
    got = surrogate(keep, outcomes, 5)
    np.testing.assert_allclose(got, coefficients, rtol=1e-6)
    assert got[0] == pytest.approx(8, abs=0.3)
    assert np.count_nonzero(got) < 7, "the penalty leaves out what does nothing"


def test_refined_scores_are_an_adaptive_lasso_beside_what_at2_predicts():
    rng = np.random.default_rng(0)
    keep, scores = rng.random((12, 9)) < 0.5, np.array([0.9, 0, 0, 0.4, 0, 0.1, 0, -0.05, 0])
    truth = np.array([8.0, 0, 0, 1, 0, 0, 0, 0, 3])
    log_probs = keep @ truth + rng.normal(0, 0.1, 12) - 12
    # By hand, as a LASSO whose penalties differ: a column that is made w times as large is penalised w times less.
    weights = np.maximum(np.abs(scores) / np.abs(scores).mean(), 0.3)
    weights /= math.sqrt((weights**2).mean())
    predicted, moved = keep @ scores, keep.std(0)
    columns = [(predicted - predicted.mean()) / predicted.std()]
    columns += [(keep[:, s] - keep[:, s].mean()) / (moved[s] or 1) * weights[s] for s in range(9)]
    found = (
        Lasso(0.09 / math.sqrt(12) * 9 / 12 * log_probs.std(), max_iter=100_000, tol=1e-5)
        .fit(np.stack(columns, 1), log_probs)
        .coef_
    )
    expected = found[0] / predicted.std() * scores + found[1:] * weights / np.where(moved, moved, 1)
    got = refined_row(keep, log_probs, scores)
    np.testing.assert_allclose(got, expected, rtol=1e-6)


def test_what_is_known_before_stands_in_for_ablations():
    rng, truth = np.random.default_rng(0), np.array([8.0, 0, 0, 3, 0, 0, 0, 0, 0])
    scores, errors = np.array([0.9, 0, 0, 0.4, 0, 0.1, 0, -0.05, 0]), np.zeros(2)
    for _ in range(20):
        keep = rng.random((5, 9)) < 0.5
        rows = (refined_row(keep, keep @ truth - 12, known) for known in (scores, np.ones(9)))
        errors += [np.abs(row - truth).sum() for row in rows]
    assert errors[0] < 0.3 * errors[1]


def test_many_ablations_find_what_at2_does_not_know():
    rng = np.random.default_rng(0)
    keep, scores = rng.random((64, 9)) < 0.5, np.array([0.9, 0, 0, 0.4, 0, 0.1, 0, -0.05, 0])
    got = refined_row(keep, 3.0 * keep[:, 8], scores)
    assert np.argmax(got) == 8
    assert got[8] > 1


def test_a_token_that_nothing_moves_has_no_scores():
    keep = np.random.default_rng(0).random((8, 3)) < 0.5
    assert not refined_row(keep, np.full(8, -2.0), np.ones(3)).any()
    assert not refined_row(keep, keep @ np.ones(3), np.zeros(3)).any()


def test_a_source_that_no_ablation_moves_is_worth_what_at2_says():
    keep = np.ones((8, 3), bool)
    keep[::2, 0] = keep[1::4, 1] = False
    got = refined_row(keep, keep @ np.array([2.0, 1, 0]), np.array([0.6, 0.3, 0.3]))
    assert got[0] > got[2] > 0


def test_refined_scores_of_a_target_are_those_of_its_tokens(case):
    lm, gen, sources = case
    est = at2.Estimator(np.random.default_rng(0).normal(size=(2, 4)).astype(np.float32), "e", lm.name)
    method = find_method("at2_ablations_8", est, lm)
    by_token = matrix(method, lm, gen, sources).scores
    two = method(lm, gen, sources, targets=[slice(0, 3), whole(gen)]).scores
    np.testing.assert_allclose(two, [by_token[:3].sum(0), by_token.sum(0)], rtol=1e-5, atol=1e-6)


def test_refining_shares_its_ablations_with_context_cite_and_takes_the_better_estimator(case):
    lm, gen, sources = case
    est = at2.Estimator(np.random.default_rng(0).normal(size=(2, 4)).astype(np.float32), "e", lm.name)
    asked = {}
    for name in ("context_cite_8", "at2_ablations_8"):

        def measure(keep, name=name):
            asked[name] = keep
            return at2.ablate(lm, gen, sources, keep)

        scored = find_method(name, est, lm)(lm, gen, sources, measure=measure, seed=(3, 4))
        assert scored.passes == 8
    np.testing.assert_array_equal(*asked.values())


def test_what_refines_takes_the_estimator_that_knows_what_heads_write(default_lm):
    direct, plain = (at2.load_estimator(f"smollm2-135m-instruct{end}") for end in ("--direct", ""))
    assert find_method("at2_ablations_16", lm=default_lm).key.endswith(direct.fingerprint)
    assert find_method("at2_ablations_16", plain, default_lm).key.endswith(plain.fingerprint)
    assert find_method("at2", lm=default_lm).key.endswith(plain.fingerprint)


def test_a_source_that_no_ablation_moves_has_no_weight():
    keep = np.array([[True, True], [True, False], [True, True], [True, False]])
    assert surrogate(keep, np.array([1.0, 0, 1, 0]), 1)[0] == 0


def test_context_cite_asks_for_its_ablations_once_and_fewer_are_the_first_of_more(case):
    lm, gen, sources = case
    asked = []

    def measure(keep):
        asked.append(keep)
        return at2.ablate(lm, gen, sources, keep)

    for count in (8, 16):
        find_method(f"context_cite_{count}")(lm, gen, sources, measure=measure, seed=(3, 4))
    assert [len(keep) for keep in asked] == [8, 16]
    assert (asked[0] == asked[1][:8]).all()


def test_bm25_is_its_formula(case):
    lm, gen, sources = case
    words = [[w.strip(".").lower() for w in s.text.split()] for s in sources]
    said = [w.strip(".").lower() for w in gen.text.split()]
    length = sum(map(len, words)) / len(words)
    expected = []
    for document in words:
        total = 0.0
        for word in said:
            frequency, holders = document.count(word), sum(word in other for other in words)
            inverse = math.log(1 + (len(words) - holders + 0.5) / (holders + 0.5))
            total += inverse * frequency / (frequency + 1.5 * (1 - 0.75 + 0.75 * len(document) / length))
        expected.append(total)
    got = find_method("bm25")(lm, gen, sources, targets=[whole(gen)]).scores[0]
    np.testing.assert_allclose(got, expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("context", ["... !!! ??", "一二三。四五六。"])
def test_bm25_without_a_common_word_is_all_zeros(tiny_lm, context):
    gen = at2.replay(tiny_lm, at2.ContextTask(context=context, query="Q?"), "fox")
    sources = at2.cut(gen.rendered, "sentence")
    assert not find_method("bm25")(tiny_lm, gen, sources).scores.any()


def test_the_best_heads_are_those_with_the_largest_coefficients():
    est = at2.Estimator(np.array([[0.1, -0.9], [0.4, 0.2]], np.float32), "e", "m")
    assert best_heads(est, 1).name == "Head 1.0"
    assert best_heads(est, 2).key != best_heads(est, 1).key


def test_the_matrix_of_a_method_asked_by_sentence_repeats_its_sentences(tiny_lm):
    gen = at2.replay(tiny_lm, TASK, "The dog sleeps. Paris is far.")
    sources = at2.cut(gen.rendered, "sentence")
    found = matrix(find_method("gradient"), tiny_lm, gen, sources)
    assert found.scores.shape == (gen.num_tokens, len(sources))
    assert found.passes == 1 + 2 * 2
    assert len(np.unique(found.scores, axis=0)) == 2
    assert len(np.unique(matrix(find_method("leave_one_out"), tiny_lm, gen, sources).scores, axis=0)) > 2


@pytest.mark.parametrize(
    "name", [*METHODS, "shuffled_heads", "top_heads_3", "context_cite_7", "at2_ablations_7"]
)
def test_every_name_is_known_before_there_is_an_estimator(name):
    baselines.check_method(name)


@pytest.mark.parametrize(
    "name", ["nonsense", "context_cite_0", "context_cite_", "at2_ablations_0", "top_heads_x", "AT2"]
)
def test_a_method_that_is_not_there_is_said(name):
    with pytest.raises(at2.At2Error, match="There is no method"):
        find_method(name)


def test_at2_needs_an_estimator_or_a_model_that_has_one(tiny_lm):
    with pytest.raises(at2.At2Error, match="needs an estimator"):
        find_method("at2")
    with pytest.raises(at2.At2Error):
        find_method("at2", lm=tiny_lm)


def test_nothing_generated_has_no_scores(tiny_lm):
    gen = at2.generate(tiny_lm, TASK, max_new_tokens=0)
    sources = at2.cut(gen.rendered, "sentence")
    for name in ("average", "gradient", "leave_one_out", "context_cite_4", "bm25"):
        assert find_method(name)(tiny_lm, gen, sources).scores.shape == (0, len(sources))


def test_chance_is_the_seeds(case):
    lm, gen, sources = case
    method = find_method("random")
    one, same, other = (method(lm, gen, sources, seed=seed).scores for seed in ((1, 2), (1, 2), (1, 3)))
    assert (one == same).all()
    assert (one != other).any()


@pytest.mark.default_model
def test_on_the_default_model_the_sentence_that_answers_comes_first(default_lm):
    task = at2.ContextTask(
        context="Ann lives in Rome. Bob lives in Oslo. The sea is blue. Carl has three cats. Dogs bark at night.",
        query="Where does Bob live?",
    )
    gen = at2.generate(default_lm, task, max_new_tokens=16)
    assert "Oslo" in gen.text
    sources = at2.cut(gen.rendered, "sentence")
    for name in ("at2", "average", "last_layer", "leave_one_out", "context_cite_32", "bm25"):
        scored = find_method(name, lm=default_lm)(default_lm, gen, sources, targets=[whole(gen)])
        assert int(scored.scores[0].argmax()) == 1, name
    assert default_lm.num_layers * default_lm.num_heads > baselines.RETRIEVAL_HEADS


def test_a_check_is_spearmans_correlation_and_a_slope_in_nats():
    rng = np.random.default_rng(0)
    keep, scores = rng.random((24, 5)) < 0.5, np.array([3.0, 0.1, 0, 0, -1])
    logit_probs = (keep @ scores)[:, None].astype(np.float32)
    found = judged(scores, keep, logit_probs)
    assert found.lds == pytest.approx(1, abs=1e-6)
    log_p = -np.logaddexp(0, -(keep @ scores))
    assert found.nats_per_score == pytest.approx(np.polyfit(keep @ scores, log_p, 1)[0], rel=1e-4)
    assert np.isnan(judged(np.zeros(5), keep, logit_probs).lds)
    assert judged(-scores, keep, logit_probs).nats_per_score == 0


def test_gradients_that_quantized_weights_swallow_are_refused(tiny_lm, monkeypatch):
    gen = at2.replay(tiny_lm, at2.ContextTask(context="The fox runs.", query="Who?"), "The fox.")
    monkeypatch.setattr(tiny_lm.model, "is_loaded_in_4bit", True, raising=False)
    with pytest.raises(at2.At2Error, match="no gradients in 4 bits on a CPU"):
        find_method("gradient")(tiny_lm, gen, at2.cut(gen.rendered, "word"))
