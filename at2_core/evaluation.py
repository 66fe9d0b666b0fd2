"""How true scores are, by any method: measured on examples, resumable, every ablation run once for all methods.

`evaluate`           one row per example and method: LDS, top-k drops, known truth, forward passes, seconds
`ExampleAblations`   one example's response, its sources, and what ablations do to it

LDS (linear datamodeling score): Spearman correlation between the predicted sum of the kept sources' scores and the
measured outcome over random keep-vectors. Top-k drop: how much log-probability the response loses without its k highest-scored
sources. The target is the whole response.
"""

from __future__ import annotations

import hashlib
import json
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from .ablation import ablate, log_prob, outcome, random_keep
from .baselines import Method, by_estimator, find_method
from .data import Example
from .errors import At2Error, Cancelled
from .estimator import Estimator
from .files import read_arrays, write_arrays
from .generation import Generation, generate, generation_from_ids, replay
from .measures import found, lds, measures_of, ranking, summarize, supported, true_sources, without_top
from .models import LanguageModel
from .runs import RunFolder
from .sources import Source, cut

__all__ = ["ExampleAblations", "evaluate", "lds", "measures_of", "summarize"]

Progress = Callable[[str, int, int], None]
Methods = Mapping[str, "Estimator | Method | None"] | Sequence[str]
STOPPED = "The evaluation was stopped; it goes on from here with the same folder."


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
    nats of the whole response. A top-k drop is missing where the example has no more than k sources, an LDS where outcomes or
    predictions are constant. num_ablations 0: no ablations, known truth alone. Where examples have a truth also precision_k,
    recall_k, mrr, and whether the response gives the answer that it supports. passes: forward passes beyond the generation's.
    out_dir: ablations and rows are kept there, and shared between methods and calls. Raises Cancelled when `cancel` is set.
    """
    report = progress or (lambda stage, done, total: None)
    chosen = _methods(lm, methods)
    folder = None if out_dir is None else Path(out_dir)
    rows: list[dict[str, Any]] = []
    seen: set[str] = set()
    for number, example in enumerate(examples):
        # Records may share an id, and a row belongs to one of them.
        name = example.id if example.id not in seen else f"{example.id} ({example.seed:08x}, {number + 1})"
        seen.add(name)
        sheet = _Sheet(folder, lm, example, granularity, max_new_tokens, (num_ablations, list(ks), seed))
        ablations: ExampleAblations | None = None
        for method_name, method in chosen.items():
            if cancel is not None and cancel.is_set():
                raise Cancelled(STOPPED)
            row = sheet.row(method)
            if row is None and ablations is None:
                try:
                    ablations = ExampleAblations(
                        lm, example, folder and folder / "ablations", granularity, max_new_tokens, cancel
                    )
                except Cancelled:
                    raise
                except At2Error as error:  # whatever the method: the example's own fault
                    row = {"skipped": str(error)}
            if row is None:
                assert ablations is not None
                row = _judge(ablations, method, num_ablations, ks, seed)
            sheet.keep(method_name, method, row)
            if "skipped" in row:
                rows.append({"example": name, "key": example.key, "method": None, **row})
                break
            rows.append({"example": name, "key": example.key, "method": method_name, **row})
        sheet.save(name, number)
        report("evaluate", number + 1, len(examples))
    return pd.DataFrame(rows, columns=None if rows else ["example", "method"])


class ExampleAblations:
    """One example's response, sources and every ablation measured so far, kept in a file where a folder is given."""

    def __init__(
        self,
        lm: LanguageModel,
        example: Example,
        folder: Path | None,
        granularity: str,
        max_new_tokens: int,
        cancel: threading.Event | None = None,
    ) -> None:
        self.lm, self.example, self.cancel = lm, example, cancel
        self.path = (
            None if folder is None else folder / f"{_stem(lm, example, granularity, max_new_tokens)}.npz"
        )
        self.keep: dict[bytes, np.ndarray] = {}  # keep-vector -> logit-probabilities (T,)
        self.seconds: dict[bytes, float] = {}  # how long each took
        self.gen = self._generation(max_new_tokens)
        self.sources: list[Source] = cut(self.gen.rendered, granularity)
        if not self.keep:
            self._save()  # the response, which takes as long to make as many a method

    def measure(self, keep: np.ndarray) -> np.ndarray:
        """Token logit-probabilities float32 (M, T) for keep (M, S); only what is new is run."""
        fresh = {row.tobytes(): row for row in keep if row.tobytes() not in self.keep}
        if fresh:
            began = time.perf_counter()
            measured = ablate(
                self.lm, self.gen, self.sources, np.stack(list(fresh.values())), cancel=self.cancel
            )
            self.keep |= dict(zip(fresh, measured, strict=True))
            self.seconds |= dict.fromkeys(fresh, (time.perf_counter() - began) / len(fresh))
            self._save()
        return np.stack([self.keep[row.tobytes()] for row in keep])

    def cost(self, keep: np.ndarray) -> float:
        """Seconds that these ablations took when they were run; nan where that is not known."""
        return sum(self.seconds.get(row, float("nan")) for row in {row.tobytes() for row in keep})

    def _generation(self, max_new_tokens: int) -> Generation:
        arrays = None if self.path is None else read_arrays(self.path)
        if arrays is not None:
            rows = arrays["keep"].astype(bool)
            self.keep = {
                row.tobytes(): values for row, values in zip(rows, arrays["logit_probs"], strict=True)
            }
            if "seconds" in arrays:
                self.seconds = dict(zip(self.keep, arrays["seconds"].tolist(), strict=True))
            return generation_from_ids(self.lm, self.example.task, arrays["response_ids"].tolist())
        if self.example.response is not None:
            return replay(self.lm, self.example.task, self.example.response)
        gen = generate(self.lm, self.example.task, max_new_tokens=max_new_tokens, cancel=self.cancel)
        if self.cancel is not None and self.cancel.is_set():
            raise Cancelled(STOPPED)
        return gen

    def _save(self) -> None:
        if self.path is None:
            return
        try:
            write_arrays(
                self.path,
                {
                    "keep": np.array([np.frombuffer(row, bool) for row in self.keep]).reshape(
                        -1, len(self.sources)
                    ),
                    "logit_probs": np.array(list(self.keep.values())).reshape(
                        len(self.keep), self.gen.num_tokens
                    ),
                    "seconds": np.array([self.seconds.get(row, np.nan) for row in self.keep]),
                    "response_ids": np.array(self.gen.response_ids),
                },
            )
        except OSError as error:
            raise At2Error(
                f"{self.path.parent} cannot be written ({error.strerror}); free some space."
            ) from error


class _Sheet:
    """The rows of one example in the folder, found again by method and settings."""

    def __init__(self, folder: Path | None, lm: LanguageModel, example: Example, granularity: str,
                 max_new_tokens: int, settings: tuple[Any, ...]) -> None:  # fmt: skip
        self.run = None if folder is None else RunFolder(folder)
        self.name = f"rows/{_stem(lm, example, granularity, max_new_tokens)}.json"
        self.example, self.settings = example, json.dumps(settings)
        before = self.run.read(self.name) if self.run else None
        self.rows: dict[str, dict[str, Any]] = dict(before["rows"]) if before and "rows" in before else {}
        self.fresh = False

    def row(self, method: Method) -> dict[str, Any] | None:
        found = self.rows.get(self._key(method))
        return None if found is None or "skipped" in found["row"] else dict(found["row"])

    def keep(self, name: str, method: Method, row: dict[str, Any]) -> None:
        entry = {"method": None if "skipped" in row else name, "row": row}
        self.fresh |= self.rows.pop(self._key(method), None) != entry
        self.rows[self._key(method)] = entry  # the last of a name is the one that was asked for last

    def save(self, name: str, number: int) -> None:
        if self.run is not None and self.fresh:
            self.run.write(
                self.name, {"example": name, "number": number, "key": self.example.key, "rows": self.rows}
            )

    def _key(self, method: Method) -> str:
        facts = json.dumps([self.example.truth, self.example.answer])
        return hashlib.sha256(f"{method.key} {self.settings} {facts}".encode()).hexdigest()[:16]


def _stem(lm: LanguageModel, example: Example, granularity: str, max_new_tokens: int) -> str:
    """What was measured belongs to one model in one precision."""
    return f"{example.key}-{granularity}-{max_new_tokens}-{lm.fingerprint}-{str(lm.dtype)[6:]}"


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


def _judge(
    ablations: ExampleAblations, method: Method, num_ablations: int, ks: Sequence[int], seed: int
) -> dict[str, Any]:
    gen, sources, example = ablations.gen, ablations.sources, ablations.example
    if not gen.response_ids or len(sources) < 2:
        return {"skipped": "no response, or a single source"}
    numbers = (seed, example.seed)
    asked: list[np.ndarray] = []
    inside = 0.0

    def measure(keep: np.ndarray) -> np.ndarray:
        nonlocal inside
        began = time.perf_counter()
        asked.append(keep)
        measured = ablations.measure(keep)
        inside += time.perf_counter() - began
        return measured

    began = time.perf_counter()
    scored = method(
        ablations.lm, gen, sources, targets=[slice(0, gen.num_tokens)], measure=measure, seed=numbers
    )
    seconds = time.perf_counter() - began - inside + sum(ablations.cost(keep) for keep in asked)
    scores = scored.scores[0]
    order = ranking(scores, np.random.default_rng([*numbers, 3]))
    row: dict[str, Any] = {"sources": len(sources), "tokens": gen.num_tokens, "prompt": len(gen.rendered.ids)}
    if num_ablations:
        keep = random_keep(num_ablations, len(sources), np.random.default_rng(numbers))
        row["lds"] = lds(scores, keep, outcome(ablations.measure(keep)))
        removed = [k for k in ks if k < len(sources)]
        log_probs = log_prob(ablations.measure(np.stack([without_top(order, k) for k in (0, *removed)])))
        row |= {f"drop_{k}": float("nan") for k in ks}
        row |= {
            f"drop_{k}": float(log_probs[0] - lost) for k, lost in zip(removed, log_probs[1:], strict=True)
        }
    if example.truth:
        row |= found(order, true_sources(gen, sources, example), ks)
        row["supported"] = None if example.answer is None else supported(example.answer, gen.text)
    return {**row, "passes": scored.passes, "seconds": seconds}
