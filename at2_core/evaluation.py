"""How true scores are: do they predict what happens when sources are removed?

`evaluate`    one row per example and method: LDS, top-k drops, seconds
`summarize`   means with bootstrap intervals, and paired differences to a reference method

LDS (linear datamodeling score): Spearman correlation between the predicted sum of the kept sources' scores and the
measured outcome over random keep-vectors. Top-k drop: how much log-probability the response loses without its k highest-scored
sources. The target is the whole response.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from scipy import stats

from .ablation import ablate, log_prob, outcome, random_keep
from .attribution import sum_to_sources, token_scores
from .data import Example
from .errors import At2Error, Cancelled
from .estimator import Estimator
from .generation import Generation, generate, generation_from_ids, replay
from .models import LanguageModel
from .runs import read_arrays, write_arrays
from .sources import Source, cut

Progress = Callable[[str, int, int], None]


def evaluate(
    lm: LanguageModel,
    examples: Sequence[Example],
    methods: Mapping[str, Estimator | None],
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
    """A row per example and method: example, method, sources, tokens, lds, drop_1, drop_3, ..., seconds.

    methods: a name and its estimator; None stands for random scores. Drops are in nats of the whole response. A top-k drop is
    missing where the example has no more than k sources, an LDS where outcomes or predictions are constant.
    out_dir: ablations are kept there and shared between methods and calls. Raises Cancelled when `cancel` is set.
    """
    report = progress or (lambda stage, done, total: None)
    folder = None if out_dir is None else Path(out_dir) / "ablations"
    rows: list[dict[str, object]] = []
    seen: set[str] = set()
    for number, example in enumerate(examples):
        if cancel is not None and cancel.is_set():
            raise Cancelled("The evaluation was stopped; it goes on from here with the same folder.")
        # Records may share an id, and a row belongs to one of them.
        name = example.id if example.id not in seen else f"{example.id} ({example.seed:08x}, {number + 1})"
        seen.add(name)
        try:
            ablations = ExampleAblations(lm, example, folder, granularity, max_new_tokens)
        except At2Error as error:
            rows.append({"example": name, "method": None, "skipped": str(error)})
            continue
        if ablations.gen.response_ids and len(ablations.sources) > 1:
            for method, est in methods.items():
                rows.append(
                    {"example": name, "method": method, **_judge(ablations, est, num_ablations, ks, seed)}
                )
        else:
            rows.append({"example": name, "method": None, "skipped": "no response, or a single source"})
        report("evaluate", number + 1, len(examples))
    return pd.DataFrame(rows, columns=None if rows else ["example", "method"])


def summarize(
    frame: pd.DataFrame, reference: str | None = None, *, resamples: int = 2000, seed: int = 0
) -> pd.DataFrame:
    """A row per method and measure: mean, 95 % bootstrap interval over examples (low, high), and their number.

    With a reference method also the mean paired difference to it and that difference's interval.
    """
    measures = [c for c in frame.columns if c == "lds" or c.startswith("drop_")]
    judged = frame[frame["method"].notna()]
    out = []
    for measure in measures:
        table = judged.pivot(index="example", columns="method", values=measure).astype(float)
        for method in judged["method"].unique():
            values = table[method].dropna().to_numpy()
            row = {
                "measure": measure,
                "method": method,
                "examples": len(values),
                **_interval(values, "", resamples, seed),
            }
            if reference is not None and method != reference:
                paired = (table[method] - table[reference]).dropna().to_numpy()
                row |= _interval(paired, "difference_", resamples, seed)
            out.append(row)
    return pd.DataFrame(out)


class ExampleAblations:
    """One example's response, sources and every ablation measured so far, kept in a file where a folder is given."""

    def __init__(
        self, lm: LanguageModel, example: Example, folder: Path | None, granularity: str, max_new_tokens: int
    ) -> None:
        self.lm, self.example = lm, example
        self.path = (
            None
            if folder is None  # what was measured belongs to one model in one precision
            else folder
            / f"{example.key}-{granularity}-{max_new_tokens}-{lm.fingerprint}-{str(lm.dtype)[6:]}.npz"
        )
        self.keep: dict[bytes, np.ndarray] = {}  # keep-vector -> logit-probabilities (T,)
        self.gen = self._generation(max_new_tokens)
        self.sources: list[Source] = cut(self.gen.rendered, granularity)

    def measure(self, keep: np.ndarray) -> np.ndarray:
        """Token logit-probabilities float32 (M, T) for keep (M, S); only what is new is run."""
        fresh = {row.tobytes(): row for row in keep if row.tobytes() not in self.keep}
        if fresh:
            measured = ablate(self.lm, self.gen, self.sources, np.stack(list(fresh.values())))
            self.keep |= dict(zip(fresh, measured, strict=True))
            self._save()
        return np.stack([self.keep[row.tobytes()] for row in keep])

    def _generation(self, max_new_tokens: int) -> Generation:
        arrays = None if self.path is None else read_arrays(self.path)
        if arrays is not None:
            rows = arrays["keep"].astype(bool)
            self.keep = {
                row.tobytes(): values for row, values in zip(rows, arrays["logit_probs"], strict=True)
            }
            return generation_from_ids(self.lm, self.example.task, arrays["response_ids"].tolist())
        if self.example.response is not None:
            return replay(self.lm, self.example.task, self.example.response)
        return generate(self.lm, self.example.task, max_new_tokens=max_new_tokens)

    def _save(self) -> None:
        if self.path is None:
            return
        try:
            write_arrays(
                self.path,
                {
                    "keep": np.stack([np.frombuffer(row, bool) for row in self.keep]),
                    "logit_probs": np.stack(list(self.keep.values())),
                    "response_ids": np.array(self.gen.response_ids),
                },
            )
        except OSError as error:
            raise At2Error(
                f"{self.path.parent} cannot be written ({error.strerror}); free some space."
            ) from error


def lds(scores: np.ndarray, keep: np.ndarray, outcomes: np.ndarray) -> float:
    """Spearman correlation between keep (M, S) @ scores (S,) and outcomes (M,); nan where either is constant."""
    predicted = keep.astype(np.float64) @ scores.astype(np.float64)
    if np.ptp(predicted) == 0 or np.ptp(outcomes) == 0:
        return float("nan")
    return float(stats.spearmanr(predicted, outcomes).statistic)


def _judge(
    ablations: ExampleAblations,
    est: Estimator | None,
    num_ablations: int,
    ks: Sequence[int],
    seed: int,
) -> dict[str, object]:
    sources, gen = ablations.sources, ablations.gen
    rng = np.random.default_rng([seed, ablations.example.seed])
    keep = random_keep(num_ablations, len(sources), rng)
    outcomes = outcome(ablations.measure(keep))
    started = time.perf_counter()
    if est is None:
        scores = rng.random(len(sources))  # one draw: the mean over examples smooths the rest
    else:
        scores = sum_to_sources(token_scores(ablations.lm, gen, est), sources).mean(axis=0)
    seconds = time.perf_counter() - started
    row: dict[str, object] = {
        "sources": len(sources),
        "tokens": gen.num_tokens,
        "lds": lds(scores, keep, outcomes),
    }
    whole = log_prob(ablations.measure(np.ones((1, len(sources)), bool)))[0]
    for k in ks:
        if len(sources) > k:
            without = log_prob(ablations.measure(_without_top(scores, k)[None]))[0]
            row[f"drop_{k}"] = float(whole - without)
        else:
            row[f"drop_{k}"] = float("nan")
    row["seconds"] = seconds
    return row


def _without_top(scores: np.ndarray, k: int) -> np.ndarray:
    keep = np.ones(len(scores), bool)
    keep[np.argsort(-scores, kind="stable")[:k]] = False
    return keep


def _interval(values: np.ndarray, prefix: str, resamples: int, seed: int) -> dict[str, float]:
    if len(values) == 0:
        return {f"{prefix}mean": float("nan"), f"{prefix}low": float("nan"), f"{prefix}high": float("nan")}
    mean = float(values.mean())
    if len(values) < 2 or np.ptp(values) == 0:
        return {f"{prefix}mean": mean, f"{prefix}low": mean, f"{prefix}high": mean}
    result = stats.bootstrap(
        (values,), np.mean, n_resamples=resamples, method="percentile", rng=np.random.default_rng(seed)
    )
    low, high = result.confidence_interval
    return {f"{prefix}mean": mean, f"{prefix}low": float(low), f"{prefix}high": float(high)}
