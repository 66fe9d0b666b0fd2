"""Learn theta from random ablations: collect once per example, then fit (arXiv 2504.13752, section 3).

`learn`      collect, fit and save, in a run folder that can be left at any moment and gone on with
`collect`    one example: a response, ablations of its context, and what every head would have predicted
`fit`        theta that maximises the mean correlation between prediction and outcome

A prediction is linear in theta, so an example shrinks to its `predictors` (targets, ablations, layers * heads) and
`outcomes` (targets, ablations): the model is run once, and any number of fits follow in seconds.
"""

from __future__ import annotations

import datetime
import json
import os
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from .ablation import ablate, outcome, random_keep
from .attribution import source_features
from .data import Example
from .errors import At2Error, Cancelled, EmptyInput, PromptTooLong, ResponseDoesNotFit, RunFolderMismatch
from .estimator import Estimator, save_estimator
from .generation import Generation, generate, replay
from .models import LanguageModel
from .prompts import render
from .sources import cut, split_sentences

Progress = Callable[[str, int, int], None]  # stage, done, total


@dataclass(frozen=True)
class Settings:
    """How examples are collected; a run folder belongs to one of these."""

    num_ablations: int = 32
    keep_probability: float = 0.5
    granularity: str = "token"
    max_new_tokens: int = 64
    max_prompt_tokens: int = 1024  # longer examples are skipped, and counted
    seed: int = 0


@dataclass(frozen=True)
class FitSettings:
    """The reference recipe's numbers; regularisation is chosen on the validation examples."""

    steps: int = 1000
    learning_rate: float = 1e-3
    batch_size: int = 512
    clip_norm: float = 1.0
    validation_fraction: float = 0.15
    seed: int = 0


@dataclass(frozen=True)
class Collected:
    """One example's share: predictors float32 (targets, ablations, layers, heads), outcomes float32 (targets, ablations)."""

    predictors: np.ndarray
    outcomes: np.ndarray


def learn(
    lm: LanguageModel,
    examples: Sequence[Example],
    out_dir: str | Path,
    *,
    settings: Settings = Settings(),
    fit_settings: FitSettings = FitSettings(),
    about: Mapping[str, Any] | None = None,
    max_examples: int | None = None,
    progress: Progress | None = None,
    cancel: threading.Event | None = None,
) -> Estimator:
    """theta for this model, learned from the examples; also saved as `estimator.safetensors` in the run folder.

    Goes on where an earlier call with the same folder stopped, with the same result as an undisturbed run. Examples that cannot
    be used (too long, no response) are counted in the estimator's metadata. max_examples: stop collecting after so many usable
    ones. about: what goes to the metadata as "data", for instance name and licence.
    Raises RunFolderMismatch if the folder belongs to another model or other settings, Cancelled when `cancel` is set.
    """
    run = open_run(lm, out_dir, settings)
    report = progress or (lambda stage, done, total: None)
    total = min(len(examples), max_examples or len(examples))
    collected: dict[str, Collected] = {}
    skipped: dict[str, int] = {}
    for example in _shuffled(examples, settings.seed):
        if len(collected) >= total:
            break
        if cancel is not None and cancel.is_set():
            raise Cancelled("Learning was stopped; it goes on from here with the same folder.")
        result = _collect_once(lm, example, run, settings, cancel)
        if isinstance(result, Collected):
            collected[example.id] = result
        else:
            skipped[result] = skipped.get(result, 0) + 1
        report("collect", len(collected), total)
    if not collected:
        raise At2Error(f"None of the {len(examples)} examples could be used: {skipped or 'there were none'}.")
    theta, figures = fit_and_validate(list(collected.values()), list(collected), fit_settings, report)
    estimator = Estimator(
        theta=theta,
        name=f"AT2 for {lm.name}",
        model=lm.name,
        model_fingerprint=lm.fingerprint,
        metadata={
            "method": "AT2 (arXiv 2504.13752)",
            "data": dict(about or {}),
            "examples": len(collected),
            "targets": int(sum(len(c.outcomes) for c in collected.values())),
            "skipped": skipped,
            "settings": asdict(settings),
            "fit": asdict(fit_settings),
            "validation": figures,
            "date": datetime.date.today().isoformat(),
        },
    )
    save_estimator(estimator, Path(out_dir) / "estimator.safetensors")
    return estimator


def open_run(lm: LanguageModel, out_dir: str | Path, settings: Settings) -> Path:
    """The run folder, made or checked to belong to this model and these settings."""
    folder = Path(out_dir)
    (folder / "examples").mkdir(parents=True, exist_ok=True)
    wanted = {"model": lm.name, "fingerprint": lm.fingerprint, "dtype": str(lm.dtype), **asdict(settings)}
    path = folder / "run.json"
    if path.is_file():
        found = json.loads(path.read_text(encoding="utf-8"))
        differing = [key for key in wanted if found.get(key) != wanted[key]]
        if differing:
            key = differing[0]
            raise RunFolderMismatch(
                f"The run folder {folder} was made with {key} {found.get(key)!r}, not {wanted[key]!r}; choose another folder "
                "or the old setting."
            )
    else:
        _write_whole(path, json.dumps(wanted, indent=1).encode())
    return folder


def collect(
    lm: LanguageModel, example: Example, settings: Settings, cancel: threading.Event | None = None
) -> Collected | str:
    """One example's predictors and outcomes, or the reason why it has none."""
    try:
        if len(render(lm.tokenizer, example.task).ids) > settings.max_prompt_tokens:
            return "prompt longer than max_prompt_tokens"
        if example.response is None:
            gen = generate(lm, example.task, max_new_tokens=settings.max_new_tokens, cancel=cancel)
        else:
            gen = replay(lm, example.task, example.response)
    except (EmptyInput, PromptTooLong, ResponseDoesNotFit) as error:
        return type(error).__name__
    if cancel is not None and cancel.is_set():
        raise Cancelled("Learning was stopped; it goes on from here with the same folder.")
    targets = response_targets(gen)
    sources = cut(gen.rendered, settings.granularity)
    if not targets or len(sources) < 2:
        return "no response" if not targets else "fewer than two sources"
    rng = np.random.default_rng([settings.seed, example.seed])
    keep = random_keep(settings.num_ablations, len(sources), rng, settings.keep_probability)
    logit_probs = ablate(lm, gen, sources, keep, cancel=cancel)
    features = source_features(lm, gen, sources, targets)  # (layers, heads, targets, sources)
    signs = torch.from_numpy(2 * keep.astype(np.float32) - 1).to(features.device)
    predictors = torch.einsum("ms,lhgs->gmlh", signs, features).cpu().numpy()
    outcomes = np.stack([outcome(logit_probs[:, target]) for target in targets]).astype(np.float32)
    usable = np.isfinite(outcomes).all(axis=1) & (outcomes.std(axis=1) > 1e-6)
    if not usable.any():
        return "ablations change nothing"
    return Collected(predictors[usable], outcomes[usable])


def response_targets(gen: Generation) -> list[slice]:
    """Rows of each sentence of the response; a token belongs to the sentence it starts in."""
    starts = np.array([start for start, _ in gen.response_offsets])
    targets = []
    for start, end in split_sentences(gen.text):
        rows = np.flatnonzero((starts >= start) & (starts < end))
        if len(rows) and gen.text[start:end].strip():
            targets.append(slice(int(rows[0]), int(rows[-1]) + 1))
    return targets


def fit_and_validate(
    collected: Sequence[Collected], names: Sequence[str], settings: FitSettings, report: Progress
) -> tuple[np.ndarray, dict[str, Any]]:
    """theta float32 (layers, heads), L1-normalised, and the figures that chose it.

    The reference fit and a non-negative one, each shrunk to the uniform theta by several amounts, are compared on held-out
    examples; the best is refitted on all of them.
    """
    train, held = _split(len(collected), settings)
    if not len(held):
        train = held = np.arange(len(collected))
    candidates = []
    for nonnegative in (False, True):
        theta, best_step = fit(
            [collected[i] for i in train], settings, nonnegative, [collected[i] for i in held]
        )
        for shrinkage in (0.0, 0.1, 0.25, 0.5, 0.75):
            shrunk = shrink(theta, shrinkage)
            score = mean_correlation(shrunk, [collected[i] for i in held])
            candidates.append(
                (
                    score,
                    nonnegative,
                    shrinkage,
                    best_step,
                    mean_correlation(shrunk, [collected[i] for i in train]),
                )
            )
        report("fit", len(candidates), 11)
    score, nonnegative, shrinkage, steps, train_score = max(candidates, key=lambda c: c[0])
    final, _ = fit(collected, FitSettings(**{**asdict(settings), "steps": max(1, steps)}), nonnegative)
    report("fit", 11, 11)
    uniform = np.full_like(final, 1 / final.size)
    return shrink(final, shrinkage), {
        "correlation": round(score, 4),
        "correlation_training": round(train_score, 4),
        "correlation_average_attention": round(mean_correlation(uniform, [collected[i] for i in held]), 4),
        "examples_training": len(train),
        "examples_validation": len(held),
        "nonnegative": nonnegative,
        "shrinkage": shrinkage,
        "steps": steps,
        "candidates": [
            {"correlation": round(c, 4), "nonnegative": n, "shrinkage": s, "steps": t}
            for c, n, s, t, _ in candidates
        ],
    }


def fit(
    collected: Sequence[Collected],
    settings: FitSettings,
    nonnegative: bool = False,
    validation: Sequence[Collected] = (),
) -> tuple[np.ndarray, int]:
    """theta float32 (layers, heads) and the step it is from: Adam on the negative mean Pearson correlation.

    theta starts uniform. With validation examples the step that suits them best is returned, else the last.
    """
    shape = collected[0].predictors.shape[2:]
    predictors, outcomes = _stack(collected)
    held = _stack(validation) if validation else None
    generator = torch.Generator().manual_seed(settings.seed)
    theta = torch.full((predictors.shape[-1],), 1 / predictors.shape[-1], requires_grad=True)
    optimizer = torch.optim.Adam([theta], lr=settings.learning_rate)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, settings.steps)
    best, best_score, best_step = theta.detach().clone(), -np.inf, 0
    for step in range(1, settings.steps + 1):
        rows = torch.randperm(len(outcomes), generator=generator)[: settings.batch_size]
        loss = -correlation(predictors[rows] @ theta, outcomes[rows]).mean()
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_([theta], settings.clip_norm)
        optimizer.step()
        schedule.step()
        if nonnegative:
            with torch.no_grad():
                theta.clamp_(min=0)
        if held is not None and (step % 20 == 0 or step == settings.steps):
            with torch.no_grad():
                score = float(correlation(held[0] @ theta, held[1]).mean())
            if score > best_score:
                best, best_score, best_step = theta.detach().clone(), score, step
    chosen, step = (best, best_step) if held is not None else (theta.detach(), settings.steps)
    return _normalised(chosen.reshape(shape).numpy()), step


def shrink(theta: np.ndarray, amount: float) -> np.ndarray:
    """theta moved towards the uniform one by `amount` (0: unchanged, 1: average attention), L1-normalised."""
    return _normalised((1 - amount) * theta + amount * np.full_like(theta, 1 / theta.size))


def mean_correlation(theta: np.ndarray, collected: Sequence[Collected]) -> float:
    """Mean Pearson correlation between prediction and outcome over all targets."""
    predictors, outcomes = _stack(collected)
    return float(correlation(predictors @ torch.from_numpy(theta.reshape(-1)), outcomes).mean())


def correlation(a: Tensor, b: Tensor) -> Tensor:
    """Pearson correlation along the last axis; 0 where one side is constant."""
    a = a - a.mean(dim=-1, keepdim=True)
    b = b - b.mean(dim=-1, keepdim=True)
    return (a * b).sum(-1) / (a.norm(dim=-1) * b.norm(dim=-1)).clamp(min=1e-12)


def _normalised(theta: np.ndarray) -> np.ndarray:
    return (theta / max(float(np.abs(theta).sum()), 1e-12)).astype(np.float32)


def _stack(collected: Sequence[Collected]) -> tuple[Tensor, Tensor]:
    """predictors (all targets, ablations, layers * heads) and outcomes (all targets, ablations)."""
    predictors = np.concatenate([c.predictors for c in collected])
    outcomes = np.concatenate([c.outcomes for c in collected])
    return torch.from_numpy(predictors.reshape(*outcomes.shape, -1)), torch.from_numpy(outcomes)


def _split(count: int, settings: FitSettings) -> tuple[np.ndarray, np.ndarray]:
    order = np.random.default_rng(settings.seed).permutation(count)
    held = round(count * settings.validation_fraction)
    return order[held:], order[:held]


def _shuffled(examples: Sequence[Example], seed: int) -> list[Example]:
    return [examples[i] for i in np.random.default_rng(seed).permutation(len(examples))]


def _collect_once(
    lm: LanguageModel, example: Example, run: Path, settings: Settings, cancel: threading.Event | None
) -> Collected | str:
    """From the run folder if it is there, else collected and put there whole."""
    stem = run / "examples" / f"{example.seed:08x}"
    done, skipped = stem.with_suffix(".npz"), stem.with_suffix(".skipped")
    if skipped.is_file():
        return skipped.read_text(encoding="utf-8")
    if done.is_file():
        with np.load(done, allow_pickle=False) as arrays:
            return Collected(arrays["predictors"], arrays["outcomes"])
    result = collect(lm, example, settings, cancel)
    if isinstance(result, str):
        _write_whole(skipped, result.encode())
        return result
    part = stem.with_suffix(".part.npz")
    np.savez(part, predictors=result.predictors, outcomes=result.outcomes)
    _sync(part)
    part.replace(done)
    return result


def _write_whole(path: Path, content: bytes) -> None:
    """A reader, or the next start after a crash, sees the old file or the new one, never half."""
    part = path.with_suffix(path.suffix + ".part")
    part.write_bytes(content)
    _sync(part)
    part.replace(path)


def _sync(path: Path) -> None:
    with open(path, "rb+") as file:
        os.fsync(file.fileno())
