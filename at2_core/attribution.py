"""theta times attention, summed to sources: how much each source counts towards each response token.

`attribute`        scores (response, sources) at any granularity, for the context, the prompt or the response so far
`attribute_given`  the same of a given response, in one pass that keeps nothing
`span_scores`      one target's scores from the tokens' scores
`head_attention`   one head's pattern (response, prompt)
`head_features`    every head's attention per source (layers, heads, response, sources)

All read the trace that `generate` and `replay` leave; none runs the model, unless the trace is gone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from .attention import Trace, Written, contract, visit
from .eager import EagerTrace
from .errors import At2Error
from .estimator import Estimator, check_estimator
from .generation import Generation, replay_scored, retrace
from .models import LanguageModel
from .prompts import ContextTask
from .readout import find_readout, no_readout, written_queries
from .sources import OWN_ROLES, REACHING, Source, cut, cut_all
from .thoughts import Markers, markers_of


@dataclass(frozen=True)
class Attribution:
    """scores float32 (T, S): how much source s counts towards response token t, by the estimator named.

    A source in the response counts with its tokens before y_t alone; the model sees no others.
    """

    scores: np.ndarray
    sources: list[Source]
    response_offsets: list[tuple[int, int]]
    estimator: str
    granularity: str
    scope: str = "context"
    token_scores: np.ndarray | None = field(default=None, repr=False)  # (T, n + T), where scores reach so far

    def for_span(self, start: int, end: int) -> np.ndarray:
        """float32 (S,): the mean score over the tokens that touch characters [start, end) of the response.

        A source in the response counts with what stands before the span. An empty or outside span gives zeros.
        """
        rows = [t for t, (a, b) in enumerate(self.response_offsets) if a < end and b > start]
        if not rows:
            return np.zeros(len(self.sources), np.float32)
        means = self.scores[rows].mean(axis=0, dtype=np.float32)
        if self.token_scores is None:
            return means
        own = [s for s, source in enumerate(self.sources) if source.role in OWN_ROLES]
        means[own] = span_scores(self.token_scores, [self.sources[s] for s in own], rows[0], rows[-1])
        return means


def attribute(
    lm: LanguageModel,
    gen: Generation,
    est: Estimator,
    granularity: str = "sentence",
    scope: str = "context",
    *,
    markers: Markers | None = None,
) -> Attribution:
    """Scores of every source for every response token (arXiv 2504.13752, section 3).

    score(t, s) = sum over heads of theta[l, h] times the attention from the row that predicts y_t to the source's tokens.
    granularity: "token", "word", "sentence", "paragraph" or "document". scope: "context", "prompt" (all its parts), "thought"
    (of the response itself) or "all" (the prompt and the response so far). markers: what a thought stands between, by
    default as the tokenizer knows them. Raises EstimatorMismatch.
    """
    per_token = (all_token_scores if scope in REACHING else token_scores)(lm, gen, est)
    return _by_source(lm, gen, est, per_token, granularity, scope, markers)


def attribute_given(
    lm: LanguageModel,
    task: ContextTask,
    response: str,
    est: Estimator,
    granularity: str = "sentence",
    scope: str = "context",
    *,
    markers: Markers | None = None,
) -> tuple[Generation, Attribution]:
    """`replay` and `attribute` in one forward pass that keeps no trace: for long prompts, whose queries and keys of all layers
    would take more memory than the pass itself. What is asked of a head later reads the response again.

    Raises what `replay` and `attribute` raise; At2Error for an estimator with direct contributions, which need the trace.
    """
    check_estimator(est, lm)
    if est.direct is not None:
        raise At2Error(
            f"{est.name!r} has direct contributions, which are known only when the response has been read; use replay and "
            "attribute."
        )
    gen, seen = replay_scored(lm, task, response, torch.from_numpy(est.theta)[None])
    reached = np.zeros((gen.num_tokens, len(gen.rendered.ids) + gen.num_tokens), np.float32)
    reached[:, : seen.shape[2]] = seen[0].cpu().numpy()
    per_token = reached if scope in REACHING else reached[:, : len(gen.rendered.ids)]
    return gen, _by_source(lm, gen, est, per_token, granularity, scope, markers)


def _by_source(
    lm: LanguageModel,
    gen: Generation,
    est: Estimator,
    per_token: np.ndarray,
    granularity: str,
    scope: str,
    markers: Markers | None,
) -> Attribution:
    sources = cut_all(gen, granularity, scope, markers=markers or markers_of(lm.tokenizer))
    scores, kept = sum_to_sources(per_token, sources), per_token if scope in REACHING else None
    return Attribution(scores, sources, gen.response_offsets, est.name, granularity, scope, kept)


def token_scores(lm: LanguageModel, gen: Generation, est: Estimator) -> np.ndarray:
    """float32 (T, n): the score of every prompt token, template included; a source's score is the sum over its tokens."""
    check_estimator(est, lm)
    n = len(gen.rendered.ids)
    if not gen.response_ids:
        return np.zeros((0, n), np.float32)
    return _contracted(lm, gen, est, n)


def all_token_scores(lm: LanguageModel, gen: Generation, est: Estimator) -> np.ndarray:
    """float32 (T, n + T): as `token_scores`, and behind them the score of every response token for those after it.

    The row that predicts y_t sees y_1 to y_{t-1}: of the last T columns those from the diagonal on are zero.
    """
    check_estimator(est, lm)
    n, count = len(gen.rendered.ids), gen.num_tokens
    out = np.zeros((count, n + count), np.float32)
    if count:  # the last token has not been read: nothing follows it
        out[:, : n + count - 1] = _contracted(lm, gen, est, n + count - 1)
    return out


def _contracted(lm: LanguageModel, gen: Generation, est: Estimator, num_columns: int) -> np.ndarray:
    written = None if est.direct is None else written_by(lm, gen, torch.from_numpy(est.direct))
    theta = torch.from_numpy(est.theta)
    return contract(trace_of(lm, gen), theta, num_columns, written).cpu().numpy()


def written_by(lm: LanguageModel, gen: Generation, coefficients: Tensor) -> Written:
    """What heads write towards the response's tokens, with a coefficient (layers, heads) each. Raises At2Error where a model's
    heads do not simply add to what is read out."""
    readout = find_readout(lm.model)
    if readout is None:
        raise no_readout(lm.name)
    trace = trace_of(lm, gen)
    assert isinstance(trace, Trace)
    return Written(coefficients, written_queries(readout, trace, gen.response_ids))


def span_scores(token_scores: np.ndarray, sources: Sequence[Source], first: int, last: int) -> np.ndarray:
    """float32 (S,): mean score over response tokens first..last (inclusive) of each source, from scores (T, n) or (T, n + T).

    Of a source in the response only what stands before the target counts: a target is no source of its own.
    """
    count = len(token_scores)
    mean = token_scores[first : last + 1].mean(axis=0, dtype=np.float64)
    if any(source.role in OWN_ROLES for source in sources):
        mean[len(mean) - count + first :] = 0
    return sum_to_sources(mean, sources)


def sum_to_sources(scores: np.ndarray, sources: Sequence[Source]) -> np.ndarray:
    """(..., n) to float32 (..., S): sums over each source's tokens.

    Each sum is taken over its own range, not as a difference of running sums: that would cancel digits.
    """
    out = np.zeros((*scores.shape[:-1], len(sources)), np.float32)
    for s, source in enumerate(sources):
        out[..., s] = scores[..., source.token_start : source.token_end].sum(axis=-1, dtype=np.float32)
    return out


def head_attention(lm: LanguageModel, gen: Generation, layer: int, head: int) -> np.ndarray:
    """float32 (T, n): one head's softmax weights from each row that predicts a response token to the prompt's tokens.

    Raises At2Error if the model has no such head.
    """
    return whole_head_attention(lm, gen, layer, head)[:, : len(gen.rendered.ids)]


@torch.inference_mode()
def whole_head_attention(lm: LanguageModel, gen: Generation, layer: int, head: int) -> np.ndarray:
    """float32 (T, n + T): as `head_attention`, and the weights to the response's tokens; zero from the diagonal on."""
    if not (0 <= layer < lm.num_layers and 0 <= head < lm.num_heads):
        raise At2Error(
            f"{lm.name} has no layer {layer}, head {head}: layers go from 0 to {lm.num_layers - 1}, heads from 0 to "
            f"{lm.num_heads - 1}."
        )
    n, count = len(gen.rendered.ids), gen.num_tokens
    out = np.zeros((count, n + count), np.float32)

    def take(_: int, rows: slice, block: Tensor) -> None:
        out[rows, : n + count - 1] = block[head, :, : n + count - 1].cpu().numpy()

    if count:
        visit(trace_of(lm, gen), take, only=[layer])
    return out


def head_features(lm: LanguageModel, gen: Generation, granularity: str = "sentence") -> np.ndarray:
    """float32 (layers, heads, T, S): attention of every head, summed over each source's tokens.

    This is a[l, h, t, s] of the paper; with `est.theta` it gives `attribute(...).scores`.
    """
    sources = cut(gen.rendered, granularity)
    rows = [slice(t, t + 1) for t in range(gen.num_tokens)]
    return source_features(lm, gen, sources, rows).cpu().numpy()


@torch.inference_mode()
def source_features(
    lm: LanguageModel,
    gen: Generation,
    sources: Sequence[Source],
    targets: Sequence[slice],
    *,
    direct: bool = False,
) -> Tensor:
    """float32 (layers, heads, targets, sources): attention of every head to each source, mean over each target's rows.

    direct: what every head writes towards the response instead. Raises At2Error where that cannot be told.
    """
    if not gen.response_ids or not sources:
        return torch.zeros(lm.num_layers, lm.num_heads, len(targets), len(sources), dtype=torch.float32)
    trace = trace_of(lm, gen)
    written = written_by(lm, gen, torch.zeros(0)) if direct else None
    # Types are named: loading a model changes torch's default meanwhile, for every thread.
    floats: dict[str, Any] = {"dtype": torch.float32, "device": trace.device}
    mean = torch.zeros(len(targets), trace.num_rows, **floats)
    for i, target in enumerate(targets):
        mean[i, target] = 1 / max(1, target.stop - target.start)
    first, last = sources[0].token_start, sources[-1].token_end
    index = torch.full(
        (last - first,), len(sources), device=trace.device
    )  # tokens between sources fall into a spare column
    for s, source in enumerate(sources):
        index[source.token_start - first : source.token_end - first] = s
    out = torch.zeros(trace.num_layers, trace.num_heads, len(targets), len(sources), **floats)

    def add(layer: int, rows: slice, block: Tensor) -> None:
        if written is not None:
            block = written.block(trace, layer, rows, block)
        block = block[:, :, first:last].to(trace.device)
        summed = torch.zeros(*block.shape[:2], len(sources) + 1, **floats).index_add_(2, index, block)
        out[layer] += torch.einsum("gt,hts->hgs", mean[:, rows], summed[:, :, :-1])

    visit(trace, add)
    return out


def trace_of(lm: LanguageModel, gen: Generation) -> Trace | EagerTrace:
    """The generation's trace, read again if it is gone."""
    trace = retrace(lm, gen).trace
    assert trace is not None
    return trace
