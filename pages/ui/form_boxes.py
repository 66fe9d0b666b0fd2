"""The boxes that the forms of a training run and of an evaluation share."""

from __future__ import annotations

from typing import Any

import streamlit as st

from pages.ui import model_switch
from pages.ui.draft import MODEL, Draft
from pages.ui.train_reading import Found

KEPT: dict[str, Any] = {"persist_state": "session"}


def model_box(form: Draft) -> str:
    model = st.text_input(
        "Model", key=form.key(MODEL), disabled=model_switch.locked() or model_switch.listed_only(), **KEPT,
        help="A name of the catalogue, a model on the hub (owner/name), a folder, or a .gguf file.",
    )  # fmt: skip
    return (model or "").strip()


def examples_box(form: Draft, found: Found | None, usable: int, usual: int, help: str | None = None) -> int:
    """How many; begins with what is usual whenever other data came, but not for a draft that was opened again."""
    label = "Number of examples"
    if found is None or not usable:
        st.number_input(label, value=None, disabled=True, key=form.key("no-examples"), placeholder="–")
        return 0
    of, examples = form.key("examples-of"), form.key("examples")
    before, now = st.session_state.get(of), (found.source, found.stamp)
    st.session_state[of] = now
    if not form.value("examples") or (before is not None and before != now):
        st.session_state[examples] = min(usable, usual)
    elif form.value("examples") > usable:
        st.session_state[examples] = usable
    return number_box(form, label, "examples", most=usable, help=help)


def number_box(form: Draft, label: str, field: str, most: int | None = None, help: str | None = None) -> int:
    """A whole number in its range; what it began with where the box was emptied."""
    low, high = form.ranges[field]
    found = st.number_input(label, low, most or high, key=form.key(field), step=1, help=help, **KEPT)
    return int(found if found is not None else form.usual(field))


def start_and_estimate(form: Draft, disabled: bool, help: str | None = None) -> tuple[bool, bool]:
    """Whether each was clicked. No callbacks: these would be called with the settings of the run before, without the last
    edit. help: what an estimate takes."""
    with st.container(horizontal=True, vertical_alignment="center"):
        start = st.button(
            "Start", type="primary", icon=":material/play_arrow:", key=form.key("start"), disabled=disabled
        )
        return start, st.button("Estimate", key=form.key("estimate"), disabled=disabled, help=help)
