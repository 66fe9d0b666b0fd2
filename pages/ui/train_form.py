"""A new run: its model, its examples, its settings, what it would cost, and its start."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

import streamlit as st

from at2_core.errors import At2Error
from at2_core.runs import Request, RunFolder, Settings, new_folder
from pages.ui import frame, session, train_process, train_runs
from pages.ui.draft import UPLOAD
from pages.ui.train_data import choose_data
from pages.ui.train_draft import FORM, GRANULARITIES
from pages.ui.train_estimate import ELSEWHERE, estimate
from pages.ui.train_reading import Found

PURPOSE = (
    "Training learns how much each attention head of a model counts: it removes parts of example texts at random and "
    "watches the model's response change. Begin with a file of examples."
)
USUAL_EXAMPLES = 1000  # more hardly helps a small model, and each takes a second or more
KEPT: dict[str, Any] = {"persist_state": "session"}
key, value = FORM.key, FORM.value


def new_run(first: bool) -> None:
    """The form. first: nobody has trained here yet."""
    came_of_it = _started().get(st.query_params.get("draft", ""))
    if came_of_it:  # also after a second click, which interrupts what the first one draws
        train_runs.look_at(came_of_it)
        FORM.end()
        st.rerun()
    draft = FORM.begin()
    if first:
        frame.remark(PURPOSE, "train-purpose")
    left, right = st.columns([1.3, 1], gap="medium")
    with left, st.container(gap="small"):
        found = choose_data(FORM)
    with right, st.container(gap="small"):
        model = _model()
        usable = len(found.examples.examples) if found and found.examples and not found.complaint else 0
        examples = _examples(found, usable)
        settings, more = _settings()
        ready = bool(usable and model)
        request = _request(found, model, examples, settings, more) if ready else None
        with st.container(horizontal=True, vertical_alignment="center"):
            # No callback: that would be called with the settings of the run before, without the last edit.
            start = st.button(
                "Start", type="primary", icon=":material/play_arrow:", key="train-start", disabled=not ready,
            )  # fmt: skip
            pressed = st.button(
                "Estimate", key="train-estimate", disabled=not ready,
            )  # fmt: skip
        if start and request is not None:
            FORM.keep()  # the address names the draft, by which the run is found
            _start(draft, request)
            st.rerun()
        complaint = st.session_state.pop("train-complaint", "")
        if complaint:
            frame.complain(complaint, "train-start")
        if not ready:
            st.caption("Give examples that can be used, then start." if model else "Name a model.")
        elif model == session.MODEL:
            estimate(found, settings, examples, pressed=pressed)
        elif pressed:
            frame.remark(ELSEWHERE, "train-estimate")
    FORM.keep()


def _model() -> str:
    model = st.text_input(
        "Model", key=key("model"), **KEPT,
        help="A name of the catalogue, a model on the hub (owner/name), a folder, or a .gguf file.",
    )  # fmt: skip
    return (model or "").strip()


def _examples(found: Found | None, usable: int) -> int:
    """How many; begins with what is usual whenever other data came, but not for a draft that was opened again."""
    if found is None or not usable:
        st.number_input(
            "Number of examples",
            value=None,
            disabled=True,
            key="train-no-examples",
            placeholder="of those given",
        )
        return 0
    before, now = st.session_state.get("train-examples-of"), (found.source, found.stamp)
    st.session_state["train-examples-of"] = now
    if not value("examples") or (before is not None and before != now):
        st.session_state[key("examples")] = min(usable, USUAL_EXAMPLES)
    elif value("examples") > usable:
        st.session_state[key("examples")] = usable
    return _number("Number of examples", "examples", most=usable)


def _settings() -> tuple[Settings, dict[str, Any]]:
    """How examples are collected; and "fit_seed", "name" and "licence" of the data."""
    boxes = st.columns(3, gap="small", vertical_alignment="bottom")
    with boxes[0]:
        ablations = _number(
            "Ablations", "ablations", help="Of each example: how often parts of it are removed."
        )
    with boxes[1]:
        new_tokens = _number("New tokens", "new-tokens", help="The model's response has at most so many.")
    with boxes[2]:
        prompt_tokens = _number("Prompt tokens", "prompt-tokens", help="Longer examples are skipped.")
    with st.expander("More", key="train-more"):  # what most people leave as it is
        granularity = st.segmented_control(
            "What is removed", GRANULARITIES, key=key("granularity"), required=True, **KEPT
        )
        boxes = st.columns(2, gap="small")
        with boxes[0]:
            seed = _number("Seed of the ablations", "seed", help="And of the order of the examples.")
            name = st.text_input("Name of the data", key=key("name"), max_chars=200, **KEPT)
        with boxes[1]:
            fit_seed = _number("Seed of the fit", "fit-seed", help="Which examples are held out.")
            licence = st.text_input("Licence of the data", key=key("licence"), max_chars=200, **KEPT)
    settings = Settings(
        num_ablations=ablations,
        granularity=granularity,
        max_new_tokens=new_tokens,
        max_prompt_tokens=prompt_tokens,
        seed=seed,
    )
    about = {"name": (name or "").strip(), "licence": (licence or "").strip()}
    return settings, {"fit_seed": fit_seed, **about}


def _number(label: str, field: str, most: int | None = None, help: str | None = None) -> int:
    """A whole number in its range; what it began with where the box was emptied."""
    low, high = FORM.ranges[field]
    found = st.number_input(label, low, most or high, key=key(field), step=1, help=help, **KEPT)
    return int(found if found is not None else FORM.usual(field))


def _request(found: Found, model: str, examples: int, settings: Settings, more: dict[str, Any]) -> Request:
    path = os.path.abspath(os.path.expanduser(model))
    return Request(
        model=path if os.path.exists(path) else model,
        data=found.source,
        columns=dict(found.columns or {}),
        max_examples=examples or None,
        settings=settings,
        fit={"seed": more["fit_seed"]} if more["fit_seed"] else {},
        about={"name": more["name"] or found.title, "licence": more["licence"] or "not stated"},
    )


def _start(draft: str, request: Request) -> None:
    """Make the run's folder, with the uploaded file in it, and let a process work there. A second click finds the draft
    among those that were started; the session is not asked in between, for there a click interrupts."""
    upload = FORM.uploaded() if value("kind") == UPLOAD else None
    started = _started()
    if draft in started:
        return
    try:
        run = _folder_for(request)
        if upload is not None:
            kept = run.folder / f"data-{upload.name}"  # no name that the folder's own files have
            request = Request(**{**vars(request), "data": str(kept)})
            shutil.copyfile(upload, kept)
        run.ask(request)
        train_process.start(run)
        started[draft] = run.name
    except At2Error as error:
        st.session_state["train-complaint"] = str(error)
    except OSError as error:
        st.session_state["train-complaint"] = (
            f"The run cannot be made in {train_runs.root()} ({error.strerror or error})."
        )


@st.cache_resource(show_spinner=False)
def _started() -> dict[str, str]:
    """The name of the run that each draft became, since this server began."""
    return {}


def _folder_for(request: Request) -> RunFolder:
    """A new folder; of two that want the same name, one gets the next."""
    while True:
        folder = new_folder(train_runs.root(), Path(request.about["name"]).stem)
        try:
            folder.mkdir(parents=True)
            return RunFolder(folder)
        except FileExistsError:
            continue
