"""Learn theta from random ablations: collect example by example, then fit (arXiv 2504.13752, section 3).

`learn`      everything, in a run folder that can be left at any moment and gone on with
`fit_run`    theta and its report from what a run has collected
"""

from __future__ import annotations

import contextlib
import datetime
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from .choosing import Chosen, as_published, choose
from .collecting import STOPPED, Answered, measure, respond, shuffled
from .data import Example
from .errors import At2Error, Cancelled
from .estimator import Estimator, save_estimator
from .fitting import Collected, FitSettings, levelled, tied, untied
from .models import LanguageModel
from .progress import Pace
from .readout import find_readout, no_readout
from .runs import RunFolder, Settings

Tell = Callable[[str, int, int], None]  # stage, done, total


class DamagedExamples(At2Error):
    """Some of what was collected cannot be read; it is removed, and can be collected again."""


# Takes the examples that are not in the folder yet, in order; gives each back with what became of it, in any order.
Source = Callable[
    [Sequence[Example], Settings, RunFolder, threading.Event], Iterator[tuple[Example, Answered]]
]


def learn(
    lm: LanguageModel,
    examples: Sequence[Example],
    out_dir: str | Path | RunFolder,
    *,
    settings: Settings = Settings(),
    fit_settings: FitSettings = FitSettings(),
    about: Mapping[str, Any] | None = None,
    max_examples: int | None = None,
    progress: Tell | None = None,
    cancel: threading.Event | None = None,
    source: Source | None = None,
) -> Estimator:
    """theta for this model, learned from the examples; also saved as `estimator.safetensors` in the run folder.

    Goes on where an earlier call with the same folder stopped, with the same result as an undisturbed run. Examples that cannot
    be used (too long, no response) are counted in the estimator's metadata. max_examples: the first so many usable ones of a
    shuffled order. about: what goes to the metadata as "data", for instance name and licence. source: who does the work
    (`cluster.workers`); this process if left out.
    Raises RunFolderMismatch if the folder belongs to another model or other settings, Cancelled when `cancel` is set or the
    folder's stop file appears, At2Error if another process works in the folder or the disk is full.
    """
    run = out_dir if isinstance(out_dir, RunFolder) else RunFolder(out_dir)
    stop = cancel or threading.Event()
    if settings.direct and find_readout(lm.model) is None:
        raise no_readout(lm.name)
    with run.working(stop), run.told():
        run.identify(lm.name, lm.fingerprint, str(lm.dtype), settings)
        run.log("started", model=lm.name, examples=len(examples))
        order = shuffled(examples, settings.seed)
        total = min(len(order), max_examples or len(order))
        estimator = None
        while estimator is None:  # what turns out to be damaged when it is needed is collected again
            collect(order, total, settings, run, source or _here(lm), progress, stop)
            with contextlib.suppress(DamagedExamples):
                estimator = fit_run(run, order, total, fit_settings, about, progress, stop, lm=lm)
        save_estimator(estimator, run.folder / "estimator.safetensors")
        validation = estimator.metadata["validation"]
        run.log("done", correlation=validation["correlation"])
    return estimator


def collect(
    order: Sequence[Example],
    total: int,
    settings: Settings,
    run: RunFolder,
    source: Source,
    progress: Tell | None,
    cancel: threading.Event,
) -> None:
    """Collect until the first `total` usable examples of the order are in the folder. Raises Cancelled."""
    began = time.monotonic()
    usable = {key for e in order if run.has(key := _key(e))}
    skipped = {key: reason for e in order if (reason := run.skipped(key := _key(e))) is not None}
    pace = Pace(run.tell, "collect", min(len(usable), total), total, _counted(skipped), began)
    while pending := _pending(order, usable, skipped, total):
        for example, answered in source(pending, settings, run, cancel):
            key = _key(example)
            if isinstance(answered.result, str):
                run.skip(key, answered.result)
                skipped[key] = answered.result
            else:
                c = answered.result
                run.keep(
                    key, {"predictors": c.predictors, "outcomes": c.outcomes, "group": np.array(c.group)}
                )
                usable.add(key)
            pace.report(min(len(usable), total), _counted(skipped))
            if progress is not None:
                progress("collect", min(len(usable), total), total)
        if cancel.is_set():
            raise Cancelled(STOPPED)


def fit_run(
    run: RunFolder,
    order: Sequence[Example] | None,
    total: int | None,
    settings: FitSettings = FitSettings(),
    about: Mapping[str, Any] | None = None,
    progress: Tell | None = None,
    cancel: threading.Event | None = None,
    *,
    lm: LanguageModel | None = None,
    recipe: str = "chosen",
    name: str = "default",
) -> Estimator:
    """theta from what the folder holds, with a report beside it in `fits/NAME`. recipe: "chosen" or "reference".

    order, total: the first `total` collected examples of this order; without an order all of them, by key.
    Raises At2Error where nothing was collected, Cancelled.
    """
    keys = run.keys() if order is None else [key for e in order if run.has(key := _key(e))]
    keys = keys[:total]
    if not keys:
        reasons = "; ".join(f"{count} times {reason}" for reason, count in run.reasons().items())
        raise At2Error(
            f"None of the examples can be used ({reasons or 'there were none'}); nothing can be learned from them."
        )
    collected = _load(run, keys, {_key(e): e.group for e in order or ()})
    pace = Pace(run.tell, "fit", 0, settings.steps, run.reasons(), time.monotonic())

    def tell(stage: str, done: int, of: int) -> None:
        if done % 20 == 0 or done == of:
            pace.report(min(settings.steps, done if stage == "fit" else settings.steps), run.reasons())
        if progress is not None:
            progress(stage, done, of)

    belongs = run.read("run.json") or {}
    if belongs.get("direct") and recipe == "reference":
        raise At2Error(
            f"{run.folder} was collected with direct contributions, which the published recipe does not know; "
            "leave the recipe out."
        )
    if belongs.get("direct"):
        chosen = _choose_direct(collected, settings, tell, cancel)
    elif recipe == "reference":
        chosen = as_published(collected, settings)
    else:
        chosen = choose(collected, settings, tell, cancel)
    report = chosen.report
    targets = int(sum(len(c.outcomes) for c in collected))
    shown = {k: v for k, v in report.items() if k not in ("candidates", "history", "fit")}
    theta, *direct = np.split(chosen.theta, 2) if belongs.get("direct") else [chosen.theta]
    estimator = Estimator(
        theta=theta,
        name=_name(str(belongs.get("model", "")), dict(about or {}), bool(direct)),
        model=str(belongs.get("model", "")),
        model_fingerprint=str(belongs.get("fingerprint", "")) if lm is None else lm.fingerprint,
        metadata={
            "method": "AT2 (arXiv 2504.13752)" + (" with direct contributions" if direct else ""),
            "data": dict(about or {}),
            "examples": len(collected),
            "targets": targets,
            "skipped": run.reasons(),
            "settings": {k: v for k, v in belongs.items() if k in Settings.__dataclass_fields__},
            "fit": asdict(settings),
            "validation": shown,
            "date": datetime.date.today().isoformat(),
        },
        deviation=None if chosen.deviation is None else chosen.deviation[: len(theta)],
        direct=direct[0] if direct else None,
    )
    run.write(f"fits/{name}/report.json", {"examples": len(collected), "targets": targets, **report})
    save_estimator(estimator, run.folder / "fits" / name / "estimator.safetensors")
    return estimator


def _name(model: str, about: Mapping[str, Any], direct: bool) -> str:
    """Told apart from others of the same model by what it was learned from."""
    data = " ".join(str(about.get("name") or "").split())[:60]
    learned = f", learned from {data}" if data else ""
    return f"AT2 for {model}{' with direct contributions' if direct else ''}{learned}"


# -------------------------------------------------------------------------------------------------- inside


def _choose_direct(
    collected: Sequence[Collected], settings: FitSettings, tell: Tell, cancel: threading.Event | None
) -> Chosen:
    """Coefficients (2 layers, heads) of attention and of what heads write: with one coefficient of the latter for all heads, or
    one for each, as validation examples like it."""
    level, factors = levelled(collected)
    layers = len(factors) // 2
    shape = (layers, collected[0].predictors.shape[3])
    shared = choose(tied(level), settings, tell, cancel, attention=slice(1, None))
    own = choose(level, settings, tell, cancel, attention=slice(layers))
    figures = {"shared": shared.report["correlation"], "own": own.report["correlation"]}
    if figures["own"] > figures["shared"]:
        theta, deviation, report = own.theta, own.deviation, own.report
    else:
        theta, report = untied(shared.theta, shape), shared.report
        deviation = None if shared.deviation is None else untied(shared.deviation, shape)
    if deviation is not None:
        deviation = deviation * factors
    return Chosen(theta * factors, deviation, {**report, "direct": figures})


def _here(lm: LanguageModel) -> Source:
    """The work done by this process, one example after the other; a response is kept before its ablations begin."""

    def work(
        pending: Sequence[Example], settings: Settings, run: RunFolder, cancel: threading.Event
    ) -> Iterator[tuple[Example, Answered]]:
        for example in pending:
            if cancel.is_set():
                raise Cancelled(STOPPED)
            ids: list[int] | str | None = run.response(_key(example))
            if ids is None:
                ids = respond(lm, example, settings, cancel)
                if not isinstance(ids, str):
                    run.keep_response(_key(example), ids)
            if isinstance(ids, str):
                yield example, Answered(None, ids)
            else:
                yield example, Answered(ids, measure(lm, example, ids, settings, cancel))

    return work


def _pending(
    order: Sequence[Example], usable: set[str], skipped: Mapping[str, str], total: int
) -> list[Example]:
    """What is missing among the first examples of the order that may fill the total, given what was skipped so far."""
    wanted: list[Example] = []
    taken = 0
    for example in order:
        key = _key(example)
        if taken >= total:
            break
        if key in skipped:
            continue
        taken += 1
        if key not in usable:
            wanted.append(example)
    return wanted


def _key(example: Example) -> str:
    return example.key


def _counted(skipped: Mapping[str, str]) -> dict[str, int]:
    counts: dict[str, int] = {}
    for reason in skipped.values():
        counts[reason] = counts.get(reason, 0) + 1
    return counts


def _load(run: RunFolder, keys: Sequence[str], groups: Mapping[str, str]) -> list[Collected]:
    collected = []
    for key in keys:
        arrays = run.arrays(key)
        if arrays is not None:
            group = str(arrays["group"]) if "group" in arrays else groups.get(key, "")
            collected.append(Collected(arrays["predictors"], arrays["outcomes"], group))
    if len(collected) < len(keys):
        raise DamagedExamples(
            f"{len(keys) - len(collected)} collected examples in {run.folder} were damaged and are removed; go on with: "
            f"python -m at2_core learn --out {run.folder}"
        )
    return collected
