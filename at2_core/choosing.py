"""Which theta to take, and how far to trust it, from fits side by side.

`choose`          regularisation chosen on validation examples, the winner refitted on all
`stability`       how much theta moves between splits and bootstrap resamples
`learning_curve`  validation correlation by number of examples: would more data help?
"""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from scipy import stats

from .fitting import Collected, Data, FitSettings, fit_many, shrink

Progress = Callable[[str, int, int], None]  # stage, done, total
SHRINKAGES = (0.0, 0.1, 0.25, 0.5, 0.75)
SPARSITIES = (0.0, 0.003, 0.01, 0.03)
TOP_HEADS = 20


@dataclass(frozen=True)
class Chosen:
    """theta float32 (layers, heads), L1-normalised, its standard deviation over resamples, and the figures behind it."""

    theta: np.ndarray
    deviation: np.ndarray
    report: dict[str, Any]


def choose(
    collected: Sequence[Collected],
    settings: FitSettings = FitSettings(),
    progress: Progress | None = None,
    cancel: threading.Event | None = None,
) -> Chosen:
    """theta with the regularisation that validation examples like best, refitted on all, with its uncertainty.

    Compared are signed and non-negative fits, several penalties for many heads, and each shrunk towards the uniform theta.
    """
    report = progress or (lambda stage, done, total: None)
    data = Data.of(collected)
    train, held = split(data, settings.validation_fraction, settings.seed)
    kinds = list(itertools.product((False, True), SPARSITIES))
    fits = fit_many(
        data,
        np.tile(train, (len(kinds), 1)),
        np.tile(held, (len(kinds), 1)),
        settings,
        nonnegative=np.array([n for n, _ in kinds]),
        sparsity=np.array([s for _, s in kinds]),
        cancel=cancel,
        tell=lambda step: report("fit", step, settings.steps),
    )
    candidates = []
    for number, (nonnegative, sparsity) in enumerate(kinds):
        for shrinkage in SHRINKAGES:
            r = data.correlations(shrink(fits.theta[number], shrinkage))
            candidates.append(
                {
                    "correlation": _mean(r, held),
                    "correlation_training": _mean(r, train),
                    "nonnegative": nonnegative,
                    "sparsity": sparsity,
                    "shrinkage": shrinkage,
                    "steps": int(fits.steps[number]),
                }
            )
    best = max(candidates, key=lambda c: c["correlation"])
    number = kinds.index((bool(best["nonnegative"]), best["sparsity"]))
    report("validate", 0, 2)
    curve, spread = learning_curve(data, settings, best, cancel), stability(data, settings, best, cancel)
    report("validate", 1, 2)
    theta = _refit(data, np.ones(len(data.y), np.float32)[None], settings, best, cancel)[0]
    uniform = np.full_like(theta, 1 / theta.size)
    figures = {
        **{key: best[key] for key in ("nonnegative", "sparsity", "shrinkage", "steps")},
        "correlation": round(best["correlation"], 4),
        "correlation_training": round(best["correlation_training"], 4),
        "correlation_average_attention": round(_mean(data.correlations(uniform), held), 4),
        "examples_training": len(set(data.example[train > 0])),
        "examples_validation": len(set(data.example[held > 0])),
        "candidates": [
            {k: round(v, 4) if isinstance(v, float) else v for k, v in c.items()} for c in candidates
        ],
        "history": [
            {"step": step, "training": round(float(t[number]), 4), "validation": round(float(v[number]), 4)}
            for step, t, v in fits.history
        ],
        "learning_curve": curve,
        "stability": {key: value for key, value in spread.items() if key != "deviation"},
        "fit": asdict(settings),
    }
    report("validate", 2, 2)
    return Chosen(theta.reshape(data.shape), spread["deviation"].reshape(data.shape), figures)


def learning_curve(
    data: Data,
    settings: FitSettings,
    how: dict[str, Any],
    cancel: threading.Event | None = None,
    repeats: int = 4,
) -> list[dict[str, float]]:
    """Validation correlation after learning from an eighth, a quarter, a half and all of the training examples.

    Each size but the last is drawn `repeats` times; the rows say mean and standard deviation over the draws.
    """
    train, held = split(data, settings.validation_fraction, settings.seed)
    pool = np.unique(data.example[train > 0])
    rng = np.random.default_rng([settings.seed, 1])
    sizes = sorted({max(2, len(pool) // part) for part in (8, 4, 2, 1)} & set(range(1, len(pool) + 1)))
    drawn = [
        (size, rng.choice(pool, size, replace=False))
        for size in sizes
        for _ in range(repeats if size < len(pool) else 1)
    ]
    weights = np.stack([train * np.isin(data.example, examples) for _, examples in drawn])
    thetas = _refit(data, weights, settings, how, cancel)
    scores = [_mean(data.correlations(theta), held) for theta in thetas]
    return [
        {
            "examples": size,
            "correlation": round(float(np.mean(found)), 4),
            "deviation": round(float(np.std(found)), 4),
        }
        for size in sizes
        for found in [[score for (s, _), score in zip(drawn, scores, strict=True) if s == size]]
    ]


def stability(
    data: Data, settings: FitSettings, how: dict[str, Any], cancel: threading.Event | None = None
) -> dict[str, Any]:
    """What changes when the examples change: bootstrap resamples of the training examples, and other validation splits.

    deviation: standard deviation of each coefficient over the resamples, float32 (layers * heads,). rank_correlation: mean
    Spearman correlation of two resamples' theta. top_overlap: mean share of the TOP_HEADS largest |theta| that two share.
    """
    train, held = split(data, settings.validation_fraction, settings.seed)
    pool = np.unique(data.example[train > 0])
    rng = np.random.default_rng([settings.seed, 2])
    weights = []
    for _ in range(settings.resamples):
        times = np.bincount(rng.choice(pool, len(pool)), minlength=len(data.groups))
        weights.append(train * times[data.example])
    splits = [
        split(data, settings.validation_fraction, settings.seed + 1 + k) for k in range(settings.splits)
    ]
    thetas = _refit(data, np.stack([*weights, *(t for t, _ in splits)]), settings, how, cancel)
    resampled = thetas[: settings.resamples]
    top = [set(np.argsort(-np.abs(theta), kind="stable")[:TOP_HEADS]) for theta in resampled]
    pairs = list(itertools.combinations(range(len(resampled)), 2))
    quality = [_mean(data.correlations(theta), held) for theta in resampled]
    seeds = [
        _mean(data.correlations(theta), other)
        for theta, (_, other) in zip(thetas[settings.resamples :], splits, strict=True)
    ]
    return {
        "deviation": resampled.std(axis=0, ddof=1)
        if len(resampled) > 1
        else np.zeros(thetas.shape[1], np.float32),
        "resamples": len(resampled),
        "rank_correlation": _round(
            np.mean([stats.spearmanr(resampled[a], resampled[b]).statistic for a, b in pairs])
        ),
        "top_heads": TOP_HEADS,
        "top_overlap": _round(
            np.mean([len(top[a] & top[b]) / min(TOP_HEADS, thetas.shape[1]) for a, b in pairs])
        ),
        "correlation": _round(np.mean(quality)),
        "correlation_deviation": _round(np.std(quality)),
        "splits": len(splits),
        "splits_correlation": [_round(s) for s in seeds],
    }


def split(data: Data, fraction: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Weights float32 (targets,) of training and validation. Groups stay whole; with a single group both are everything."""
    groups = sorted(set(data.groups))
    order = np.random.default_rng(seed).permutation(len(groups))
    held_groups = {groups[i] for i in order[: round(len(groups) * fraction)]}
    held = np.array([data.groups[i] in held_groups for i in data.example], np.float32)
    if not held.any() or held.all():
        return np.ones_like(held), np.ones_like(held)
    return 1 - held, held


def _refit(
    data: Data,
    weights: np.ndarray,
    settings: FitSettings,
    how: dict[str, Any],
    cancel: threading.Event | None,
) -> np.ndarray:
    """theta (fits, heads of all layers) for weights (fits, targets), with the regularisation and the steps that were chosen."""
    count = len(weights)
    fits = fit_many(
        data,
        weights,
        np.zeros_like(weights),
        settings,
        nonnegative=np.full(count, how["nonnegative"]),
        sparsity=np.full(count, how["sparsity"]),
        last_step=how["steps"],
        cancel=cancel,
    )
    return np.stack([shrink(theta, how["shrinkage"]) for theta in fits.theta])


def _mean(values: np.ndarray, weights: np.ndarray) -> float:
    return float((values * weights).sum() / weights.sum())


def _round(value: Any) -> float:
    return round(float(value), 4)
