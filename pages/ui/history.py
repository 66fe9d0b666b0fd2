"""Back and Forward in the browser: what is shown follows the address, as when an address is opened.

`follow(page)`  once in a run of the whole page, before anything is drawn
`key(name)`     the key of what begins as the address says: another one after each step through the history
"""

from __future__ import annotations

import streamlit as st
from streamlit.runtime.scriptrunner import get_script_run_ctx

TURNS = "history-turns"  # in the session: steps so far
# By page: what it was left with, which is shown again where the address says nothing. An address out of the history says all.
LEFT = {"": "explore-kept", "heads": "heads-address", "compare": "compare-kept"}


def follow(page: str) -> None:
    """page: its path in the address."""
    # Streamlit 1.67 knows what began a run and has no public name for it; without it, Back changes the address alone.
    if not getattr(get_script_run_ctx(), "is_history_navigation", False):
        return
    state = st.session_state
    state[TURNS] = state.get(TURNS, 0) + 1
    left = LEFT.get(page)
    if left in state:
        state[left] = (state[left][0], {})


def key(name: str) -> str:
    turns = st.session_state.get(TURNS, 0)
    return f"{name}-{turns}" if turns else name
