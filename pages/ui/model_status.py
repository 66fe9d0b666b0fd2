"""One line that says how far the model is: downloading, loading, ready, or what went wrong."""

from __future__ import annotations

import streamlit as st

from pages.ui import frame
from pages.ui.session import Engine

SETTLED = ("ready", "failed")


def model_status(engine: Engine) -> None:
    """The line; it follows the loading by itself and rests afterwards."""
    watch = st.fragment(_line, run_every=None if engine.status in SETTLED else 0.5)
    watch(engine, engine.status in SETTLED)


def _line(engine: Engine, settled_before: bool) -> None:
    if engine.status == "ready":
        if not settled_before:
            st.rerun()  # once: the page may offer more now, and nobody needs to watch any longer
        with st.container(key="quiet-model"):
            st.text(f"● {engine.lm.name} is ready", width="content")
    elif engine.status == "failed":
        if not settled_before:
            st.rerun()
        frame.complain(engine.message, "model")
        st.button("Try again", on_click=engine.start, args=(True,), key="retry-model")
    else:
        if settled_before:
            st.rerun()  # "Try again" was pressed: the page begins to watch once more
        with st.container(key="quiet-model"):
            part = engine.part
            st.text(f"○ {engine.message}…" + (f" {part:.0%}" if part else ""), width="content")


def waiting_for_model(engine: Engine, what: str, key: str) -> None:
    """A sentence in place of something that needs the model; the page runs again when the model is there."""
    if engine.status == "failed":
        frame.complain(engine.message, f"waiting-{key}")
        return
    st.fragment(_wait, run_every=0.5)(engine, what, key)


def _wait(engine: Engine, what: str, key: str) -> None:
    if engine.status in SETTLED:
        st.rerun()
    frame.remark(f"{what} {engine.message}…", f"waiting-{key}")
