"""What a removal measures, what a check says, and what a model answers without sources, each computed a second way."""

from __future__ import annotations

import itertools
import threading

import numpy as np
import pytest
import torch
from scipy import stats

import at2_core as at2
from at2_core import ablation
from at2_core.errors import Cancelled
from at2_core.verification import answer_without, check, judged, remove_top

TASK = at2.ContextTask(
    context="The fox runs away. The dog sleeps in the sun. Paris is far. Berlin is near. It is 1969.",
    query="Who?",
)
TOKENS = 12


@pytest.fixture(scope="module")
def given(tiny_lm):
    """(lm, generation, its sentences, scores of them)"""
    gen = at2.generate(tiny_lm, TASK, max_new_tokens=TOKENS, temperature=1.0, seed=2)
    sources = at2.cut(gen.rendered, "sentence")
    return tiny_lm, gen, sources, np.random.default_rng(3).normal(size=len(sources))


def dropped(sources, *numbers: int) -> np.ndarray:
    keep = np.ones(len(sources), bool)
    keep[list(numbers)] = False
    return keep


# ------------------------------------------------------------------------------------------- the answer without


@pytest.mark.parametrize("kind", ["llama", "qwen3", "gemma3", "gpt2"])
def test_with_nothing_removed_the_answer_is_the_likeliest_response(tiny_model, kind):
    lm = tiny_model(kind)
    gen = at2.generate(lm, TASK, max_new_tokens=TOKENS)
    sources = at2.cut(gen.rendered, "sentence")
    assert gen.text
    assert answer_without(lm, gen, sources, dropped(sources), max_new_tokens=TOKENS) == gen.text


def masked_by_hand(lm, gen, sources, keep, count: int) -> str:
    """Full-length passes without a cache, hidden tokens masked: nothing is shared with the way that is tested."""
    ids, hidden = list(gen.prompt_ids), set()
    for source, kept in zip(sources, keep, strict=True):
        hidden |= set() if kept else set(range(source.token_start, source.token_end))
    ends = {lm.model.generation_config.eos_token_id, lm.tokenizer.eos_token_id}
    for _ in range(count):
        mask = torch.tensor([[int(i not in hidden) for i in range(len(ids))]])
        with torch.inference_mode():
            logits = lm.model(
                torch.tensor([ids]),
                attention_mask=mask,
                position_ids=torch.arange(len(ids))[None],
                use_cache=False,
            ).logits[0, -1]
        token = int(logits.argmax())
        if token in ends:
            break
        ids.append(token)
    said = ids[len(gen.prompt_ids) :]
    return lm.tokenizer.decode(said, skip_special_tokens=False, clean_up_tokenization_spaces=False)


@pytest.mark.parametrize("kind", ["llama", "qwen3", "gemma3", "gpt2"])
def test_without_sources_the_answer_is_that_of_a_masked_prompt(tiny_model, kind):
    lm = tiny_model(kind)
    gen = at2.generate(lm, TASK, max_new_tokens=TOKENS)
    sources = at2.cut(gen.rendered, "sentence")
    assert ablation.can_drop(lm, len(gen.prompt_ids) + TOKENS) == (kind != "gemma3")  # its window is shorter
    answers = set()
    for numbers in ((0,), (1, 3), (0, 1, 2, 3, 4)):
        keep = dropped(sources, *numbers)
        said = answer_without(lm, gen, sources, keep, max_new_tokens=TOKENS)
        assert said == masked_by_hand(lm, gen, sources, keep, TOKENS)
        answers.add(said)
    assert len(answers | {gen.text}) > 1, "the removals must change something for this to mean anything"


def test_the_text_so_far_grows_to_the_answer(given):
    lm, gen, sources, _ = given
    seen: list[str] = []
    said = answer_without(lm, gen, sources, dropped(sources, 1), max_new_tokens=TOKENS, on_token=seen.append)
    assert 0 < len(seen) <= TOKENS
    assert all(later.startswith(earlier) for earlier, later in itertools.pairwise(seen))
    assert said.startswith(seen[-1])


# ------------------------------------------------------------------------------------------------- the removal


@pytest.mark.parametrize("k", [1, 3])
def test_drops_are_differences_of_log_probabilities(given, k):
    lm, gen, sources, scores = given
    target = slice(2, 7)
    found = remove_top(lm, gen, sources, scores, target, k)
    assert set(found.top.removed) == set(np.argsort(-scores)[:k].tolist())
    assert found.top.share == pytest.approx(np.sort(scores)[-k:].__abs__().sum() / np.abs(scores).sum())
    assert len({removal.removed for removal in found.random}) > 1
    for removal in (found.top, *found.random):
        assert len(removal.removed) == k
        both = np.stack([dropped(sources), dropped(sources, *removal.removed)])
        whole, without = at2.ablate(lm, gen, sources, both, method="mask").astype(np.float64)[:, target]
        expected = np.log1p(np.exp(-without)).sum() - np.log1p(np.exp(-whole)).sum()
        assert removal.drop == pytest.approx(expected, abs=1e-3)
    assert abs(found.top.drop) > 1e-3


def test_random_sources_are_others_and_each_time_different_ones(given):
    lm, gen, sources, scores = given
    found = remove_top(lm, gen, sources, scores, slice(2, 7), 1)
    drawn = [removal.removed for removal in found.random]
    assert sorted(drawn) == sorted((s,) for s in range(len(sources)) if (s,) != found.top.removed)
    found = remove_top(lm, gen, sources, scores, slice(2, 7), 2, draws=2)
    drawn = [removal.removed for removal in found.random]
    assert len(set(drawn)) == 2
    assert not {s for removed in drawn for s in removed} & set(found.top.removed)
    assert len(remove_top(lm, gen, sources, scores, slice(2, 7), 4).random) == 5, "there are no four others"


def test_the_same_is_measured_whether_it_is_followed_or_not(given):
    lm, gen, sources, scores = given
    told: list[tuple[int, int]] = []
    target = slice(0, gen.num_tokens)
    followed = remove_top(lm, gen, sources, scores, target, 2, on_progress=lambda *t: told.append(t))
    plain = remove_top(lm, gen, sources, scores, target, 2)
    assert [r.removed for r in followed.random] == [r.removed for r in plain.random]
    assert followed.top.drop == pytest.approx(plain.top.drop, abs=1e-4)
    assert told[0][0] == 0
    assert told[-1][0] == told[-1][1] <= 7
    told.clear()
    outcomes = check(lm, gen, sources, scores, target, on_progress=lambda *t: told.append(t)).outcomes
    assert outcomes == pytest.approx(check(lm, gen, sources, scores, target).outcomes, abs=1e-3)
    assert told[-1][0] == told[-1][1] <= 32  # five sources: some of the 32 are alike, and are measured once


# --------------------------------------------------------------------------------------------------- the check


def test_a_check_is_spearmans_correlation_and_a_least_squares_slope(given):
    lm, gen, sources, scores = given
    target = slice(1, 6)
    found = check(lm, gen, sources, scores, target, num_ablations=24, seed=5)
    keep = at2.random_keep(24, len(sources), np.random.default_rng(5))
    measured = at2.ablate(lm, gen, sources, keep)[:, target].astype(np.float64)
    predicted = np.array([scores[row].sum() for row in keep])
    log_p = -np.log1p(np.exp(-measured)).sum(axis=1)
    outcome = log_p - np.log1p(-np.exp(log_p))
    assert found.predicted == pytest.approx(predicted)
    assert found.outcomes == pytest.approx(outcome, abs=1e-3)
    assert found.lds == pytest.approx(stats.spearmanr(predicted, outcome).statistic, abs=1e-6)
    slope = np.polyfit(predicted, log_p, 1)[0]
    assert found.nats_per_score == pytest.approx(max(0.0, slope), rel=1e-3, abs=1e-6)


def test_scores_in_nats_predict_their_own_drop():
    """Sources that add up: each is worth so many nats, and the scores say so in a unit of their own."""
    worth = np.array([3.0, 1.0, 0.5, 0.25])
    keep = at2.random_keep(40, 4, np.random.default_rng(0))
    log_p = keep @ worth - 6.0
    logit = log_p - np.log1p(-np.exp(log_p))
    found = judged(worth / 100, keep, logit[:, None])
    assert found.lds == pytest.approx(1)
    assert found.nats_per_score == pytest.approx(100)
    assert (
        judged(-worth, keep, logit[:, None]).nats_per_score == 0
    )  # no score predicts the opposite of itself


def test_scores_or_outcomes_that_do_not_vary_have_no_correlation():
    keep = at2.random_keep(16, 3, np.random.default_rng(0))
    assert np.isnan(judged(np.zeros(3), keep, np.random.default_rng(1).normal(size=(16, 2))).lds)
    assert judged(np.zeros(3), keep, np.ones((16, 2))).nats_per_score == 0
    assert np.isnan(judged(np.arange(3.0), keep, np.ones((16, 2))).lds)


# -------------------------------------------------------------------------------------------------- stopping it


def test_what_is_cancelled_raises(given):
    lm, gen, sources, scores = given
    stop = threading.Event()
    stop.set()
    target = slice(0, gen.num_tokens)
    with pytest.raises(Cancelled):
        remove_top(lm, gen, sources, scores, target, 1, cancel=stop)
    with pytest.raises(Cancelled):
        check(lm, gen, sources, scores, target, on_progress=lambda *_: None, cancel=stop)
    with pytest.raises(Cancelled):
        answer_without(lm, gen, sources, dropped(sources, 0), max_new_tokens=4, cancel=stop)


def test_an_answer_can_be_stopped_in_its_middle(given):
    lm, gen, sources, _ = given
    stop, seen = threading.Event(), []

    def tell(text: str) -> None:
        seen.append(text)
        if len(seen) == 2:
            stop.set()

    with pytest.raises(Cancelled):
        answer_without(lm, gen, sources, dropped(sources), max_new_tokens=TOKENS, on_token=tell, cancel=stop)
    assert len(seen) == 2
