"""theta from collected examples: many fits at once, the choice among them, and how far to trust the result.

`fit_many`        any number of fits side by side: candidates, resamples and subsets differ only in their weights
`fit_reference`   the published recipe, one random target of each example of a batch

A prediction is linear in theta (arXiv 2504.13752, section 3), so an example is its `predictors` (targets, ablations, layers,
heads) and `outcomes` (targets, ablations), and nothing here runs a model.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from torch import Tensor

from .errors import Cancelled

Progress = Callable[[str, int, int], None]  # stage, done, total
FULL_BATCH_BYTES = 1 << 29  # predictors beyond this are fitted in batches
LOOK_EVERY = 20  # steps between two looks at the validation examples
PATIENCE = 8  # looks without a better one, by any of the fits, before all stop


@dataclass(frozen=True)
class FitSettings:
    """The reference recipe's numbers, and ours: how much is held out, and how often theta is fitted again."""

    steps: int = 1000
    learning_rate: float = 1e-3
    batch_size: int = 512
    clip_norm: float = 1.0
    validation_fraction: float = 0.15
    seed: int = 0
    resamples: int = 10  # bootstrap resamples for the standard deviation of theta
    splits: int = 5  # choices of the validation examples; what is best on average over them is taken


@dataclass(frozen=True)
class Collected:
    """One example's share: predictors float32 (targets, ablations, layers, heads), outcomes float32 (targets, ablations).

    Where heads are judged by what they write too, the layers are there twice: by attention, then by what they write.
    group: examples that share a context have the same, and are never divided between training and validation.
    """

    predictors: np.ndarray
    outcomes: np.ndarray
    group: str = ""


@dataclass(frozen=True)
class Fits:
    """theta float32 (fits, layers * heads), each L1-normalised, from the step (fits,) that suited its validation best.

    history: looks as (step, training correlation (fits,), validation correlation (fits,)); looks: theta at each of them.
    """

    theta: np.ndarray
    steps: np.ndarray
    history: list[tuple[int, np.ndarray, np.ndarray]] = field(default_factory=list)
    looks: list[np.ndarray] = field(default_factory=list)


@dataclass(frozen=True)
class Data:
    """All targets stacked: x (targets, ablations, heads of all layers), y (targets, ablations), example (targets,)."""

    x: Tensor
    y: Tensor
    example: np.ndarray
    groups: list[str]
    shape: tuple[int, int]

    @classmethod
    def of(cls, collected: Sequence[Collected]) -> Data:
        x = np.concatenate([c.predictors for c in collected]).astype(np.float32, copy=False)
        y = np.concatenate([c.outcomes for c in collected]).astype(np.float32, copy=False)
        example = np.repeat(np.arange(len(collected)), [len(c.outcomes) for c in collected])
        groups = [c.group or f"example {i}" for i, c in enumerate(collected)]
        return cls(
            torch.from_numpy(x.reshape(*y.shape, -1)), torch.from_numpy(y), example, groups, x.shape[2:]
        )

    def correlations(self, theta: np.ndarray) -> np.ndarray:
        """Pearson correlation of prediction and outcome, float32 (targets,), for theta (layers, heads)."""
        return correlation(self.x @ torch.from_numpy(theta.reshape(-1)), self.y).numpy()


def fit_many(
    data: Data,
    training: np.ndarray,
    validation: np.ndarray,
    settings: FitSettings,
    *,
    nonnegative: np.ndarray,
    sparsity: np.ndarray,
    last_step: int | None = None,
    cancel: threading.Event | None = None,
    tell: Callable[[int], None] | None = None,
) -> Fits:
    """Adam on the negative mean Pearson correlation, for all fits at once; theta starts uniform and ends L1-normalised.

    training, validation: weights float (fits, targets), 0 for what a fit may not see. nonnegative bool (fits,): theta is
    clamped at 0 after each step. sparsity (fits,): times the ratio of L1 to L2 norm, which like the correlation ignores
    theta's scale.
    A fit without validation weights is taken from the last step. last_step: stop there, on the same schedule.
    """
    count, width = len(training), data.x.shape[-1]
    train = _weights(training)
    held = _weights(validation)
    watch = bool((held.sum(dim=1) > 0).any())
    clamp = torch.from_numpy(np.asarray(nonnegative, bool))
    penalty = torch.from_numpy(np.asarray(sparsity, np.float32))
    theta = torch.full((count, width), 1 / width, dtype=torch.float32, requires_grad=True)
    optimizer = torch.optim.Adam([theta], lr=settings.learning_rate)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, settings.steps)
    best = theta.detach().clone()
    best_score, best_step = (
        torch.full((count,), -np.inf, dtype=torch.float32),
        torch.zeros(count, dtype=torch.long),
    )
    history: list[tuple[int, np.ndarray, np.ndarray]] = []
    looks: list[np.ndarray] = []
    whole = data.x.numel() * 4 <= FULL_BATCH_BYTES
    generator = torch.Generator().manual_seed(settings.seed)
    looks_without, last = 0, max(1, last_step or settings.steps)
    for step in range(1, last + 1):
        if cancel is not None and cancel.is_set():
            raise Cancelled("The fit was stopped.")
        rows = None if whole else torch.randperm(len(data.y), generator=generator)[: settings.batch_size]
        x, y, weights = (
            (data.x, data.y, train) if rows is None else (data.x[rows], data.y[rows], train[:, rows])
        )
        r = _correlations(x, y, theta)
        if rows is not None:
            weights = weights / weights.sum(dim=1, keepdim=True).clamp(min=1e-12)
        norm_ratio = theta.abs().sum(dim=1) / theta.norm(dim=1).clamp(min=1e-12) / width**0.5
        loss = -(weights * r).sum(dim=1) + penalty * norm_ratio
        optimizer.zero_grad()
        loss.sum().backward()
        _clip_rows(theta, settings.clip_norm)
        optimizer.step()
        schedule.step()
        with torch.no_grad():
            theta[clamp] = theta[clamp].clamp(min=0)
        if watch and (step % LOOK_EVERY == 0 or step == last):
            with torch.no_grad():
                r = _correlations(data.x, data.y, theta)
            score = (held * r).sum(dim=1)
            history.append((step, (train * r).sum(dim=1).numpy(), score.numpy()))
            looks.append(theta.detach().numpy().copy())
            better = score > best_score
            best[better], best_score[better], best_step[better] = theta.detach()[better], score[better], step
            looks_without = 0 if better.any() else looks_without + 1
            if looks_without >= PATIENCE:
                break
        if tell is not None:
            tell(step)
    unwatched = held.sum(dim=1) == 0
    best[unwatched], best_step[unwatched] = theta.detach()[unwatched], last
    return Fits(np.stack([normalised(row) for row in best.numpy()]), best_step.numpy(), history, looks)


def fit_reference(
    collected: Sequence[Collected], settings: FitSettings, nonnegative: bool = False
) -> np.ndarray:
    """theta float32 (layers, heads) by the published recipe, without validation.

    Each step draws `batch_size` examples without replacement (all of them where there are fewer) and one target of each;
    Adam, a cosine schedule over `steps`, gradients clipped to `clip_norm`, theta uniform at the start and L1-normalised at
    the end. The draws are numpy's default generator with the settings' seed: examples first, then their targets.
    """
    shape = collected[0].predictors.shape[2:]
    rng = np.random.default_rng(settings.seed)
    theta = torch.full(
        (int(np.prod(shape)),), 1 / int(np.prod(shape)), dtype=torch.float32, requires_grad=True
    )
    optimizer = torch.optim.Adam([theta], lr=settings.learning_rate)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, settings.steps)
    for _ in range(settings.steps):
        drawn = rng.choice(len(collected), min(settings.batch_size, len(collected)), replace=False)
        targets = [rng.integers(len(collected[i].outcomes)) for i in drawn]
        x = np.stack(
            [
                collected[i].predictors[t].reshape(-1, theta.numel())
                for i, t in zip(drawn, targets, strict=True)
            ]
        )
        y = np.stack([collected[i].outcomes[t] for i, t in zip(drawn, targets, strict=True)])
        loss = -correlation(
            torch.from_numpy(x.astype(np.float32)) @ theta, torch.from_numpy(y.astype(np.float32))
        ).mean()
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_([theta], settings.clip_norm)
        optimizer.step()
        schedule.step()
        if nonnegative:
            with torch.no_grad():
                theta.clamp_(min=0)
    return normalised(theta.detach().numpy().reshape(shape))


def levelled(collected: Sequence[Collected]) -> tuple[list[Collected], np.ndarray]:
    """The same examples with predictors of what heads write that spread as those of attention do; and the factors float32
    (2 layers, 1) that take coefficients fitted to these back to what was collected."""
    spreads = np.zeros((len(collected), 2))
    for number, example in enumerate(collected):
        centred = example.predictors - example.predictors.mean(axis=1, keepdims=True)
        spreads[number] = [np.mean(np.square(part)) for part in np.split(centred, 2, axis=2)]
    spread = np.sqrt(spreads.mean(axis=0))
    layers = collected[0].predictors.shape[2] // 2
    factors = np.repeat(spread[0] / np.maximum(spread, 1e-12), layers).astype(np.float32)
    level = factors[:, None]
    return [replace(c, predictors=c.predictors * level) for c in collected], level


def tied(collected: Sequence[Collected]) -> list[Collected]:
    """Examples in which all heads share one coefficient for what they write: predictors (targets, ablations, 1 + heads of all
    layers, 1), the first that of the direct contributions of all heads together."""
    out = []
    for example in collected:
        of_attention, written = np.split(example.predictors, 2, axis=2)
        parts = [written.sum(axis=(2, 3))[..., None], of_attention.reshape(*example.outcomes.shape, -1)]
        out.append(replace(example, predictors=np.concatenate(parts, axis=-1)[..., None]))
    return out


def untied(theta: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """Coefficients (1 + heads of all layers, 1) of `tied` examples as those of all layers twice, (2 layers, heads)."""
    return np.concatenate([theta[1:].reshape(shape), np.full(shape, theta[0, 0])]).astype(np.float32)


def shrink(theta: np.ndarray, amount: float) -> np.ndarray:
    """theta moved towards the uniform one by `amount` (0: unchanged, 1: average attention), L1-normalised."""
    return normalised((1 - amount) * theta + amount / theta.size)


def normalised(theta: np.ndarray) -> np.ndarray:
    """theta of any shape as float32, divided by its L1 norm."""
    return (theta / max(float(np.abs(theta).sum()), 1e-12)).astype(np.float32)


def correlation(a: Tensor, b: Tensor) -> Tensor:
    """Pearson correlation along the last axis; 0 where one side is constant."""
    a = a - a.mean(dim=-1, keepdim=True)
    b = b - b.mean(dim=-1, keepdim=True)
    return (a * b).sum(-1) / (a.norm(dim=-1) * b.norm(dim=-1)).clamp(min=1e-12)


def _correlations(x: Tensor, y: Tensor, theta: Tensor) -> Tensor:
    """(fits, targets) of theta (fits, heads of all layers)."""
    return correlation((x @ theta.T).permute(2, 0, 1), y)


def _weights(rows: np.ndarray) -> Tensor:
    """float32 (fits, targets), each row with sum one, or zero where nothing has a weight."""
    weights = torch.from_numpy(np.asarray(rows, np.float32))
    return weights / weights.sum(dim=1, keepdim=True).clamp(min=1e-12)


def _clip_rows(theta: Tensor, norm: float) -> None:
    """What clip_grad_norm_ does, for each fit by itself."""
    assert theta.grad is not None
    lengths = theta.grad.norm(dim=1, keepdim=True)
    theta.grad *= (norm / (lengths + 1e-6)).clamp(max=1)
