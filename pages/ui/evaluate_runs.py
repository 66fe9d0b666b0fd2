"""The evaluations on this machine, as the Train page has its runs, and who else works here."""

from __future__ import annotations

import os
from functools import partial

from at2_core.evaluation_runs import evaluations_home
from at2_core.progress import ACTIVE
from at2_core.runs import RunFolder
from pages.ui import session, train_process, train_runs
from pages.ui.train_runs import Shelf

EVALUATIONS = Shelf(
    "evaluate", "evaluate", "evaluation", "AT2_EVALUATIONS", evaluations_home, ("evaluation.json",), "evaluation",
    "New evaluation", "No evaluations yet.", "measured",
)  # fmt: skip
root = partial(train_runs.root, EVALUATIONS)
evaluations = partial(train_runs.runs, EVALUATIONS)


def located(model: str) -> str:
    """A model's name; a folder or a file by its whole path, for the process works elsewhere."""
    path = os.path.abspath(os.path.expanduser(model))
    return path if model and os.path.exists(path) else model


def is_loaded_here(model: str) -> bool:
    """Whether it is the server's own, however it was written."""
    return located(model) == located(session.model())


def at_work(beside: RunFolder | None = None) -> str:
    """A sentence where another process of these pages works on this machine; "" where none does."""
    busy = [
        f"{noun} {run.name!r}"
        for noun, found in (("the evaluation", evaluations()), ("the training run", train_runs.runs()))
        for run in found
        if (beside is None or run.folder != beside.folder) and train_process.seen(run).state in ACTIVE
    ]
    if not busy:
        return ""
    others = " and ".join([", ".join(busy[:-1]), busy[-1]] if len(busy) > 1 else busy)
    verb = "are" if len(busy) > 1 else "is"
    return (
        f"{others[0].upper()}{others[1:]} {verb} running too: they share this machine, and each takes longer."
    )
