"""What a run would cost, as the engine works it out with the loaded model."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from at2_core.runs import Settings
from pages.ui import estimate_job, frame, train_runs
from pages.ui.train_reading import Found

if TYPE_CHECKING:
    from at2_core.collecting import Estimate
    from at2_core.models import LanguageModel

ELSEWHERE = "The estimate needs the model, and another one is loaded here. Once the run has begun it says how long it takes."


def estimate(found: Found, settings: Settings, examples: int, *, pressed: bool) -> None:
    """Draw what is known about the cost of this run; pressed: begin to work it out."""
    asked = (found.source, found.stamp, tuple(sorted((found.columns or {}).items())), settings, examples)

    def work_out(lm: LanguageModel, _: threading.Event) -> Estimate:
        from at2_core import collecting

        assert found.examples is not None
        return collecting.estimate(lm, found.examples.examples, train_runs.root(), settings, examples)

    estimate_job.estimate("train", asked, work_out, _show, pressed=pressed)


def _show(cost: Estimate) -> None:
    frame.remark(in_words(cost), "train-estimate")
    if cost.disk_mb > cost.free_mb:
        frame.complain("That is more than the disk has room for; take fewer examples.", "train-disk")


def in_words(cost: Estimate) -> str:
    skipped = f" ({cost.skipped:,} skipped: too long)" if cost.skipped > 0 else ""
    return (
        f"About {cost.examples:,} examples{skipped} in {train_runs.duration(cost.seconds)} on this machine; "
        f"{_mb(cost.disk_mb)} on disk of {_mb(cost.free_mb)} free; {_mb(cost.memory_mb)} of memory for the fit, "
        "beside the model."
    )


def _mb(megabytes: float) -> str:
    if megabytes < 1:
        return "less than 1 MB"
    return f"{megabytes:,.0f} MB" if megabytes < 10_000 else f"{megabytes / 1000:,.0f} GB"
