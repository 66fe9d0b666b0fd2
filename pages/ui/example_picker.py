"""What a page looks at: an example of the gallery, or a person's own text."""

from __future__ import annotations

from collections.abc import Collection

import streamlit as st

from at2_core import exploration as explorations
from pages.ui import frame, session

OWN = "your own text"


def example_picker(kind: str, name: str, key: str, keep: Collection[str], *, own: bool = True) -> None:
    """The gallery, and the way to one's own text.

    kind, name: what the address asks for. keep: the settings in the address that another choice leaves alone. own: whether the
    way to one's own text is offered where that is not looked at.
    """
    titles = {example: title for example, title, _ in explorations.gallery()}
    chosen = OWN if kind == "run" else name if name in titles else next(iter(titles), OWN)
    if st.session_state.get(key) != chosen:
        st.session_state[key] = chosen
    st.pills(
        "Examples",
        [*titles, OWN] if own or kind == "run" else [*titles],
        format_func=lambda option: ":material/edit_note: Your own text" if option == OWN else titles[option],
        key=key,
        required=True,
        on_change=_pick,
        args=(key, keep),
        label_visibility="collapsed",
    )


def _pick(key: str, keep: Collection[str]) -> None:
    picked = st.session_state[key]
    if picked == OWN:
        session.look_at("run", st.session_state.get("own_run", "new"), keep=keep)
    elif picked is not None:  # a busy server was seen to report nothing picked
        session.look_at("example", picked, keep=keep)


def instead() -> str:
    """What is looked at while what the address names cannot be."""
    return "your former text" if st.session_state["shown"][0] == "run" else "an example"


def say_instead(kind: str, name: str, key: str) -> None:
    """Say so where what the address names is not what is shown: it is not there, or has no response and will get none."""
    if kind == "example":
        if name and name not in session.example_ids():
            frame.remark(f"There is no example called {name!r}; here is another one.", key)
        return
    run = session.run_of_address()
    if run is None and name != "new":
        frame.remark(f"That generation is not on this server any more; here is {instead()}.", key)
    elif run is None:
        frame.remark(f"Your own text has no response yet; here is {instead()}.", key)
    elif run.state == "failed":
        frame.complain(f"Your own text got no response; here is {instead()}. {run.error}", key)
    elif run.exploration is None:
        frame.remark(f"Your own text was stopped before there was a response; here is {instead()}.", key)
