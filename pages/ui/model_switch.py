"""What a page says where another model made what it shows, and the way to load that one.

`offer`      a sentence and a button, where the loaded model is another one
`load`       begin to make a model everybody's; what that says is said beside the model's status
`locked`     what the operator of this server allows

AT2_MODEL names the model to begin with; it does not fix it, since most who set it want another beginning and not a fence.
AT2_LOCK_MODEL=1 fixes it. AT2_LOCK_MODEL=list lets visitors choose among what the server lists (the catalogue, the folders of
AT2_MODELS_DIR, the hub's cache), but neither type a path nor a hub id. Either also fixes the model on Train and Evaluate.
"""

from __future__ import annotations

import os

import streamlit as st

from at2_core.card import HUB_ID
from at2_core.errors import ModelNotAvailable
from at2_core.exploration import Exploration
from at2_core.models import CATALOGUE
from pages.ui import session
from pages.ui.estimator_choice import PARAM
from pages.ui.model_engine import of_another

LOCK = "AT2_LOCK_MODEL"
COMPLAINT = "model-complaint"  # why the last wish in this browser was not followed


def locked() -> bool:
    """Whether this server keeps the model that it was started with."""
    return _lock() not in ("", "0", "no", "list")


def listed_only() -> bool:
    """Whether only models may be loaded that the server itself lists: no path and no hub id that somebody types."""
    return _lock() == "list"


def _lock() -> str:
    return os.environ.get(LOCK, "").strip().lower()


def load(name: str, title: str) -> None:
    """Begin to load another model for everybody. For callbacks: what goes wrong is said by the model's status."""
    engine = session.engine()
    if locked():
        return
    try:
        if name == engine.name and engine.lm is None:
            engine.start(again=True)
        elif name != engine.name:
            engine.switch(name, title)
            if PARAM in st.query_params:  # an estimator of the present model
                del st.query_params[PARAM]
        st.session_state.pop(COMPLAINT, None)
    except ModelNotAvailable as error:
        st.session_state[COMPLAINT] = str(error)


def place_of(made_with: str) -> str:
    """What the model of this name can be loaded by on this server; "" where that is not known, or not allowed."""
    known = session.engine().places.get(made_with)
    if locked():
        return ""
    if known or made_with in CATALOGUE:
        return known or made_with
    return made_with if HUB_ID.fullmatch(made_with) and not listed_only() else ""


def offer(exploration: Exploration, key: str, what: str = "") -> bool:
    """Whether another model than the loaded one made this; then it says so, with what needs that one, and offers to load it."""
    lm, engine = session.engine().lm, session.engine()
    if lm is None or lm.name == exploration.model:
        return False
    place = place_of(exploration.model)
    said = f"This was made with {exploration.model}; {lm.name} is loaded now. {what}".rstrip()
    if not place:
        said = f"{of_another(exploration.model, lm.name)} {what}".rstrip()
    with st.container(
        key=f"remark-made-with-{key}", horizontal=True, vertical_alignment="center", gap="small"
    ):
        st.text(said, width="stretch")
        if place:
            st.button(
                f"Load {_label(exploration.model)}", icon=":material/swap_horiz:", key=f"load-{key}",
                on_click=load, args=(place, exploration.model), disabled=engine.switching is not None,
            )  # fmt: skip
    return True


def _label(name: str) -> str:
    """The name in a button, whose label is Markdown: of what is no plain name, nothing."""
    return name if all(c.isalnum() or c in ".-/ " for c in name) and len(name) < 60 else "it"
