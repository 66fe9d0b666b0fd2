"""How true scores are, by any method: measured on examples, resumable, every ablation run once for all methods.

`evaluate`           one row per example and method: LDS, top-k drops, known truth, forward passes, seconds

LDS (linear datamodeling score): Spearman correlation between the predicted sum of the kept sources' scores and the
measured outcome over random keep-vectors. Top-k drop: how much log-probability the response loses without its k highest-scored
sources. The target is the whole response.
"""

from __future__ import annotations

import hashlib
import json
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from .ablation import log_prob, outcome, random_keep
from .baselines import Method, by_estimator, find_method
from .data import Example
from .errors import At2Error, Cancelled, StorageError
from .estimator import Estimator
from .evaluation_runs import SHOWN
from .example_ablations import STOPPED, ExampleAblations, stem
from .measures import found, lds, measures_of, ranking, summarize, supported, true_sources, without_top
from .models import LanguageModel
from .runs import RunFolder

__all__ = ["ExampleAblations", "evaluate", "lds", "measures_of", "summarize"]

Progress = Callable[[str, int, int], None]
Methods = Mapping[str, "Estimator | Method | None"] | Sequence[str]
ROWS = 2  # of methods and measures; rows of another number are worked out again


def evaluate(
    lm: LanguageModel,
    examples: Sequence[Example],
    methods: Methods,
    *,
    out_dir: str | Path | None = None,
    granularity: str = "sentence",
    num_ablations: int = 32,
    ks: Sequence[int] = (1, 3, 5),
    max_new_tokens: int = 64,
    seed: int = 1,
    progress: Progress | None = None,
    cancel: threading.Event | None = None,
) -> pd.DataFrame:
    """A row per example and method: example, method, sources, tokens, lds, drop_1, ..., passes, seconds.

    methods: names (`baselines.METHODS`), or a name and its method or estimator; None stands for random scores. Drops are in
    nats of the whole response. A top-k drop is missing where the example has no more than k sources, an LDS where outcomes
    are constant. num_ablations 0: no ablations, known truth alone. Where examples have a truth also precision_k,
    recall_k, mrr, and whether the response gives the answer that it supports. passes: forward passes beyond the generation's.
    out_dir: ablations and rows are kept there, and shared between methods and calls. Raises Cancelled when `cancel` is set.
    """
    report = progress or (lambda stage, done, total: None)
    chosen = _methods(lm, methods)
    folder = None if out_dir is None else Path(out_dir)
    settings = json.dumps([num_ablations, list(ks), seed])
    sheets = _sheets(folder, lm, examples, granularity, max_new_tokens, settings)
    if folder is not None:
        RunFolder(folder).write(SHOWN, {"sheets": [sheet.name for sheet in sheets], "methods": list(chosen)})
    rows: list[dict[str, Any]] = []
    for number, (example, sheet) in enumerate(zip(examples, sheets, strict=True)):
        judge = partial(
            _Judge, lm, example, folder and folder / "ablations", granularity, max_new_tokens, cancel
        )
        try:
            rows += _judged(sheet, chosen, judge, (num_ablations, ks, seed), cancel)
        finally:
            sheet.save()
        report("evaluate", number + 1, len(examples))
    return pd.DataFrame(rows, columns=None if rows else ["example", "method"])


def _judged(
    sheet: _Sheet,
    methods: Mapping[str, Method],
    judge: Callable[[], _Judge],
    settings: tuple[int, Sequence[int], int],
    cancel: threading.Event | None,
) -> list[dict[str, Any]]:
    """An example's rows: those that the sheet has, and the others worked out."""
    rows: list[dict[str, Any]] = []
    worker: _Judge | None = None
    for name, method in methods.items():
        if cancel is not None and cancel.is_set():
            raise Cancelled(STOPPED)
        row = sheet.row(method)
        if row is None:
            try:
                worker = worker or judge()
                row = worker.row(method, *settings)
            except (Cancelled, StorageError):
                raise
            except At2Error as error:  # whatever the method: the example's own fault
                row = {"skipped": str(error)}
        sheet.keep(name, method, row)
        if "skipped" in row:
            return [{**sheet.about, "method": None, **row}]
        rows.append({**sheet.about, "method": name, **row})
    return rows


class _Sheet:
    """The rows of one example in the folder, found again by method and settings. shown: those asked for now, by name."""

    def __init__(self, folder: Path | None, name: str, about: dict[str, str], settings: str) -> None:
        self.run = None if folder is None else RunFolder(folder)
        self.name, self.about, self.settings = name, about, settings
        self.before = self.run.read(name) if self.run else None
        self.rows: dict[str, dict[str, Any]] = dict((self.before or {}).get("rows", {}))
        self.shown: dict[str, str] = {}

    def row(self, method: Method) -> dict[str, Any] | None:
        found = self.rows.get(self._key(method))
        return None if found is None or "skipped" in found else dict(found)

    def keep(self, name: str, method: Method, row: dict[str, Any]) -> None:
        self.rows[self._key(method)] = row
        self.shown[name] = self._key(method)

    def save(self) -> None:
        content = {**self.about, "rows": self.rows, "shown": self.shown}
        if self.run is not None and content != self.before:
            self.run.write(self.name, content)

    def _key(self, method: Method) -> str:
        return hashlib.sha256(f"{ROWS} {method.key} {self.settings}".encode()).hexdigest()[:16]


def _sheets(
    folder: Path | None,
    lm: LanguageModel,
    examples: Sequence[Example],
    granularity: str,
    max_new_tokens: int,
    settings: str,
) -> list[_Sheet]:
    """A sheet for each example, in order. An example without a prompt has one too: it says why."""
    sheets: list[_Sheet] = []
    seen, files = set(), Counter[str]()
    for number, example in enumerate(examples):
        # Records may share an id, and a row belongs to one of them.
        name = example.id if example.id not in seen else f"{example.id} ({example.seed:08x}, {number + 1})"
        seen.add(name)
        try:
            file = stem(lm, example, granularity, max_new_tokens)
        except At2Error:
            file = f"{example.key}-none"
        files[file] += 1
        if files[file] > 1:  # a record that is there twice
            file += f"-{files[file]}"
        about = {"example": name, "key": example.key, "group": example.group}
        facts = json.dumps([settings, example.truth, example.answer])
        sheets.append(_Sheet(folder, f"rows/{file}.json", about, facts))
    return sheets


def _methods(lm: LanguageModel, methods: Methods) -> dict[str, Method]:
    if not isinstance(methods, Mapping):
        return {name: find_method(name, lm=lm) for name in methods}
    chosen: dict[str, Method] = {}
    for name, given in methods.items():
        if given is None:
            chosen[name] = find_method("random")
        else:
            chosen[name] = by_estimator(given, "at2", name) if isinstance(given, Estimator) else given
    return chosen


class _Judge:
    """One example with its ablations, judging method after method."""

    def __init__(self, lm: LanguageModel, example: Example, folder: Path | None, granularity: str,
                 max_new_tokens: int, cancel: threading.Event | None) -> None:  # fmt: skip
        self.cancel = cancel
        self.ablations = ExampleAblations(lm, example, folder, granularity, max_new_tokens, cancel)

    def row(self, method: Method, num_ablations: int, ks: Sequence[int], seed: int) -> dict[str, Any]:
        """Raises At2Error where the example cannot be judged."""
        ablations = self.ablations
        gen, sources, example = ablations.gen, ablations.sources, ablations.example
        if not gen.response_ids or len(sources) < 2:
            raise At2Error("no response, or a single source")
        if not num_ablations and not example.truth:
            raise At2Error("no ablations were asked for, and nothing is known of its true sources")
        numbers = (seed, example.seed)
        scores, costs = self._scores(method, numbers)
        order = ranking(scores, np.random.default_rng([*numbers, 3]))
        row: dict[str, Any] = {
            "sources": len(sources),
            "tokens": gen.num_tokens,
            "prompt": len(gen.rendered.ids),
        }
        if num_ablations:
            row |= self._against_ablations(scores, order, num_ablations, ks, numbers)
        if example.truth:
            row |= found(order, true_sources(gen, sources, example), ks)
            row["supported"] = None if example.answer is None else supported(example.answer, gen.text)
        return {**row, **costs}

    def _scores(self, method: Method, numbers: tuple[int, int]) -> tuple[np.ndarray, dict[str, float]]:
        """Scores (S,) of the whole response, and what they cost; ablations at the price of their first time."""
        gen, asked, inside = self.ablations.gen, [], 0.0

        def measure(keep: np.ndarray) -> np.ndarray:
            nonlocal inside
            began = time.perf_counter()
            asked.append(keep)
            measured = self.ablations.measure(keep)
            inside += time.perf_counter() - began
            return measured

        began = time.perf_counter()
        scored = method(
            self.ablations.lm,
            gen,
            self.ablations.sources,
            targets=[slice(0, gen.num_tokens)],
            measure=measure,
            seed=numbers,
            cancel=self.cancel,
        )
        seconds = time.perf_counter() - began - inside + sum(self.ablations.cost(keep) for keep in asked)
        if not np.isfinite(scored.scores).all():
            raise At2Error(f"{method.name} has no finite scores for it")
        return scored.scores[0], {"passes": scored.passes, "seconds": seconds}

    def _against_ablations(
        self, scores: np.ndarray, order: np.ndarray, count: int, ks: Sequence[int], numbers: tuple[int, int]
    ) -> dict[str, float]:
        measured = self.ablations
        keep = random_keep(count, len(scores), np.random.default_rng(numbers))
        outcomes = outcome(measured.measure(keep))
        if not np.isfinite(outcomes).all():
            raise At2Error("ablations give it no finite probability")
        correlation = lds(scores, keep, outcomes)
        if np.isnan(correlation) and np.ptp(outcomes) > 0:
            correlation = (
                0.0  # a method that says nothing predicts nothing; left out, it would look better than it is
            )
        removed = [k for k in ks if k < len(scores)]
        log_probs = log_prob(measured.measure(np.stack([without_top(order, k) for k in (0, *removed)])))
        drops = {k: float(log_probs[0] - lost) for k, lost in zip(removed, log_probs[1:], strict=True)}
        return {"lds": correlation, **{f"drop_{k}": drops.get(k, float("nan")) for k in ks}}
