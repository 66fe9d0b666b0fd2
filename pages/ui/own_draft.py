"""What stands in the panel for a person's own text and was not asked yet, in a file over a reload or a restart.

`opened()`, `keep(fields)`, `end()`. The address holds the file's name, and nothing of the text.
"""

from __future__ import annotations

import os
import secrets
import shutil
from pathlib import Path
from typing import Any

import streamlit as st

from at2_core.run_places import runs_home
from pages.ui import draft

ADDRESS = "draft"


def root() -> Path:
    """The folder that holds the drafts; AT2_DRAFTS moves it."""
    return Path(os.environ.get("AT2_DRAFTS") or runs_home().parent).expanduser().resolve()


def opened() -> dict[str, Any] | None:
    """The fields of the draft that the address names, for a session that has none; None where there is none."""
    wished = st.query_params.get(ADDRESS, "")
    if st.session_state.get("own-draft") or draft.folder(root(), wished) is None:
        return None
    st.session_state["own-draft"] = wished
    return draft.written(root(), wished)


def keep(fields: dict[str, Any]) -> None:
    """Write the fields down, and name the draft in the address."""
    state = st.session_state
    if not state.get("own-draft"):
        draft.sweep(root())
        state["own-draft"] = secrets.token_hex(6)
    if state.get("own-draft-kept") != (state["own-draft"], fields) and draft.write(
        root(), state["own-draft"], fields
    ):
        state["own-draft-kept"] = (state["own-draft"], fields)
    if st.query_params.get(ADDRESS) != state["own-draft"]:
        st.query_params[ADDRESS] = state["own-draft"]


def end() -> None:
    """There is nothing to lose any more."""
    name = st.session_state.pop("own-draft", None)
    st.session_state.pop("own-draft-kept", None)
    if name:
        shutil.rmtree(draft.place(root(), name), ignore_errors=True)
    if ADDRESS in st.query_params:
        del st.query_params[ADDRESS]
