"""The start of an evaluation: its folder, with the uploaded file in it, and the process that works there."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import streamlit as st

from at2_core.errors import At2Error
from at2_core.evaluation_runs import EvaluationRequest, ask
from at2_core.runs import RunFolder, new_folder
from pages.ui import evaluate_runs, train_process
from pages.ui.draft import UPLOAD
from pages.ui.evaluate_draft import FORM


def start_evaluation(draft: str, request: EvaluationRequest) -> None:
    """Make the evaluation's folder, with the uploaded file in it, and let a process work there. A second click finds the
    draft among those that were started; the session is not asked in between, for there a click interrupts."""
    upload = FORM.uploaded() if FORM.value("kind") == UPLOAD else None
    known = started()
    if draft in known:
        return
    try:
        run = _folder_for(FORM.value("name") or Path(request.data).stem)
        if upload is not None:
            kept = run.folder / f"data-{upload.name}"  # no name that the folder's own files have
            request = replace(request, data=str(kept))
            shutil.copyfile(upload, kept)
        ask(run, request)
        train_process.start(run, "evaluate")
        known[draft] = run.name
    except At2Error as error:
        st.session_state["evaluate-complaint"] = str(error)
    except OSError as error:
        st.session_state["evaluate-complaint"] = (
            f"The evaluation cannot be made in {evaluate_runs.root()} ({error.strerror or error})."
        )


@st.cache_resource(show_spinner=False)
def started() -> dict[str, str]:
    """The name of the evaluation that each draft became, since this server began."""
    return {}


def _folder_for(title: str) -> RunFolder:
    """A new folder; of two that want the same name, one gets the next."""
    while True:
        folder = new_folder(evaluate_runs.root(), title)
        try:
            folder.mkdir(parents=True)
            return RunFolder(folder)
        except FileExistsError:
            continue
