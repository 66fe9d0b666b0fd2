"""Ablation by leaving out equals ablation by masking, and outcomes are exact at both ends."""

from __future__ import annotations

import threading

import numpy as np
import pytest
import torch

import at2_core as at2
from at2_core import ablation

TASK = at2.ContextTask(
    context="The fox runs away. The dog sleeps in the sun. Paris is far. Berlin is near. It is 1969.",
    query="Who?",
)


def setup(lm, granularity="sentence", count=12, tokens=8):
    gen = at2.generate(lm, TASK, max_new_tokens=tokens, temperature=1.0, seed=2)
    sources = at2.cut(gen.rendered, granularity)
    return gen, sources, at2.random_keep(count, len(sources), np.random.default_rng(0))


@pytest.mark.parametrize("kind", ["llama", "qwen3", "gpt2"])
@pytest.mark.parametrize("granularity", ["token", "sentence"])
def test_leaving_out_equals_masking(tiny_model, kind, granularity):
    lm = tiny_model(kind)
    gen, sources, keep = setup(lm, granularity)
    assert ablation.can_drop(lm, 100)
    dropped = at2.ablate(lm, gen, sources, keep, method="drop")
    masked = at2.ablate(lm, gen, sources, keep, method="mask")
    assert dropped.shape == (len(keep), gen.num_tokens)
    assert dropped.dtype == np.float32
    difference = np.abs(dropped - masked).max()
    print(
        f"{kind}, {granularity}: largest difference to masked ablation {difference:.1e}"
    )  # shown by pytest -rP
    assert difference < 1e-4
    assert np.ptp(masked, axis=0).max() > 1e-3, (
        "the ablations must change something for this to mean anything"
    )


def test_masking_equals_a_four_dimensional_mask_by_hand(tiny_lm):
    """The second computation shares nothing with ours: an additive mask over single full-length passes."""
    gen, sources, keep = setup(tiny_lm, count=5)
    ids = torch.tensor([gen.prompt_ids + gen.response_ids])
    size, n = ids.shape[1], len(gen.prompt_ids)
    expected = []
    for row in keep:
        mask = torch.full((size, size), -1e9).triu(1)
        for source, kept in zip(sources, row, strict=True):
            if not kept:
                mask[:, source.token_start : source.token_end] = -1e9
        with torch.inference_mode():
            logits = tiny_lm.model(
                ids, attention_mask=mask[None, None], position_ids=torch.arange(size)[None]
            ).logits
        p = torch.softmax(logits[0, n - 1 : -1].double(), -1)[torch.arange(gen.num_tokens), gen.response_ids]
        expected.append(torch.log(p / (1 - p)))
    got = at2.ablate(tiny_lm, gen, sources, keep)
    assert np.abs(got - torch.stack(expected).numpy()).max() < 1e-4


def test_a_window_shorter_than_the_prompt_falls_back_to_the_mask(tiny_model):
    lm = tiny_model("gemma3")
    gen, sources, keep = setup(lm)
    assert not ablation.can_drop(lm, len(gen.prompt_ids))
    auto = at2.ablate(lm, gen, sources, keep)
    assert np.abs(auto - at2.ablate(lm, gen, sources, keep, method="mask")).max() < 1e-5
    assert np.abs(auto - at2.ablate(lm, gen, sources, keep, method="drop")).max() > 1e-3, (
        "dropping would be wrong here"
    )


def test_positions_that_are_not_honoured_are_found_out(tiny_lm, monkeypatch):
    forward = type(tiny_lm.model).forward

    def by_index(self, input_ids, attention_mask=None, position_ids=None, **rest):
        return forward(self, input_ids, attention_mask=attention_mask, **rest)

    monkeypatch.setattr(type(tiny_lm.model), "forward", by_index)
    monkeypatch.setattr(ablation, "_droppable", {})
    assert not ablation.can_drop(tiny_lm, 100)


def test_keeping_everything_gives_the_responses_own_probabilities(tiny_lm):
    gen, sources, _ = setup(tiny_lm)
    kept = at2.ablate(tiny_lm, gen, sources, np.ones((1, len(sources)), bool))[0]
    assert np.abs(-np.logaddexp(0, -kept) - gen.logprobs).max() < 1e-4


def test_small_batches_change_nothing(tiny_lm, monkeypatch):
    gen, sources, keep = setup(tiny_lm, "word", count=20)
    whole = at2.ablate(tiny_lm, gen, sources, keep)
    monkeypatch.setattr(ablation, "BATCH_TOKENS", 130)
    assert np.abs(at2.ablate(tiny_lm, gen, sources, keep) - whole).max() < 1e-4


def test_with_and_without_a_shared_prefix_is_the_same(tiny_lm, monkeypatch):
    gen, sources, keep = setup(tiny_lm, "word", count=20)
    results = []
    for share in (0.0, 1.0):
        monkeypatch.setattr(ablation, "PREFIX_SHARE", share)
        results.append(at2.ablate(tiny_lm, gen, sources, keep, method="drop"))
    assert np.abs(results[0] - results[1]).max() < 1e-4


def test_what_begins_like_the_prompt_goes_on_from_its_cache(tiny_lm, monkeypatch):
    gen, sources, keep = setup(tiny_lm, "sentence", count=24)
    keep = np.concatenate([keep, np.ones((1, len(sources)), bool), ~np.eye(len(sources), dtype=bool)])
    fed = []
    forward = ablation._forward
    monkeypatch.setattr(
        ablation,
        "_forward",
        lambda lm, gen, kept, prefix, past: (
            fed.append(sum(len(own) - prefix for own in kept)) or forward(lm, gen, kept, prefix, past)
        ),
    )
    results = []
    for share in (0.15, 9.0):  # the second: no ablation is late enough
        monkeypatch.setattr(ablation, "LATE_SHARE", share)
        results.append((at2.ablate(tiny_lm, gen, sources, keep, method="drop"), sum(fed)))
        fed.clear()
    (cached, few), (plain, many) = results
    assert np.abs(cached - plain).max() < 1e-4
    assert np.abs(cached - at2.ablate(tiny_lm, gen, sources, keep, method="mask")).max() < 1e-4
    assert few < 0.85 * many, "fewer tokens are fed"


def test_on_cuda_a_batch_takes_what_the_card_has_room_for(tiny_lm, monkeypatch):
    from dataclasses import replace

    card = replace(tiny_lm, device=torch.device("cuda", 0))
    sizes = []
    for free in (1e6, 1e9, 1e10):
        monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device, free=free: (int(free), int(1e11)))
        sizes.append(ablation.batch_tokens(card, 10, 100))
    assert sizes[0] == ablation.BATCH_TOKENS == ablation.batch_tokens(tiny_lm, 10, 100)
    assert sizes[0] < sizes[1] < sizes[2]
    assert sizes[2] == pytest.approx(10 * sizes[1], rel=0.01)


@pytest.mark.parametrize("prefix", [0, 300])
def test_copies_of_a_long_beginning_are_bounded(prefix):
    batches = list(ablation._batches(list(range(40)), [10] * 40, 1024, max(1, 8 * 1024 // (prefix + 1))))
    assert sorted(i for rows in batches for i in rows) == list(range(40))
    assert max(len(rows) * prefix for rows in batches) <= 8 * 1024
    assert len(batches) == (1 if prefix == 0 else 2)


@pytest.mark.parametrize(
    "kept", [[[0, 1, 2, 3, 4, 9]], [[0, 5, 9], [0, 6, 9]], [[0, 1, 2, 3, 4, 5, 6, 7, 8, 9]] * 2]
)
def test_groups_hold_every_ablation_once_and_leave_the_last_token(kept):
    groups = ablation._by_beginning([np.array(own) for own in kept], 10)
    assert sorted(i for members in groups.values() for i in members) == list(range(len(kept)))
    assert max(groups) <= 9


@pytest.mark.parametrize("tokens", [0, 1])
def test_responses_of_no_or_one_token_work(tiny_lm, tokens):
    gen, sources, keep = setup(tiny_lm, tokens=tokens)
    assert at2.ablate(tiny_lm, gen, sources, keep).shape == (len(keep), tokens)


def test_a_keep_of_the_wrong_shape_is_refused(tiny_lm):
    gen, sources, keep = setup(tiny_lm)
    with pytest.raises(ValueError, match=f"{len(sources)} sources"):
        at2.ablate(tiny_lm, gen, sources, keep[:, 1:])


def test_ablations_can_be_stopped(tiny_lm):
    gen, sources, keep = setup(tiny_lm)
    cancel = threading.Event()
    cancel.set()
    with pytest.raises(at2.Cancelled):
        at2.ablate(tiny_lm, gen, sources, keep, cancel=cancel)


def test_outcomes_follow_the_definition_and_survive_both_ends():
    x = np.array([[0.3, -1.2, 2.0], [5.0, 4.0, 6.0]])
    p = np.prod(1 / (1 + np.exp(-x)), axis=-1)
    assert np.allclose(at2.log_prob(x), np.log(p))
    assert np.allclose(at2.outcome(x), np.log(p / (1 - p)))
    assert at2.outcome(np.array([37.0])) == 37.0
    sure, hopeless = at2.outcome(np.array([60.0, 60.0])), at2.outcome(np.array([-800.0, -900.0]))
    assert sure == pytest.approx(60 - np.log(2), abs=1e-6)
    assert hopeless == pytest.approx(-1700)


@pytest.mark.default_model
def test_on_the_default_model_leaving_out_equals_masking(default_lm):
    gen, sources, keep = setup(default_lm, "token", count=8, tokens=12)
    dropped = at2.ablate(default_lm, gen, sources, keep, method="drop")
    masked = at2.ablate(default_lm, gen, sources, keep, method="mask")
    difference = np.abs(dropped - masked).max()
    print(f"{default_lm.name}: largest difference to masked ablation {difference:.1e}")
    assert difference < 1e-3
