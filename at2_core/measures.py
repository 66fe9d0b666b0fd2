"""How good scores are: do they predict what happens without sources, and do they find those that are known to matter?

`lds`, `without_top`         against ablations (linear datamodeling score; the k highest-scored sources removed)
`true_sources`, `found`      against known truth: precision and recall of the first k, reciprocal rank of the first
`agreement`                  between two methods
`supported`                  whether a response gives the answer that the truth supports
`summarize`                  means with bootstrap intervals, and paired differences to a reference method
"""

from __future__ import annotations

import re
import string
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from scipy import stats

if TYPE_CHECKING:  # what reads figures needs no torch
    from .data import Example
    from .generation import Generation
    from .sources import Source

TOUCHES = 0.5  # of a source's or of a fact's characters, for the source to count as true
TRUTH = ("precision_", "recall_", "mrr")


def lds(scores: np.ndarray, keep: np.ndarray, outcomes: np.ndarray) -> float:
    """Spearman correlation between keep (M, S) @ scores (S,) and outcomes (M,); nan where either is constant."""
    predicted = keep.astype(np.float64) @ scores.astype(np.float64)
    if np.ptp(predicted) == 0 or np.ptp(outcomes) == 0:
        return float("nan")
    return float(stats.spearmanr(predicted, outcomes).statistic)


def ranking(scores: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Sources (S,), the highest score first; equal scores in an order by chance, so that no method gains by position."""
    return np.lexsort((rng.random(len(scores)), -scores))


def without_top(order: np.ndarray, k: int) -> np.ndarray:
    """bool (S,): the keep-vector that removes the first k of a ranking."""
    keep = np.ones(len(order), bool)
    keep[order[:k]] = False
    return keep


def true_sources(gen: Generation, sources: Sequence[Source], example: Example) -> np.ndarray:
    """bool (S,): sources that share half of their own characters, or half of a fact's, with what is known to be true."""
    starts = {part.document or 0: part.start for part in gen.parts if part.kind == "context"}
    true = np.zeros(len(sources), bool)
    for document, start, end in example.truth:
        begin = starts.get(document)
        if begin is None or end <= start:
            continue
        for s, source in enumerate(sources):
            shared = min(source.end, begin + end) - max(source.start, begin + start)
            true[s] |= shared >= TOUCHES * min(end - start, max(1, source.end - source.start))
    return true


def found(order: np.ndarray, true: np.ndarray, ks: Sequence[int]) -> dict[str, float]:
    """precision_k, recall_k and mrr of a ranking; missing where nothing is true or there are fewer than k sources."""
    hits = true[order]
    if not hits.any():
        return {
            **{f"{name}_{k}": float("nan") for name in ("precision", "recall") for k in ks},
            "mrr": float("nan"),
        }
    row: dict[str, float] = {}
    for k in ks:
        count = float(hits[:k].sum()) if len(hits) >= k else float("nan")
        row |= {f"precision_{k}": count / k, f"recall_{k}": count / float(hits.sum())}
    return {**row, "mrr": 1 / (1 + float(np.argmax(hits)))}


def agreement(one: np.ndarray, other: np.ndarray, k: int = 3) -> tuple[float, float]:
    """How far two methods' scores (S,) agree: their rank correlation (nan where either is constant), and the part of the k
    highest-scored sources that they share."""
    if np.ptp(one) == 0 or np.ptp(other) == 0:
        return float("nan"), float("nan")
    k = min(k, len(one))
    tops = (set(np.argsort(-scores, kind="stable")[:k].tolist()) for scores in (one, other))
    return float(stats.spearmanr(one, other).statistic), len(set.intersection(*tops)) / k


def supported(answer: str, response: str) -> bool:
    """Whether the response contains the answer, word by word, without case, punctuation and articles (as SQuAD compares)."""
    wanted, said = _plain(answer), _plain(response)
    return bool(wanted) and any(said[i : i + len(wanted)] == wanted for i in range(len(said)))


def _plain(text: str) -> list[str]:
    text = "".join(c for c in text.casefold() if c not in string.punctuation)
    return re.sub(r"\b(a|an|the)\b", " ", text).split()


def measures_of(frame: pd.DataFrame) -> list[str]:
    """The columns that hold measures, in their order."""
    return [c for c in frame.columns if c == "lds" or c.startswith("drop_") or c.startswith(TRUTH)]


ANSWERS = {True: "supported", False: "other", None: "unknown"}
COLUMNS = ("measure", "answer", "method", "examples", "mean", "low", "high")


def summarize(
    frame: pd.DataFrame, reference: str | None = None, *, resamples: int = 2000, seed: int = 0
) -> pd.DataFrame:
    """A row per method and measure: mean, 95 % bootstrap interval over examples (low, high), and their number.

    Examples that share a context ("group") are resampled together: they are no independent witnesses. Below two examples there
    is no interval. Known truth supports one answer, so its measures stand apart for examples with that answer ("supported"),
    with another one ("other"), and where there is no answer to compare with ("unknown"). With a reference method also the mean
    paired difference to it and that difference's interval.
    Beside each: mean forward passes and seconds.
    """
    judged = frame[frame["method"].notna()]
    groups = judged.groupby("example")["group"].first() if "group" in judged else None
    out = []
    for measure, answer, rows in _groups(judged):
        table = rows.pivot(index="example", columns="method", values=measure).astype(float)
        for method in judged["method"].unique():
            values = table[method].dropna() if method in table else pd.Series(dtype=float)
            row: dict[str, object] = {
                "measure": measure,
                "answer": answer,
                "method": method,
                "examples": len(values),
            }
            row |= _interval(values, groups, "", resamples, seed)
            if reference is not None and method != reference and {method, reference} <= set(table):
                paired = (table[method] - table[reference]).dropna()
                row |= _interval(paired, groups, "difference_", resamples, seed)
            own = judged[judged["method"] == method]
            row |= {cost: float(own[cost].mean()) for cost in ("passes", "seconds") if cost in own}
            out.append(row)
    return pd.DataFrame(out, columns=None if out else [*COLUMNS, "passes", "seconds"])


def _groups(judged: pd.DataFrame) -> list[tuple[str, str, pd.DataFrame]]:
    """Measure, "" or which answer, and its rows."""
    groups = []
    for measure in measures_of(judged):
        if judged[measure].notna().sum() == 0:
            continue
        if measure.startswith(TRUTH):
            answers = judged["supported"] if "supported" in judged else pd.Series(None, index=judged.index)
            kinds = [ANSWERS[None if pd.isna(answer) else bool(answer)] for answer in answers]
            for name in ANSWERS.values():
                part = judged[[kind == name for kind in kinds]]
                if part[measure].notna().any():
                    groups.append((measure, name, part))
        else:
            groups.append((measure, "", judged))
    return groups


def _interval(
    values: pd.Series, groups: pd.Series | None, prefix: str, resamples: int, seed: int
) -> dict[str, float]:
    mean = float(values.mean()) if len(values) else float("nan")
    keys = values.index if groups is None else groups.reindex(values.index).to_numpy()
    clusters = values.groupby(keys).agg(["sum", "count"]).to_numpy()
    if len(clusters) < 2:
        low = high = float("nan")
    elif np.ptp(values) == 0:
        low = high = mean
    else:
        low, high = stats.bootstrap(
            (clusters[:, 0], clusters[:, 1]),
            lambda sums, counts, axis=-1: sums.sum(axis=axis) / counts.sum(axis=axis),
            paired=True,
            vectorized=True,
            n_resamples=resamples,
            method="percentile",
            rng=np.random.default_rng(seed),
        ).confidence_interval
    return {f"{prefix}mean": mean, f"{prefix}low": float(low), f"{prefix}high": float(high)}
