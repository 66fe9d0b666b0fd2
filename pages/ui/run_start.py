"""The start of a training run or an evaluation: its folder, with the uploaded file in it, and the process that works there."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import streamlit as st

from at2_core.errors import At2Error
from at2_core.run_places import new_folder
from at2_core.runs import RunFolder
from pages.ui import train_process, train_runs
from pages.ui.draft import UPLOAD, Draft
from pages.ui.train_runs import Shelf


def show_what_came_of_it(form: Draft, shelf: Shelf) -> None:
    """Where the draft that the address names has been started, look at that; also after a second click, which interrupts what
    the first one draws."""
    name = _started().get((shelf.prefix, st.query_params.get("draft", "")))
    if name:
        train_runs.look_at(name, shelf)
        form.end()
        st.rerun()


def start(
    draft: str, request: Any, title: str, ask: Callable[[RunFolder, Any], None], form: Draft, shelf: Shelf
) -> None:
    """Make a folder with the uploaded file in it, write the request down with `ask`, and let a process work there. A second
    click finds the draft among those that were started; the session is not asked in between, for there a click interrupts."""
    upload = form.uploaded() if form.value("kind") == UPLOAD else None
    started = _started()
    if (shelf.prefix, draft) in started:
        return
    try:
        run = _folder_for(title, shelf)
        if upload is not None:
            kept = run.folder / f"data-{upload.name}"  # no name that the folder's own files have
            request = replace(request, data=str(kept))
            shutil.copyfile(upload, kept)
        ask(run, request)
        train_process.start(run, shelf.command)
        started[shelf.prefix, draft] = run.name
    except At2Error as error:
        st.session_state[f"{shelf.prefix}-complaint"] = str(error)
    except OSError as error:
        st.session_state[f"{shelf.prefix}-complaint"] = (
            f"The {shelf.noun} cannot be made in {train_runs.root(shelf)} ({error.strerror or error})."
        )


@st.cache_resource(show_spinner=False)
def _started() -> dict[tuple[str, str], str]:
    """The name of the folder that each draft became, since this server began."""
    return {}


def _folder_for(title: str, shelf: Shelf) -> RunFolder:
    """A new folder; of two that want the same name, one gets the next."""
    while True:
        folder = new_folder(train_runs.root(shelf), title)
        try:
            folder.mkdir(parents=True)
            return RunFolder(folder)
        except FileExistsError:
            continue
