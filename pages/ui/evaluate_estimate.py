"""What an evaluation would cost: ablations by counting, minutes by trying one example with the loaded model."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from at2_core.data import Example
from at2_core.errors import At2Error, Cancelled
from at2_core.evaluation_runs import EvaluationRequest, fits
from at2_core.segmentation import split_paragraphs, split_sentences, split_words
from pages.ui import estimate_job, frame
from pages.ui.evaluate_methods import measuring, passes_of
from pages.ui.train_runs import duration

if TYPE_CHECKING:
    from at2_core.models import LanguageModel

LOOKED_AT = 20  # examples, to know about how many sources there are
SEARCHED = 1000  # examples, for those that are long enough and short enough
CHARACTERS = 4  # of a token, about
TRIED = 4  # ablations
NONE_FITS = "None of the first {count:,} examples has enough sources and a prompt short enough; ask less of them under More."
NO_RESPONSE = "The model ended its response to the example that was tried at once, so that nothing is known about the time."
NO_SOURCES = "The example that was tried has no sources, so that nothing is known about the time."
_SPLIT = {"word": split_words, "sentence": split_sentences, "paragraph": split_paragraphs}


@dataclass(frozen=True)
class Tried:
    """One example that was tried. generating, ablating: seconds for its response, for one ablation. share: of the examples,
    those that are judged."""

    generating: float
    ablating: float
    share: float


def sources_of(examples: Sequence[Example], granularity: str) -> float:
    """About how many sources an example has."""
    counts = []
    for example in examples[:LOOKED_AT]:
        texts = [d.text for d in example.task.documents] or [example.task.context]
        if granularity == "document":
            counts.append(len(texts))
        elif granularity == "token":
            counts.append(sum(len(text) for text in texts) // CHARACTERS)
        else:
            counts.append(sum(len(_SPLIT[granularity](text)) for text in texts))
    return float(np.mean(counts)) if counts else 0.0


def ablations_of(request: EvaluationRequest, sources: float, rows: int) -> tuple[float, float]:
    """Forward passes over one example: to judge so many rows, at most, and of the methods themselves."""
    return measuring(request.ablations, rows, len(request.top_k)), passes_of(request.methods, sources)


def estimate(
    request: EvaluationRequest, examples: Sequence[Example], stamp: tuple, passes: float, *, pressed: bool
) -> None:
    """Draw how long it takes, where that is known; pressed: begin to work it out. passes: ablations in all."""
    columns = tuple(sorted(request.columns.items()))
    limits = (request.min_sources, request.max_prompt_tokens)
    asked = (request.data, stamp, columns, request.granularity, request.max_new_tokens, limits)

    def show(tried: Tried) -> None:
        number = min(request.examples, len(examples))
        fewer = min(number, round(tried.share * len(examples)))
        frame.remark(in_words(tried, fewer, passes * fewer / max(1, number)), "evaluate-estimate")

    estimate_job.estimate(
        "evaluate", asked, lambda lm, cancel: _try(lm, examples, request, cancel), show, pressed=pressed
    )


def fitting(
    lm: LanguageModel, examples: Sequence[Example], request: EvaluationRequest, cancel: threading.Event
) -> tuple[list[Example], float]:
    """Some of the examples that are judged, and which share of all they are. Raises At2Error where none is, or Cancelled."""
    found: list[Example] = []
    searched = 0
    for searched, example in enumerate(examples[:SEARCHED], 1):  # noqa: B007
        if cancel.is_set():
            raise Cancelled("Stopped.")
        if fits(lm.tokenizer, example, request):
            found.append(example)
        if len(found) >= LOOKED_AT:
            break
    if not found:
        raise At2Error(NONE_FITS.format(count=searched))
    return found, len(found) / searched


def _try(
    lm: LanguageModel, examples: Sequence[Example], request: EvaluationRequest, cancel: threading.Event
) -> Tried:
    from at2_core.ablation import random_keep
    from at2_core.evaluation import ExampleAblations

    found, share = fitting(lm, examples, request, cancel)
    example = sorted(found, key=_size)[len(found) // 2]
    began = time.perf_counter()
    tried = ExampleAblations(lm, example, None, request.granularity, request.max_new_tokens, cancel)
    generating = time.perf_counter() - began
    if not tried.gen.response_ids or not tried.sources:
        raise At2Error(NO_RESPONSE if tried.sources else NO_SOURCES)
    keep = random_keep(TRIED, len(tried.sources), np.random.default_rng(0))
    began = time.perf_counter()
    tried.measure(keep)
    return Tried(generating, (time.perf_counter() - began) / TRIED, share)


def _size(example: Example) -> int:
    return len(example.task.context) + sum(len(d.text) for d in example.task.documents)


def in_words(tried: Tried, examples: int, passes: float) -> str:
    seconds = examples * tried.generating + passes * tried.ablating
    return (
        f"About {duration(seconds)} on this machine: {_short(tried.generating)} for each response and "
        f"{_short(tried.ablating)} for each ablation, as tried with one example."
    )


def _short(seconds: float) -> str:
    return f"{seconds:.1f} s" if seconds >= 1 else f"{1000 * seconds:,.0f} ms"
