"""Scores against the plain sum over eager attention, and what must hold of any attribution."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

import at2_core as at2
from at2_core.attribution import source_features, sum_to_sources

KINDS = ["llama", "qwen3", "gemma3", "gemma2", "gpt2"]
TASK = at2.ContextTask(
    documents=(
        at2.Document("Animals", "The quick brown fox jumps. The dog sleeps in the sun."),
        at2.Document("Cities", "Paris is the capital of France. Berlin is the capital of Germany."),
    ),
    query="What is the capital of France?",
)


@pytest.fixture(scope="module")
def made(tiny_model):
    def make(kind):
        lm = tiny_model(kind)
        return lm, at2.generate(lm, TASK, max_new_tokens=16, temperature=1.0, seed=1)

    return make


def plain_attention(lm, gen, own=False):
    """(layers, heads, T, n) from one eager pass over everything; own: also to the response, (layers, heads, T, n + T)."""
    kernel = lm.model.config._attn_implementation
    lm.model.set_attn_implementation("eager")
    try:
        with torch.inference_mode():
            ids = torch.tensor([gen.prompt_ids + gen.response_ids[:-1]])
            weights = lm.model(ids, output_attentions=True, use_cache=False).attentions
    finally:
        lm.model.set_attn_implementation(kernel)
    n = len(gen.prompt_ids)
    rows = torch.stack(weights)[:, 0, :, n - 1 :].numpy()
    return np.pad(rows, [(0, 0)] * 3 + [(0, 1)]) if own else rows[..., :n]  # nothing sees the last token


def random_estimator(lm, seed=0):
    theta = np.random.default_rng(seed).normal(size=(lm.num_layers, lm.num_heads)).astype(np.float32)
    return at2.Estimator(theta, "random", lm.name, lm.fingerprint)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("granularity", at2.GRANULARITIES)
def test_scores_equal_the_plain_sum(made, kind, granularity):
    lm, gen = made(kind)
    est = random_estimator(lm)
    att = at2.attribute(lm, gen, est, granularity=granularity)
    summed = np.einsum("lh,lhtn->tn", est.theta, plain_attention(lm, gen))
    expected = np.stack([summed[:, s.token_start : s.token_end].sum(1) for s in att.sources], axis=1)
    assert att.scores.dtype == np.float32
    assert np.abs(att.scores - expected).max() < 1e-5


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("scope", at2.SCOPES)
def test_scores_of_every_scope_equal_the_plain_sum(made, kind, scope):
    lm, gen = made(kind)
    gen = at2.replay(lm, TASK, "<think>The fox? No. France!</think> It is Paris. The fox knows.")
    est = random_estimator(lm)
    att = at2.attribute(lm, gen, est, "sentence", scope)
    summed = np.einsum("lh,lhtn->tn", est.theta, plain_attention(lm, gen, own=True))
    expected = np.stack([summed[:, s.token_start : s.token_end].sum(1) for s in att.sources], axis=1)
    assert np.abs(att.scores - expected).max() < 1e-5
    assert {s.role for s in att.sources} == {
        "context": {"context"},
        "prompt": {"title", "context", "query"},
        "thought": {"thought"},
        "all": {"title", "context", "query", "thought", "response"},
    }[scope]


@pytest.mark.parametrize("stop", ["end", "length"])
def test_a_generated_response_reaches_back_as_a_replayed_one_does(made, stop, monkeypatch):
    """What a generation read on the way is one token longer where the model ended it."""
    lm, gen = made("llama")
    if stop == "end":
        from at2_core import generation

        monkeypatch.setattr(generation, "end_ids", lambda lm: {gen.response_ids[12]})
        gen = at2.generate(lm, TASK, max_new_tokens=16, temperature=1.0, seed=1)
    assert gen.stop_reason == stop
    est = random_estimator(lm)
    scores, n = at2.all_token_scores(lm, gen, est), len(gen.prompt_ids)
    summed = np.einsum("lh,lhtn->tn", est.theta, plain_attention(lm, gen, own=True))
    assert scores.shape == (gen.num_tokens, n + gen.num_tokens)
    assert np.abs(scores - summed).max() < 1e-5
    assert not np.triu(scores[:, n:]).any()
    assert np.tril(scores[:, n:], -1).any()
    assert np.array_equal(scores[:, :n], at2.token_scores(lm, gen, est))


@pytest.mark.parametrize("kind", [*KINDS, "bloom"])
@pytest.mark.parametrize("scope", ["context", "all"])
def test_one_pass_that_keeps_nothing_gives_the_same(made, kind, scope, tmp_path, tiny_tokenizer):
    lm = made(kind)[0] if kind in KINDS else again(kind, tmp_path, tiny_tokenizer)
    est, response = random_estimator(lm), "It is Paris. The fox knows. Berlin sleeps."
    gen, lean = at2.attribute_given(lm, TASK, response, est, "sentence", scope)
    plain = at2.attribute(lm, at2.replay(lm, TASK, response), est, "sentence", scope)
    assert gen.trace is None
    assert np.abs(gen.logprobs - at2.replay(lm, TASK, response).logprobs).max() < 1e-4
    assert np.abs(lean.scores - plain.scores).max() < 1e-5
    assert np.abs(lean.for_span(0, 12) - plain.for_span(0, 12)).max() < 1e-5
    assert np.abs(at2.head_attention(lm, gen, 1, 2)).sum() > 0, "read again on demand"


def again(family, place, tokenizer):
    """A model whose heads are read by running it again."""
    from tests.families import folder_of

    return at2.load_model(str(folder_of(family, tokenizer, place)), device="cpu", dtype="float32")


def test_one_pass_cannot_have_what_is_known_only_behind_it(made):
    lm, _ = made("llama")
    est = replace(random_estimator(lm), direct=np.ones((lm.num_layers, lm.num_heads), np.float32))
    with pytest.raises(at2.At2Error, match="use replay and attribute"):
        at2.attribute_given(lm, TASK, "It is Paris.", est)


def test_a_target_is_no_source_of_itself(made):
    lm, gen = made("llama")
    gen = at2.replay(lm, TASK, "It is Paris. The fox knows. Berlin sleeps.")
    est = random_estimator(lm)
    att = at2.attribute(lm, gen, est, "sentence", "all")
    second = gen.text.index("The"), gen.text.index("Berlin") - 1
    rows = [t for t, (a, b) in enumerate(gen.response_offsets) if a < second[1] and b > second[0]]
    plain = np.einsum("lh,lhtn->tn", est.theta, plain_attention(lm, gen, own=True))[rows].mean(0)
    before = len(gen.prompt_ids) + rows[0]
    expected = [plain[s.token_start : min(s.token_end, before)].sum() for s in att.sources]
    assert np.abs(att.for_span(*second) - expected).max() < 1e-5
    roles = [s.role for s in att.sources]
    values = dict(
        zip(
            [s.text for s in att.sources if s.role == "response"],
            att.for_span(*second)[roles.index("response") :],
            strict=True,
        )
    )
    assert values["It is Paris. "]
    assert not values["The fox knows. "]
    assert not values["Berlin sleeps."]


def test_one_heads_pattern_over_the_response_equals_eager(made):
    from at2_core.attribution import whole_head_attention

    lm, gen = made("gemma3")
    plain = plain_attention(lm, gen, own=True)
    assert np.abs(whole_head_attention(lm, gen, 1, 2) - plain[1, 2]).max() < 1e-5


@pytest.mark.parametrize("kind", KINDS)
def test_one_heads_pattern_equals_eager(made, kind):
    lm, gen = made(kind)
    plain = plain_attention(lm, gen)
    for layer in range(lm.num_layers):
        for head in range(lm.num_heads):
            assert np.abs(at2.head_attention(lm, gen, layer, head) - plain[layer, head]).max() < 1e-5


def test_features_times_theta_are_the_scores(made):
    lm, gen = made("llama")
    est = random_estimator(lm)
    features = at2.head_features(lm, gen, "sentence")
    scores = at2.attribute(lm, gen, est, "sentence").scores
    assert features.shape == (lm.num_layers, lm.num_heads, *scores.shape)
    assert np.abs(np.einsum("lh,lhts->ts", est.theta, features) - scores).max() < 1e-5


def test_features_of_a_target_are_the_mean_over_its_rows(made):
    lm, gen = made("llama")
    sources = at2.cut(gen.rendered, "sentence")
    mean = source_features(lm, gen, sources, [slice(2, 7)])[:, :, 0].numpy()
    assert np.abs(mean - at2.head_features(lm, gen, "sentence")[:, :, 2:7].mean(2)).max() < 1e-6


def test_coarser_sources_sum_finer_ones(made):
    lm, gen = made("llama")
    est = random_estimator(lm)
    totals = [at2.attribute(lm, gen, est, g).scores.sum(1) for g in at2.GRANULARITIES]
    for total in totals[1:]:
        assert np.abs(total - totals[0]).max() < 1e-4


def test_a_span_is_the_mean_over_the_tokens_it_touches(made):
    lm, gen = made("llama")
    att = at2.attribute(lm, gen, random_estimator(lm), "sentence")
    assert np.allclose(att.for_span(0, len(gen.text)), att.scores.mean(0), atol=1e-6)
    start, end = next(span for span in gen.response_offsets if span[1] > span[0])
    rows = [t for t, (a, b) in enumerate(gen.response_offsets) if a < end and b > start]
    assert np.allclose(att.for_span(start, end), att.scores[rows].mean(0), atol=1e-6)
    assert not att.for_span(len(gen.text) + 5, len(gen.text) + 9).any()


def test_average_attention_of_everything_sums_to_at_most_one(made):
    lm, gen = made("llama")
    att = at2.attribute(lm, gen, at2.uniform_estimator(lm), "document")
    assert (att.scores >= 0).all()
    assert (att.scores.sum(1) < 1).all()


def test_a_lost_trace_is_read_again(made):
    from dataclasses import replace

    lm, gen = made("gemma3")
    est = random_estimator(lm)
    bare = replace(gen, trace=None)
    assert np.abs(at2.attribute(lm, bare, est).scores - at2.attribute(lm, gen, est).scores).max() < 1e-5


def test_an_estimator_of_another_shape_or_another_model_is_refused(made, tiny_model):
    lm, gen = made("llama")
    wide = at2.Estimator(np.ones((3, 5), np.float32), "wide", "other")
    with pytest.raises(at2.EstimatorMismatch, match="3 layers of 5 heads"):
        at2.attribute(lm, gen, wide)
    with pytest.raises(at2.EstimatorMismatch, match="weights differ"):
        at2.attribute(lm, gen, at2.uniform_estimator(tiny_model("gpt2")))


def test_a_head_outside_the_model_is_named(made):
    lm, gen = made("llama")
    with pytest.raises(at2.At2Error, match="layer 9, head 0"):
        at2.head_attention(lm, gen, 9, 0)


def test_sums_of_small_scores_keep_their_digits():
    """A difference of running sums would lose the small source behind the large one."""
    scores = np.full((1, 1000), 1e-7, np.float32)
    scores[0, 0] = 1000
    sources = [at2.Source("", 0, 0, 0, 1, 0), at2.Source("", 0, 0, 500, 510, 0)]
    assert sum_to_sources(scores, sources)[0, 1] == pytest.approx(1e-6, rel=1e-4)


def test_scores_do_not_depend_on_torchs_default_type(tiny_lm):
    """Loading a model in one thread changes the default type in all of them."""
    gen = at2.generate(
        tiny_lm, at2.ContextTask(context="The fox runs. Berlin is far.", query="Who runs?"), max_new_tokens=6
    )
    est = at2.uniform_estimator(tiny_lm)
    scores, features = at2.token_scores(tiny_lm, gen, est), at2.head_features(tiny_lm, gen)
    torch.set_default_dtype(torch.bfloat16)
    try:
        assert np.array_equal(at2.token_scores(tiny_lm, gen, est), scores)
        assert np.array_equal(at2.head_features(tiny_lm, gen), features)
    finally:
        torch.set_default_dtype(torch.float32)


def test_a_split_model_gives_the_same(tiny_folder):
    """Without a GPU everything lands on the CPU, by the same road (accelerate)."""
    folder = str(tiny_folder("llama"))
    whole, split = (at2.load_model(folder, device=device, dtype="float32") for device in ("cpu", "split"))
    task = at2.ContextTask(context="The fox runs. Berlin is far.", query="Who runs?")
    est = at2.uniform_estimator(whole)
    scores = [at2.token_scores(lm, at2.generate(lm, task, max_new_tokens=6), est) for lm in (whole, split)]
    assert np.allclose(*scores, atol=1e-6)
    gen = at2.generate(split, task, max_new_tokens=6)
    sources = at2.cut(gen.rendered, "word")
    keep = at2.random_keep(4, len(sources), np.random.default_rng(0))
    assert np.allclose(
        at2.ablate(split, gen, sources, keep), at2.ablate(whole, gen, sources, keep), atol=1e-5
    )
