"""Which theta to take, and how far to trust it, from fits side by side.

`as_published`    the published recipe as it is, with figures of its own
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

from .fitting import Collected, Data, FitSettings, fit_many, fit_reference, normalised, shrink

Progress = Callable[[str, int, int], None]  # stage, done, total
SHRINKAGES = (0.0, 0.1, 0.25, 0.5, 0.75)
SPARSITIES = (0.0, 0.003, 0.01, 0.03)
TOP_HEADS = 20


@dataclass(frozen=True)
class Chosen:
    """theta float32 (layers, heads), L1-normalised, its standard deviation over resamples, and the figures behind it."""

    theta: np.ndarray
    deviation: np.ndarray | None
    report: dict[str, Any]


def choose(
    collected: Sequence[Collected],
    settings: FitSettings = FitSettings(),
    progress: Progress | None = None,
    cancel: threading.Event | None = None,
    *,
    attention: slice = slice(None),
) -> Chosen:
    """theta with the regularisation that validation examples like best, refitted on all, with its uncertainty.

    attention: which layers of the predictors are of attention, where there are others.

    Compared are signed and non-negative fits, several penalties for many heads, and each shrunk towards the uniform theta; what
    counts is the mean over several splits into training and validation examples, for a single one is a matter of luck.
    """
    report = progress or (lambda stage, done, total: None)
    data = Data.of(collected)
    splits = _splits(data, settings)
    kinds = list(itertools.product((False, True), SPARSITIES))
    columns = [(kind, sides) for kind in kinds for sides in splits]
    fits = fit_many(
        data,
        np.stack([train for _, (train, _) in columns]),
        np.stack([held for _, (_, held) in columns]),
        settings,
        nonnegative=np.array([n for (n, _), _ in columns]),
        sparsity=np.array([s for (_, s), _ in columns]),
        cancel=cancel,
        tell=lambda step: report("fit", step, settings.steps),
    )
    curves = np.array([held for _, _, held in fits.history]).reshape(
        len(fits.history), len(kinds), len(splits)
    )
    candidates: list[dict[str, Any]] = []
    for number, (nonnegative, sparsity) in enumerate(kinds):
        look = int(curves[:, number].mean(axis=1).argmax())
        thetas = fits.looks[look].reshape(len(kinds), len(splits), -1)[number]
        for shrinkage in SHRINKAGES:
            found = [data.correlations(shrink(normalised(theta), shrinkage)) for theta in thetas]
            candidates.append(
                {
                    "correlation": _over(found, [held for _, held in splits]),
                    "correlation_training": _over(found, [train for train, _ in splits]),
                    "nonnegative": nonnegative,
                    "sparsity": sparsity,
                    "shrinkage": shrinkage,
                    "steps": fits.history[look][0],
                    "splits": [_round(_mean(r, held)) for r, (_, held) in zip(found, splits, strict=True)],
                }
            )
    best = max(candidates, key=lambda c: c["correlation"])
    number = kinds.index((bool(best["nonnegative"]), best["sparsity"]))
    report("validate", 0, 2)
    curve, spread = learning_curve(data, settings, best, cancel), stability(data, settings, best, cancel)
    report("validate", 1, 2)
    theta = _refit(data, np.ones(len(data.y), np.float32)[None], settings, best, cancel)[0]
    average = np.zeros(data.shape, np.float32)
    average[attention] = 1 / theta.size
    uniform = data.correlations(average)
    trained, held_out = splits[0]
    figures = {
        **{key: best[key] for key in ("nonnegative", "sparsity", "shrinkage", "steps")},
        "correlation": _round(best["correlation"]),
        "correlation_training": _round(best["correlation_training"]),
        "correlation_average_attention": _round(_over([uniform] * len(splits), [held for _, held in splits])),
        "examples_training": len(set(data.example[trained > 0])),
        "examples_validation": len(set(data.example[held_out > 0])),
        "candidates": [
            {k: round(v, 4) if isinstance(v, float) else v for k, v in c.items() if k != "splits"}
            for c in candidates
        ],
        "history": [
            {
                "step": step,
                "training": _round(_of(t, number, splits)),
                "validation": _round(_of(v, number, splits)),
            }
            for step, t, v in fits.history
        ],
        "learning_curve": curve,
        "stability": {
            **{key: value for key, value in spread.items() if key != "deviation"},
            "splits": len(splits),
            "splits_correlation": best["splits"],
        },
        "fit": asdict(settings),
    }
    report("validate", 2, 2)
    return Chosen(theta.reshape(data.shape), spread["deviation"].reshape(data.shape), figures)


def as_published(collected: Sequence[Collected], settings: FitSettings = FitSettings()) -> Chosen:
    """theta by the published recipe, from all examples; its figures are those of the same recipe without a held-out part."""
    data = Data.of(collected)
    train, held = split(data, settings.validation_fraction, settings.seed)
    used = set(data.example[train > 0])
    found = data.correlations(fit_reference([c for i, c in enumerate(collected) if i in used], settings))
    theta = fit_reference(collected, settings)
    uniform = data.correlations(np.full_like(theta, 1 / theta.size))
    figures = {
        "recipe": "reference",
        "nonnegative": False,
        "sparsity": 0.0,
        "shrinkage": 0.0,
        "steps": settings.steps,
        "correlation": _round(_mean(found, held)),
        "correlation_training": _round(_mean(found, train)),
        "correlation_average_attention": _round(_mean(uniform, held)),
        "examples_training": len(used),
        "examples_validation": len(set(data.example[held > 0])),
        "fit": asdict(settings),
    }
    return Chosen(theta, None, figures)


def learning_curve(
    data: Data, settings: FitSettings, how: dict[str, Any], cancel: threading.Event | None = None
) -> list[dict[str, float]]:
    """Validation correlation after learning from an eighth, a quarter, a half and all of the training examples.

    Each size is drawn once for every validation split; the rows say mean and standard deviation over them.
    """
    rng = np.random.default_rng([settings.seed, 1])
    drawn = []
    for train, held in _splits(data, settings):
        pool = np.unique(data.example[train > 0])
        for part in (8, 4, 2, 1):
            chosen = rng.choice(pool, max(min(2, len(pool)), len(pool) // part), replace=False)
            drawn.append((part, len(chosen), train * np.isin(data.example, chosen), held))
    thetas = _refit(data, np.stack([weights for _, _, weights, _ in drawn]), settings, how, cancel)
    scores = [
        _mean(data.correlations(theta), held) for theta, (_, _, _, held) in zip(thetas, drawn, strict=True)
    ]
    rows: list[dict[str, float]] = []
    for part in (8, 4, 2, 1):
        found = [score for score, (p, _, _, _) in zip(scores, drawn, strict=True) if p == part]
        size = round(np.mean([n for p, n, _, _ in drawn if p == part]))
        if not rows or size > rows[-1]["examples"]:
            rows.append(
                {"examples": size, "correlation": _round(np.mean(found)), "deviation": _round(np.std(found))}
            )
    return rows


def stability(
    data: Data, settings: FitSettings, how: dict[str, Any], cancel: threading.Event | None = None
) -> dict[str, Any]:
    """What changes when the examples change: bootstrap resamples of the first split's training examples.

    deviation: standard deviation of each coefficient over the resamples, float32 (layers * heads,). rank_correlation: mean
    Spearman correlation of two resamples' theta. top_overlap: mean share of the TOP_HEADS largest |theta| that two share.
    correlation: on the split's validation examples. Fewer than two resamples tell nothing: no deviation, None for the rest.
    """
    told = {"resamples": settings.resamples, "top_heads": TOP_HEADS}
    if settings.resamples < 2:
        nothing = dict.fromkeys(("rank_correlation", "top_overlap", "correlation", "correlation_deviation"))
        return {"deviation": np.zeros(data.x.shape[-1], np.float32), **told, **nothing}
    train, held = _splits(data, settings)[0]
    pool = np.unique(data.example[train > 0])
    rng = np.random.default_rng([settings.seed, 2])
    weights = []
    for _ in range(settings.resamples):
        times = np.bincount(rng.choice(pool, len(pool)), minlength=len(data.groups))
        weights.append(train * times[data.example])
    thetas = _refit(data, np.stack(weights), settings, how, cancel)
    most = min(TOP_HEADS, thetas.shape[1])
    top = [set(np.argsort(-np.abs(theta), kind="stable")[:most]) for theta in thetas]
    pairs = list(itertools.combinations(range(len(thetas)), 2))
    quality = [_mean(data.correlations(theta), held) for theta in thetas]
    return {
        "deviation": thetas.std(axis=0, ddof=1),
        **told,
        "rank_correlation": _round(
            np.mean([stats.spearmanr(thetas[a], thetas[b]).statistic for a, b in pairs])
        ),
        "top_overlap": _round(np.mean([len(top[a] & top[b]) / most for a, b in pairs])),
        "correlation": _round(np.mean(quality)),
        "correlation_deviation": _round(np.std(quality)),
    }


def _splits(data: Data, settings: FitSettings) -> list[tuple[np.ndarray, np.ndarray]]:
    count = max(1, settings.splits)
    return [split(data, settings.validation_fraction, settings.seed + k) for k in range(count)]


def split(data: Data, fraction: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Weights float32 (targets,) of training and validation. Groups stay whole; with a single one both are everything."""
    groups = sorted(set(data.groups))
    order = np.random.default_rng(seed).permutation(len(groups))
    count = min(len(groups) - 1, max(1, round(len(groups) * fraction)))
    held_groups = {groups[i] for i in order[:count]}
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


def _over(found: Sequence[np.ndarray], weights: Sequence[np.ndarray]) -> float:
    """Mean over the splits of the weighted mean correlation."""
    return float(np.mean([_mean(r, w) for r, w in zip(found, weights, strict=True)]))


def _of(values: np.ndarray, number: int, splits: Sequence[Any]) -> float:
    """Mean over the splits of one kind's columns."""
    return float(values.reshape(-1, len(splits))[number].mean())


def _round(value: Any) -> float:
    return round(float(value), 4)
