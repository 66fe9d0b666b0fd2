"""What the panels of a training run and of an evaluation share: words for its state, ways to resume and to delete it."""

from __future__ import annotations

import streamlit as st

from at2_core.errors import At2Error
from at2_core.progress import Progress
from at2_core.runs import RunFolder
from pages.ui import frame, train_process, train_runs
from pages.ui.train_runs import Shelf

RESUMABLE = {"new": "Start", "paused": "Resume", "interrupted": "Resume", "failed": "Try again"}
SENTENCES = {
    "new": "It has not begun.",
    "starting": "Starting: reading the examples and loading the model, which is downloaded first if it is new…",
    "paused": "Paused. All that was {kept} is kept, and Resume goes on from here.",
    "interrupted": "Its process ended without a word, as after a crash or a power cut. Nothing that was {kept} is lost, "
    "and Resume goes on from here.",
}


def complaint(shelf: Shelf) -> None:
    """What a click in the panel came to, where that is something to complain of."""
    said = st.session_state.pop(f"{shelf.prefix}-run-complaint", "")
    if said:
        frame.complain(said, f"{shelf.prefix}-run")


def _complain_next(shelf: Shelf, sentence: str) -> None:
    st.session_state[f"{shelf.prefix}-run-complaint"] = sentence


def in_words(progress: Progress, shelf: Shelf) -> str:
    """The state of a folder where nothing is running, and how far it is."""
    said = SENTENCES.get(progress.state, "").format(kept=shelf.kept)
    amount = train_runs.amount(progress)
    return f"{said} ({amount})" if amount else said


def resume_button(run: RunFolder, progress: Progress, shelf: Shelf) -> None:
    if progress.state in RESUMABLE and st.button(
        RESUMABLE[progress.state], icon=":material/play_arrow:", type="primary", key=f"{shelf.prefix}-resume",
        on_click=_resume, args=(run, shelf),
    ):  # fmt: skip
        st.rerun()


def _resume(run: RunFolder, shelf: Shelf) -> None:
    st.session_state[f"{shelf.prefix}-stopped"] = None  # what was said of a stop is over
    try:
        if not train_process.start(run, shelf.command):
            _complain_next(shelf, f"A process works in this {shelf.noun} already.")
    except At2Error as error:
        _complain_next(shelf, str(error))


def output(run: RunFolder, progress: Progress) -> None:
    """The last lines of a process that failed."""
    said = train_process.last_lines(run)
    if progress.state == "failed" and said:
        open_ = progress.message == train_process.DIED
        with st.expander("The last lines of its output", expanded=open_), st.container(key="train-output"):
            st.text(said)


def delete_button(run: RunFolder, shelf: Shelf) -> None:
    with st.popover("Delete", icon=":material/delete:", type="tertiary", key=f"{shelf.prefix}-delete"):
        st.text(f"This removes {run.folder} with all that was {shelf.kept}. It cannot be undone.")
        st.button(
            "Delete for good", key=f"{shelf.prefix}-delete-for-good", on_click=_delete, args=(run, shelf)
        )


def _delete(run: RunFolder, shelf: Shelf) -> None:
    try:
        train_runs.delete(run, shelf)
    except At2Error as error:
        _complain_next(shelf, str(error))
    else:
        train_runs.look_at(None, shelf)
