"""Is this attribution true, here? Remove what it names, measure again, and let the model answer without it.

`remove_top`         the measured drop without the k highest-scored sources, beside that of k random ones
`check`              whether the scores predict what random ablations of this very example do
`answer_without`     what the model says when sources are hidden

A target is a range of the response's rows, or an array of them; drops are in nats of the target.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from scipy import stats
from transformers import DynamicCache

from .ablation import BATCH_TOKENS, ablate, can_drop, kept_tokens, log_prob, outcome, random_keep
from .errors import Cancelled
from .generation import Detokenizer, Generation, end_ids, forward_parameters, last_logits
from .measures import lds, ranking, without_top
from .models import LanguageModel
from .sources import Source

RANDOM_DRAWS = 5
SHUFFLES = 500


@dataclass(frozen=True)
class Removal:
    """Sources taken away. removed: their numbers. share: their part of all sources' absolute scores. drop: what the target lost
    of its log-probability, in nats."""

    removed: tuple[int, ...]
    share: float
    drop: float


@dataclass(frozen=True)
class Verified:
    """top: without the k highest-scored sources; random: without k random others, several times."""

    top: Removal
    random: tuple[Removal, ...]


@dataclass(frozen=True)
class Check:
    """What random ablations did, and what the scores said of them.

    lds: Spearman correlation of predicted and outcomes, nan where either is constant. predicted (M,): sums of the kept sources'
    scores. outcomes (M,): logit of the target's probability. nats_per_score: slope of the target's log-probability over
    predicted, so that a score can be read as a drop; 0 where there is none. chance, chance_high: mean and 95 % quantile of the
    LDS of the same scores, shuffled over the sources; positive scores predict something wherever they stand, since every
    source that stays helps. nan where lds is.
    """

    lds: float
    predicted: np.ndarray
    outcomes: np.ndarray
    nats_per_score: float
    chance: float = float("nan")
    chance_high: float = float("nan")


def remove_top(
    lm: LanguageModel,
    gen: Generation,
    sources: Sequence[Source],
    scores: np.ndarray,
    target: slice | np.ndarray,
    k: int,
    *,
    draws: int = RANDOM_DRAWS,
    seed: int = 0,
    on_progress: Callable[[int, int], None] | None = None,
    cancel: threading.Event | None = None,
) -> Verified:
    """What the target loses without its k highest-scored sources, and without k random ones. scores: (S,).

    The random ones are others, different each time, as long as there are k others: `draws` times at most. Then from all.
    on_progress gets how many ablations are measured, and of how many. Raises Cancelled.
    """
    rng = np.random.default_rng([seed, k])
    k = min(k, len(sources))
    keep = [np.ones(len(sources), bool), without_top(ranking(scores, rng), k)]
    keep += _random_keep(keep[1], k, draws, rng)
    log_probs = log_prob(_measured(lm, gen, sources, np.stack(keep), on_progress, cancel)[:, target])
    whole = float(np.abs(scores).sum()) or 1.0
    found = [
        Removal(
            tuple(int(s) for s in np.flatnonzero(~row)),
            float(np.abs(scores[~row]).sum()) / whole,
            float(log_probs[0] - log_probs[i]),
        )
        for i, row in enumerate(keep)
    ]
    return Verified(found[1], tuple(found[2:]))


def _random_keep(top: np.ndarray, k: int, draws: int, rng: np.random.Generator) -> list[np.ndarray]:
    """Keep-vectors without k sources that `top` keeps; without k of all where it keeps fewer."""
    others = np.flatnonzero(top)
    if len(others) < k:
        return [without_top(rng.permutation(len(top)), k) for _ in range(draws)]
    drawn: dict[tuple[int, ...], None] = {}
    while len(drawn) < min(draws, math.comb(len(others), k)):
        drawn[tuple(sorted(rng.choice(others, k, replace=False).tolist()))] = None
    return [~np.isin(np.arange(len(top)), removed) for removed in drawn]


def check(
    lm: LanguageModel,
    gen: Generation,
    sources: Sequence[Source],
    scores: np.ndarray,
    target: slice | np.ndarray,
    *,
    num_ablations: int = 32,
    seed: int = 0,
    on_progress: Callable[[int, int], None] | None = None,
    cancel: threading.Event | None = None,
) -> Check:
    """LDS of these scores (S,) on this example alone. on_progress: as in remove_top. Raises Cancelled."""
    keep = random_keep(num_ablations, len(sources), np.random.default_rng(seed))
    measured = _measured(lm, gen, sources, keep, on_progress, cancel)[:, target]
    return judged(scores, keep, measured)


def _measured(
    lm: LanguageModel,
    gen: Generation,
    sources: Sequence[Source],
    keep: np.ndarray,
    on_progress: Callable[[int, int], None] | None,
    cancel: threading.Event | None,
) -> np.ndarray:
    """What `ablate` gives, float32 (M, T), a batch's worth at a time where somebody follows it."""
    if on_progress is None:
        return ablate(lm, gen, sources, keep, cancel=cancel)
    distinct, inverse = np.unique(keep, axis=0, return_inverse=True)
    size = max(1, 2 * BATCH_TOKENS // (len(gen.rendered.ids) + gen.num_tokens))
    pieces = []
    for start in range(0, len(distinct), size):
        on_progress(start, len(distinct))
        pieces.append(ablate(lm, gen, sources, distinct[start : start + size], cancel=cancel))
    on_progress(len(distinct), len(distinct))
    return np.concatenate(pieces)[inverse.reshape(-1)]


def judged(scores: np.ndarray, keep: np.ndarray, logit_probs: np.ndarray) -> Check:
    """The check of scores (S,) against ablations keep (M, S) and the target's token logit-probabilities (M, tokens)."""
    predicted = keep.astype(np.float64) @ np.asarray(scores, np.float64)
    outcomes = outcome(logit_probs)
    spread = float(np.var(predicted))
    slope = float(np.cov(predicted, log_prob(logit_probs), bias=True)[0, 1]) / spread if spread > 0 else 0.0
    correlation = lds(np.asarray(scores), keep, outcomes)
    mean = high = float("nan")
    if not np.isnan(correlation):
        shuffled = _by_chance(np.asarray(scores, np.float64), keep, outcomes)
        mean, high = float(np.mean(shuffled)), float(np.quantile(shuffled, 0.95))
    return Check(correlation, predicted, outcomes, max(0.0, slope), mean, high)


def _by_chance(scores: np.ndarray, keep: np.ndarray, outcomes: np.ndarray) -> np.ndarray:
    """LDS of the scores in other orders: (at most SHUFFLES,)."""
    rng = np.random.default_rng(0)
    orders = rng.permuted(np.tile(scores, (SHUFFLES, 1)), axis=1)
    predicted = stats.rankdata(keep.astype(np.float64) @ orders.T, axis=0)  # (M, SHUFFLES)
    ranks = stats.rankdata(outcomes)
    predicted -= predicted.mean(axis=0)
    ranks -= ranks.mean()
    spread = np.sqrt((predicted**2).sum(axis=0) * (ranks**2).sum())
    return (predicted.T @ ranks)[spread > 0] / spread[spread > 0]


@torch.inference_mode()
def answer_without(
    lm: LanguageModel,
    gen: Generation,
    sources: Sequence[Source],
    keep: np.ndarray,
    *,
    max_new_tokens: int,
    on_token: Callable[[str], None] | None = None,
    cancel: threading.Event | None = None,
) -> str:
    """The likeliest response while the sources that keep (S,) drops are hidden, and all others stay at their positions.

    on_token gets the text so far. It is cut where the model's window ends. Raises Cancelled.
    """
    n = len(gen.rendered.ids)
    max_new_tokens = min(max_new_tokens, lm.max_length - n)
    kept = torch.from_numpy(kept_tokens(n, sources, np.asarray(keep, bool))).to(lm.device)
    ids = torch.tensor([gen.rendered.ids], device=lm.device)
    dropping = can_drop(lm, n + max_new_tokens)
    feed = ids[:, kept] if dropping else ids
    positions = kept[None] if dropping else torch.arange(n, device=lm.device)[None]
    mask = torch.zeros(1, n, dtype=torch.long, device=lm.device)
    mask[0, kept] = 1
    if dropping:
        mask = mask[:, kept]
    cache, ends, detokenizer = DynamicCache(), end_ids(lm), Detokenizer(lm.tokenizer)
    takes_positions = dropping or "position_ids" in forward_parameters(lm)
    for step in range(max_new_tokens):
        if cancel is not None and cancel.is_set():
            raise Cancelled("The answer without these sources was stopped.")
        logits = lm.model(
            feed,
            attention_mask=mask,
            past_key_values=cache,
            use_cache=True,
            **({"position_ids": positions} if takes_positions else {}),
            **last_logits(lm, 1, feed.shape[1]),
        ).logits[0, -1]
        token = int(logits.float().argmax())
        if token in ends:
            break
        detokenizer.add(token)
        if on_token is not None:
            on_token(detokenizer.text)
        feed = torch.tensor([[token]], device=lm.device)
        positions = torch.tensor([[n + step]], device=lm.device)
        mask = torch.cat([mask, mask.new_ones(1, 1)], dim=1)
    return detokenizer.finish()[0]
