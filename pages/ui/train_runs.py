"""The runs on this machine: where they are, which one the address names, and their list with how far each is."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import streamlit as st

from at2_core.errors import At2Error
from at2_core.progress import ACTIVE, Progress
from at2_core.run_places import find_runs, runs_home
from at2_core.runs import RunFolder
from pages.ui import frame, train_process
from pages.ui.model_memory import duration


@dataclass(frozen=True)
class Shelf:
    """Folders that a page lists, and its words for them.

    prefix: of the page's keys. command: of `python -m at2_core`, works in one. address: the parameter that names one. variable:
    of the environment, moves the folder that holds them. marks: files that show one; the first is written when it is begun.
    kept: what its work was, as in "all that was collected".
    """

    prefix: str
    command: str
    address: str
    variable: str
    home: Callable[[], Path]
    marks: tuple[str, ...]
    noun: str
    new: str
    none: str
    kept: str


RUNS = Shelf(
    "train", "learn", "run_folder", "AT2_RUNS", runs_home, ("request.json", "run.json"), "run", "New run", "No runs yet.",
    "collected",
)  # fmt: skip
STATES = {
    "new": "○ not begun",
    "starting": "● starting",
    "running": "● running",
    "paused": "○ paused",
    "interrupted": "○ interrupted",
    "failed": "✕ failed",
    "done": "✓ done",
}


def root(shelf: Shelf = RUNS) -> Path:
    """The folder that holds the runs."""
    return Path(os.environ.get(shelf.variable) or shelf.home()).expanduser().resolve()


def runs(shelf: Shelf = RUNS) -> list[RunFolder]:
    """The runs right under the root, those that work first, then the one begun last."""
    home = root(shelf)
    found = [
        r for r in find_runs(home, shelf.marks) if r.folder.parent == home and not r.name.startswith(".")
    ]
    return sorted(found, key=lambda r: (train_process.seen(r).state not in ACTIVE, -_begun(r, shelf), r.name))


def named(name: str | None, shelf: Shelf = RUNS) -> RunFolder | None:
    """The run of that name; None for whatever is not the plain name of one."""
    if not name or name.startswith(".") or re.search(r"[/\\\0]", name):
        return None
    home = root(shelf)
    return next((r for r in find_runs(home, shelf.marks) if r.folder == home / name), None)


def asked(shelf: Shelf = RUNS) -> str | None:
    """The run's name that the address gives, else the one looked at last; None for a new run."""
    if shelf.address in st.query_params:
        return st.query_params[shelf.address]
    return None if "draft" in st.query_params else st.session_state.get(f"{shelf.address}-at")


def look_at(name: str | None, shelf: Shelf = RUNS) -> None:
    """Make a run, or with None a new one, what the page shows."""
    st.session_state[f"{shelf.address}-at"] = name
    st.query_params.from_dict({shelf.address: name} if name else {})


def delete(run: RunFolder, shelf: Shelf = RUNS) -> None:
    """Remove a run with all it holds. Raises At2Error while somebody works there, or where the disk refuses."""
    if named(run.name, shelf) is None:
        return
    if train_process.busy(run):
        raise At2Error(f"A process is working in this {shelf.noun}; stop it first.")
    doomed = run.folder.with_name(f".deleted-{run.name}-{os.getpid()}")
    try:
        run.folder.rename(doomed)  # at once, so that nobody finds half a run
        shutil.rmtree(doomed, ignore_errors=True)
    except OSError as error:
        raise At2Error(f"{run.folder} cannot be deleted ({error.strerror}).") from error


def amount(progress: Progress) -> str:
    """How far, in words."""
    if not progress.total or progress.state in ("done", "failed"):
        return ""
    unit = "steps of the fit" if progress.stage == "fit" else "examples"
    return f"{progress.done:,} of {progress.total:,} {unit}"


def short_model(model: str) -> str:
    """The last part of a model's name, or of the path of its folder or file."""
    return model.rstrip("/\\").replace("\\", "/").rsplit("/", 1)[-1]


# ------------------------------------------------------------------------------------------------- the list


def run_list(current: str | None, shelf: Shelf = RUNS) -> None:
    """A card for each run; it follows those that work, and a click shows one."""
    working = any(train_process.seen(r).state in ACTIVE for r in runs(shelf))
    st.fragment(_cards, run_every=2.0 if working else None)(current, working, shelf)


def _cards(current: str | None, was_working: bool, shelf: Shelf) -> None:
    found = [(run, train_process.seen(run)) for run in runs(shelf)]
    if any(p.state in ACTIVE for _, p in found) != was_working:
        st.rerun()  # once: from now on there is nothing to follow, or there is
    if st.button(
        shelf.new,
        icon=":material/add:",
        key="train-new",
        width="stretch",
    ):
        look_at(None, shelf)
        st.rerun()
    for run, progress in found:
        chosen = run.name == current
        with st.container(key=f"train-card-{'chosen-' if chosen else ''}{run.name}", gap=None):
            if st.button(plain(run.name), key=f"train-open-{run.name}", type="tertiary", width="stretch"):
                look_at(run.name, shelf)
                st.rerun()
            left = f"{duration(progress.seconds_left)} left" if progress.seconds_left else ""
            parts = [STATES.get(progress.state, progress.state), amount(progress), left]
            st.text(", ".join(part for part in parts if part))
    if not found:
        frame.remark(shelf.none, "train-none")


def plain(text: str) -> str:
    """Markdown that reads as the text: a label cannot be anything else, and a folder may be called anything."""
    return re.sub(r"([!-/:-@\[-`{-~])", r"\\\1", text)


def _begun(run: RunFolder, shelf: Shelf) -> float:
    try:
        return run.folder.joinpath(shelf.marks[0]).stat().st_mtime
    except OSError:
        return 0.0
