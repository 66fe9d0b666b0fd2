"""What muting heads changes: the sources' scores before and after, said in numbers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from at2_core.sources import Source


@dataclass(frozen=True)
class Change:
    """top_before, top_after: indices of the highest-scored source; correlation: Spearman's over all sources, or
    None when there are fewer than three to rank or all score the same."""

    top_before: int
    top_after: int
    correlation: float | None


def change(before: np.ndarray, after: np.ndarray) -> Change | None:
    """The change between two scorings (S,) of the same sources; None when there are no sources."""
    if before.size == 0:
        return None
    return Change(int(before.argmax()), int(after.argmax()), rank_correlation(before, after))


def source_scores(scores: np.ndarray, sources: Sequence[Source], rows: np.ndarray) -> np.ndarray:
    """(S,) float64: token scores (T, n), mean over these rows of the response, summed over each source's tokens."""
    if not len(rows):
        return np.zeros(len(sources))
    mean = scores[rows].mean(axis=0, dtype=np.float64)
    return np.array([mean[s.token_start : s.token_end].sum() for s in sources])


def rank_correlation(a: np.ndarray, b: np.ndarray) -> float | None:
    """Spearman's correlation, ties at their mean rank."""
    if a.size < 3:
        return None
    a, b = _mean_ranks(a), _mean_ranks(b)
    a, b = a - a.mean(), b - b.mean()
    scale = np.sqrt((a @ a) * (b @ b))
    return float(a @ b / scale) if scale else None


def _mean_ranks(values: np.ndarray) -> np.ndarray:
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    return (last - (counts - 1) / 2)[inverse]
