"""What a page says where a model has no estimator: that average attention stands in for it, and how to get one."""

from __future__ import annotations

import contextlib
import shlex

import streamlit as st
from streamlit.errors import StreamlitAPIException

from at2_core.catalogue import Entry, list_estimators
from at2_core.errors import At2Error
from at2_core.estimator import check_estimator
from pages.ui import session
from pages.ui.model_engine import shown


def shortfall_remark(reason: str, key: str) -> None:
    """reason: why there is none, as a sentence; it may quote names, so it is text."""
    fitting = len(fitting_estimators())
    with st.container(key=f"remark-{key}", gap="xxsmall"):
        st.text(f"{reason} Average attention is shown instead: every head counts the same.")
        with st.container(horizontal=True, vertical_alignment="center", gap="small"):
            page_link("pages/train.py", "Learn one", ":material/model_training:")
            label = f"Choose one of {fitting} that fit" if fitting > 1 else "Choose the one that fits"
            page_link("pages/estimators.py", label if fitting else "Import one", ":material/tune:")
            st.text(f"or in a shell: {learn_command()}", width="content")


def learn_command() -> str:
    """The shell command that learns an estimator of the server's model."""
    return f"python -m at2_core learn --model {shlex.quote(shown(session.model()))} --data examples.jsonl"


def fitting_estimators() -> list[Entry]:
    """The catalogue's entries for the loaded model; none while it is not loaded."""
    return [entry for entry in list_estimators() if session.engine().lm is not None and not misfit(entry)]


def misfit(entry: Entry) -> str:
    """Why the entry cannot be used with the loaded model, as a sentence; "" where it can, or no model is loaded."""
    if entry.estimator is None:
        return entry.problem
    lm = session.engine().lm
    try:
        if lm is not None:
            check_estimator(entry.estimator, lm)
    except At2Error as error:
        return str(error)
    return ""


def page_link(page: str, label: str, icon: str) -> None:
    """A link in our own words to a page of ours, where the app has it."""
    with contextlib.suppress(StreamlitAPIException):
        st.page_link(page, label=label, icon=icon, width="content")
