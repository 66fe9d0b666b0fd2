"""One example's share of learning theta: its response, random ablations of its context, and every head's predictions.

`respond`    the response
`measure`    what ablations do to it, and what every head would have predicted of them (arXiv 2504.13752, section 3)
`estimate`   what collecting many examples will cost, from one real one
"""

from __future__ import annotations

import shutil
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from .ablation import ablate, outcome, random_keep
from .attribution import source_features
from .data import Example
from .errors import At2Error, Cancelled, EmptyInput, PromptTooLong, ResponseDoesNotFit
from .fitting import Collected
from .generation import generate, generation_from_ids, replay, response_targets
from .models import LanguageModel
from .prompts import render
from .runs import Settings
from .sources import cut

STOPPED = "Learning was stopped; it goes on from here with the same folder."
FIT_COPIES = 4  # predictors, their stack, and what a fit needs beside them


@dataclass(frozen=True)
class Answered:
    """What became of one example: the response's ids, and what was collected, or why nothing was."""

    response_ids: list[int] | None
    result: Collected | str


def respond(
    lm: LanguageModel, example: Example, settings: Settings, cancel: threading.Event | None = None
) -> list[int] | str:
    """Ids of the example's response, made by the model or given; or the reason why it has none. Raises Cancelled."""
    try:
        if len(render(lm.tokenizer, example.task).ids) > settings.max_prompt_tokens:
            return "prompt longer than max_prompt_tokens"
        if example.response is None:
            gen = generate(lm, example.task, max_new_tokens=settings.max_new_tokens, cancel=cancel)
        else:
            gen = replay(lm, example.task, example.response)
    except EmptyInput:
        return "no context or no query"
    except PromptTooLong:
        return "prompt longer than the model takes"
    except ResponseDoesNotFit:
        return "given response empty or too long"
    if cancel is not None and cancel.is_set():
        raise Cancelled(STOPPED)
    return gen.response_ids or "no response"


def measure(
    lm: LanguageModel,
    example: Example,
    response_ids: Sequence[int],
    settings: Settings,
    cancel: threading.Event | None = None,
) -> Collected | str:
    """What random ablations do to the response, and each head's predictions; or the reason why there are none.

    The response is read again from its ids, so that an interrupted example ends with the same numbers. Raises Cancelled.
    """
    gen = generation_from_ids(lm, example.task, response_ids)
    targets = response_targets(gen)
    sources = cut(gen.rendered, settings.granularity)
    if not targets or len(sources) < 2:
        return "no response" if not targets else "fewer than two sources"
    rng = np.random.default_rng([settings.seed, example.seed])
    keep = random_keep(settings.num_ablations, len(sources), rng, settings.keep_probability)
    try:
        logit_probs = ablate(lm, gen, sources, keep, cancel=cancel)
    except Cancelled:
        raise Cancelled(STOPPED) from None
    features = source_features(lm, gen, sources, targets)  # (layers, heads, targets, sources)
    if settings.direct:
        features = torch.cat([features, source_features(lm, gen, sources, targets, direct=True)])
    signs = torch.from_numpy(2 * keep.astype(np.float32) - 1).to(features.device)
    predictors = torch.einsum("ms,lhgs->gmlh", signs, features).cpu().numpy()
    outcomes = np.stack([outcome(logit_probs[:, target]) for target in targets]).astype(np.float32)
    usable = np.isfinite(outcomes).all(axis=1) & (outcomes.std(axis=1) > 1e-6)
    if not usable.any():
        return "ablations change nothing"
    return Collected(predictors[usable], outcomes[usable], example.group)


def shuffled(examples: Sequence[Example], seed: int) -> list[Example]:
    """The order in which a run takes its examples."""
    return [examples[i] for i in np.random.default_rng(seed).permutation(len(examples))]


# -------------------------------------------------------------------------------------------------- cost


@dataclass(frozen=True)
class Estimate:
    """What a run will need. examples: how many will be collected; skipped: how many prompts are too long or empty.

    disk_mb, memory_mb: of the folder, and of a fit, beside the model. free_mb: on the folder's disk. seconds: on this machine,
    as busy as it is.
    """

    examples: int
    skipped: int
    seconds: float
    disk_mb: float
    memory_mb: float
    free_mb: float


def estimate(
    lm: LanguageModel,
    examples: Sequence[Example],
    out_dir: str | Path,
    settings: Settings = Settings(),
    max_examples: int | None = None,
    sample: int = 200,
) -> Estimate:
    """Cost of a run, from the lengths of up to `sample` prompts and one real example of middling length, done and thrown away.

    Raises At2Error where none of the sampled examples can be used.
    """
    order = shuffled(examples, settings.seed)[:sample]
    lengths = {i: n for i, e in enumerate(order) if (n := _prompt_tokens(lm, e, settings)) is not None}
    share = len(lengths) / max(1, len(order))
    if not lengths:
        raise At2Error(
            "None of the examples can be used: their prompts are empty, or longer than the run allows."
        )
    total = min(round(share * len(examples)), max_examples or len(examples))
    for middling in sorted(lengths, key=lambda i: abs(lengths[i] - np.median(list(lengths.values()))))[:5]:
        began = time.perf_counter()
        ids = respond(lm, order[middling], settings)
        result = ids if isinstance(ids, str) else measure(lm, order[middling], ids, settings)
        if isinstance(result, Collected):
            seconds = time.perf_counter() - began
            break
    else:
        raise At2Error("None of five examples of middling length gave a response that ablations change.")
    work = np.mean([lengths[i] + settings.max_new_tokens for i in lengths])
    example_mb = (result.predictors.nbytes + result.outcomes.nbytes) / 1e6
    return Estimate(
        examples=total,
        skipped=len(examples) - round(share * len(examples)),
        seconds=float(total * seconds * work / (lengths[middling] + settings.max_new_tokens)),
        disk_mb=total * (example_mb + 0.005),
        memory_mb=total * example_mb * FIT_COPIES,
        free_mb=shutil.disk_usage(_existing(Path(out_dir))).free / 1e6,
    )


def _prompt_tokens(lm: LanguageModel, example: Example, settings: Settings) -> int | None:
    try:
        length = len(render(lm.tokenizer, example.task).ids)
    except (EmptyInput, PromptTooLong):
        return None
    return (
        length if length <= min(settings.max_prompt_tokens, lm.max_length - settings.max_new_tokens) else None
    )


def _existing(path: Path) -> Path:
    while not path.exists() and path != path.parent:
        path = path.parent
    return path
