"""theta times attention, summed to sources: how much each source counts towards each response token.

`attribute`        scores (response, sources) at any granularity
`head_attention`   one head's pattern (response, prompt)
`head_features`    every head's attention per source (layers, heads, response, sources)

All three read the trace that `generate` and `replay` leave; none runs the model, unless the trace is gone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from .attention import Trace, blocks, contract, weights
from .errors import At2Error
from .estimator import Estimator, check_estimator
from .generation import Generation, retrace
from .models import LanguageModel
from .sources import Source, cut


@dataclass(frozen=True)
class Attribution:
    """scores float32 (T, S): how much source s counts towards response token t, by the estimator named."""

    scores: np.ndarray
    sources: list[Source]
    response_offsets: list[tuple[int, int]]
    estimator: str
    granularity: str

    def for_span(self, start: int, end: int) -> np.ndarray:
        """float32 (S,): the mean score over the tokens that touch characters [start, end) of the response.

        An empty or outside span gives zeros.
        """
        rows = [t for t, (a, b) in enumerate(self.response_offsets) if a < end and b > start]
        if not rows:
            return np.zeros(len(self.sources), np.float32)
        return self.scores[rows].mean(axis=0, dtype=np.float32)


def attribute(
    lm: LanguageModel, gen: Generation, est: Estimator, granularity: str = "sentence"
) -> Attribution:
    """Scores of every source for every response token (arXiv 2504.13752, section 3).

    score(t, s) = sum over heads of theta[l, h] times the attention from the row that predicts y_t to the source's tokens.
    granularity: "token", "word", "sentence", "paragraph" or "document". Raises EstimatorMismatch.
    """
    sources = cut(gen.rendered, granularity)
    scores = sum_to_sources(token_scores(lm, gen, est), sources)
    return Attribution(scores, sources, gen.response_offsets, est.name, granularity)


def token_scores(lm: LanguageModel, gen: Generation, est: Estimator) -> np.ndarray:
    """float32 (T, n): the score of every prompt token, template included; a source's score is the sum over its tokens."""
    check_estimator(est, lm)
    n = len(gen.rendered.ids)
    if not gen.response_ids:
        return np.zeros((0, n), np.float32)
    return contract(trace_of(lm, gen), torch.from_numpy(est.theta), n).cpu().numpy()


def sum_to_sources(scores: np.ndarray, sources: Sequence[Source]) -> np.ndarray:
    """(..., n) to float32 (..., S): sums over each source's tokens.

    Each sum is taken over its own range, not as a difference of running sums: that would cancel digits.
    """
    out = np.zeros((*scores.shape[:-1], len(sources)), np.float32)
    for s, source in enumerate(sources):
        out[..., s] = scores[..., source.token_start : source.token_end].sum(axis=-1, dtype=np.float32)
    return out


@torch.inference_mode()
def head_attention(lm: LanguageModel, gen: Generation, layer: int, head: int) -> np.ndarray:
    """float32 (T, n): one head's softmax weights from each row that predicts a response token to the prompt's tokens.

    Raises At2Error if the model has no such head.
    """
    if not (0 <= layer < lm.num_layers and 0 <= head < lm.num_heads):
        raise At2Error(
            f"{lm.name} has no layer {layer}, head {head}: layers go from 0 to {lm.num_layers - 1}, heads from 0 to "
            f"{lm.num_heads - 1}."
        )
    n = len(gen.rendered.ids)
    if not gen.response_ids:
        return np.zeros((0, n), np.float32)
    trace = trace_of(lm, gen)
    rows = [
        weights(trace.layers[layer], trace.first_row, block)[head, :, :n]
        for block in blocks(trace.layers[layer])
    ]
    return torch.cat(rows).cpu().numpy()


def head_features(lm: LanguageModel, gen: Generation, granularity: str = "sentence") -> np.ndarray:
    """float32 (layers, heads, T, S): attention of every head, summed over each source's tokens.

    This is a[l, h, t, s] of the paper; with `est.theta` it gives `attribute(...).scores`.
    """
    sources = cut(gen.rendered, granularity)
    rows = [slice(t, t + 1) for t in range(gen.num_tokens)]
    return source_features(lm, gen, sources, rows).cpu().numpy()


@torch.inference_mode()
def source_features(
    lm: LanguageModel, gen: Generation, sources: Sequence[Source], targets: Sequence[slice]
) -> Tensor:
    """float32 (layers, heads, targets, sources): attention of every head to each source, mean over each target's rows."""
    if not gen.response_ids or not sources:
        return torch.zeros(lm.num_layers, lm.num_heads, len(targets), len(sources), dtype=torch.float32)
    trace = trace_of(lm, gen)
    device = trace.layers[0].queries.device
    # Types are named: loading a model changes torch's default meanwhile, for every thread.
    floats: dict[str, Any] = {"dtype": torch.float32, "device": device}
    mean = torch.zeros(len(targets), trace.num_rows, **floats)
    for i, target in enumerate(targets):
        mean[i, target] = 1 / max(1, target.stop - target.start)
    out = torch.zeros(len(trace.layers), trace.layers[0].num_heads, len(targets), len(sources), **floats)
    first, last = sources[0].token_start, sources[-1].token_end
    index = torch.full(
        (last - first,), len(sources), device=device
    )  # tokens between sources fall into a spare column
    for s, source in enumerate(sources):
        index[source.token_start - first : source.token_end - first] = s
    for layer_out, layer in zip(out, trace.layers, strict=True):
        summed = torch.zeros(layer.num_heads, trace.num_rows, len(sources) + 1, **floats)
        for rows in blocks(layer):
            block = weights(layer, trace.first_row, rows)[:, :, first:last].to(device)
            summed[:, rows].index_add_(2, index, block)
        layer_out[:] = torch.einsum("gt,hts->hgs", mean, summed[:, :, :-1])
    return out


def trace_of(lm: LanguageModel, gen: Generation) -> Trace:
    """The generation's trace, read again if it is gone."""
    trace = retrace(lm, gen).trace
    assert trace is not None
    return trace
