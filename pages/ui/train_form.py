"""A new run: its model, its examples, its settings, what it would cost, and its start."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import streamlit as st

from at2_core.runs import Request, RunFolder, Settings
from pages.ui import frame, session
from pages.ui.evaluate_runs import located
from pages.ui.form_boxes import KEPT, examples_box, model_box, number_box, start_and_estimate
from pages.ui.run_start import show_what_came_of_it, start
from pages.ui.train_data import choose_data
from pages.ui.train_draft import FORM, GRANULARITIES
from pages.ui.train_estimate import ELSEWHERE, estimate
from pages.ui.train_reading import Found
from pages.ui.train_runs import RUNS

PURPOSE = (
    "Training learns how much each attention head of a model counts: it removes parts of example texts at random and "
    "watches the model's response change. Begin with a file of examples."
)
USUAL_EXAMPLES = 1000  # more hardly helps a small model, and each takes a second or more
key, number = FORM.key, partial(number_box, FORM)


def new_run(first: bool) -> None:
    """The form. first: nobody has trained here yet."""
    show_what_came_of_it(FORM, RUNS)
    draft = FORM.begin()
    if first:
        frame.remark(PURPOSE, "train-purpose")
    left, right = st.columns([1.3, 1], gap="medium")
    with left, st.container(gap="small"):
        found = choose_data(FORM)
    with right, st.container(gap="small"):
        model = model_box(FORM)
        usable = len(found.examples.examples) if found and found.examples and not found.complaint else 0
        examples = examples_box(FORM, found, usable, USUAL_EXAMPLES)
        settings, more = _settings()
        ready = bool(usable and model)
        request = _request(found, model, examples, settings, more) if ready else None
        clicked, pressed = start_and_estimate(FORM, disabled=not ready)
        if clicked and request is not None:
            FORM.keep()  # the address names the draft, by which the run is found
            start(draft, request, Path(request.about["name"]).stem, RunFolder.ask, FORM, RUNS)
            st.rerun()
        complaint = st.session_state.pop("train-complaint", "")
        if complaint:
            frame.complain(complaint, "train-start")
        if not ready:
            st.caption("Give examples that can be used, then start." if model else "Name a model.")
        elif model == session.model():
            estimate(found, settings, examples, pressed=pressed)
        elif pressed:
            frame.remark(ELSEWHERE, "train-estimate")
    FORM.keep()


def _settings() -> tuple[Settings, dict[str, Any]]:
    """How examples are collected; and "fit_seed", "name" and "licence" of the data."""
    boxes = st.columns(3, gap="small", vertical_alignment="bottom")
    with boxes[0]:
        ablations = number(
            "Ablations", "ablations", help="Of each example: how often parts of it are removed."
        )
    with boxes[1]:
        new_tokens = number("New tokens", "new-tokens", help="The model's response has at most so many.")
    with boxes[2]:
        prompt_tokens = number("Prompt tokens", "prompt-tokens", help="Longer examples are skipped.")
    with st.expander("More", key="train-more"):  # what most people leave as it is
        granularity = st.segmented_control(
            "What is removed", GRANULARITIES, key=key("granularity"), required=True, **KEPT
        )
        boxes = st.columns(2, gap="small")
        with boxes[0]:
            seed = number("Seed of the ablations", "seed", help="And of the order of the examples.")
            name = st.text_input("Name of the data", key=key("name"), max_chars=200, **KEPT)
        with boxes[1]:
            fit_seed = number("Seed of the fit", "fit-seed", help="Which examples are held out.")
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


def _request(found: Found, model: str, examples: int, settings: Settings, more: dict[str, Any]) -> Request:
    return Request(
        model=located(model),
        data=found.source,
        columns=dict(found.columns or {}),
        max_examples=examples or None,
        settings=settings,
        fit={"seed": more["fit_seed"]} if more["fit_seed"] else {},
        about={"name": more["name"] or found.title, "licence": more["licence"] or "not stated"},
    )
