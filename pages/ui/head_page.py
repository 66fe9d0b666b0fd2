"""What all panels of the Heads page share: the page's state, its estimator, and how it waits for the model."""

from __future__ import annotations

from dataclasses import dataclass

import streamlit as st

from at2_core.errors import At2Error
from at2_core.estimator import Estimator, load_estimator, uniform
from at2_core.exploration import Exploration
from pages.ui import frame, session
from pages.ui.estimator_choice import Choice
from pages.ui.head_address import Address
from pages.ui.head_grid import number, ranks
from pages.ui.head_state import Head, HeadsState
from pages.ui.head_uncertainty import spread
from pages.ui.session import Engine


@dataclass(frozen=True)
class Page:
    """What every panel draws from."""

    exploration: Exploration
    engine: Engine
    estimator: Estimator
    address: Address
    state: HeadsState


def estimator_for(exploration: Exploration, engine: Engine, choice: Choice) -> tuple[Estimator | None, str]:
    """The estimator chosen, else that of the model that made the exploration; or average attention, and why.

    None while the model's shape is not known. Before the model is there, its estimator's file is all it takes.
    """
    lm = engine.lm if engine.lm is not None and engine.lm.name == exploration.model else None
    if choice.chosen is not None and (lm is not None or engine.lm is None):
        return choice.chosen, ""
    if lm is not None and engine.estimator is not None:
        return engine.estimator, ""
    if lm is not None:
        return uniform(lm.num_layers, lm.num_heads, model=lm.name), engine.shortfall
    try:
        return load_estimator(session.estimator_of(exploration.model)), ""
    except At2Error as error:
        given = session.estimator_of(exploration.model) != exploration.model
        return None, str(error) if given else session.no_estimator(exploration.model)


def waiting(engine: Engine, what: str) -> None:
    """Says how far the model is, until it is there or has failed; then the whole page runs again.

    what: what will appear in this place, one word.
    """
    if engine.status == "failed":
        frame.complain(engine.message, f"heads-{what}")
        st.button("Try again", on_click=engine.start, args=(True,), key=f"heads-again-{what}")
    elif engine.status != "ready":
        _watch(engine, what)


@st.fragment(run_every=0.5)
def _watch(engine: Engine, what: str) -> None:
    if engine.status in ("ready", "failed"):
        st.rerun()
    said = engine.message or "Loading the model"
    frame.remark(f"{said}… The {what} will appear here.", f"heads-{what}")
    if engine.part is not None:
        st.progress(min(1.0, max(0.0, engine.part)))


def busy(page: Page, what: str) -> bool:
    """Whether the model must read the example first and is taken; then it says so, and the page runs again when it is
    free. A run that waited for it would keep every click waiting, too."""
    if page.engine.kept(page.exploration.id) or not page.engine.busy:
        return False
    _until_free(page, what)
    return True


@st.fragment(run_every=0.5)
def _until_free(page: Page, what: str) -> None:
    if not page.engine.busy:
        st.rerun()
    own = session.own_run()
    by = " with your own text" if own and own.state == "running" else ""
    frame.remark(f"The model is busy{by}. The {what} will appear here when it is free.", f"busy-{what}")


def quiet(sentence: str, key: str) -> None:
    """Small print, as text: it names estimators and sources."""
    with st.container(key=f"quiet-heads-{key}"):
        st.text(sentence)


def title(head: Head) -> str:
    return f"Layer {head[0]}, head {head[1]}"


def note(page: Page, head: Head) -> str:
    """A head's coefficient in words."""
    theta = page.estimator.theta
    rank = ranks(theta)[head]
    muted = ", muted" if head in page.state.mute else ""
    return (
        f"coefficient {number(theta[head])}{spread(page.estimator, head)}, rank {rank} of {theta.size}{muted}"
    )


def short_name(head: Head) -> str:
    return f"L{head[0]}·H{head[1]}"
