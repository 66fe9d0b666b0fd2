"""One line that says how far the model is, and the way to another one: downloading, loading, ready, or what went wrong."""

from __future__ import annotations

import streamlit as st

from pages.ui import frame, model_switch
from pages.ui.model_engine import Engine, Switch, runs_again, shown
from pages.ui.model_picker import is_open, model_picker, open_picker

SETTLED = ("ready", "failed")


def model_status(engine: Engine) -> None:
    """The line; it follows the loading by itself and rests afterwards. Beside it the button that opens the picker."""
    with st.container(horizontal=True, vertical_alignment="center", gap="small", key="row-model"):
        with st.container(width="content", gap="xsmall"):
            settled = is_settled(engine)
            watch = st.fragment(_line, run_every=None if settled else 0.5)
            drawing = [True]
            watch(engine, settled, drawing)
            drawing.clear()
        if not model_switch.locked():
            st.button(
                "Models", icon=":material/swap_horiz:", type="tertiary", key="models", on_click=open_picker,
                help="Which model answers here, and what else could be loaded",
            )  # fmt: skip
    if is_open() and not model_switch.locked():
        model_picker()


def is_settled(engine: Engine) -> bool:
    """Whether nothing is going to change by itself."""
    return engine.status in SETTLED and engine.switching is None


def _line(engine: Engine, settled_before: bool, drawing: list[bool]) -> None:
    """drawing: holds something while the page itself is drawn. What is watched is looked at again soon; to begin the page anew
    at once would lose a press of a button that it was just being drawn for."""
    if is_settled(engine) != settled_before and (settled_before or not drawing):
        st.rerun()  # once: the page may offer more now, or begins to watch once more
    complaint = st.session_state.get(model_switch.COMPLAINT) or engine.note
    if engine.switching is not None:
        _on_its_way(engine, engine.switching)
    elif engine.status == "ready":
        lm = engine.lm
        slower = ", slower than most: its heads take a second run" if runs_again(lm) else ""
        _quiet(f"● {lm.name if lm else shown(engine.name)} is ready{slower}")
    elif engine.status == "failed" and engine.resting:
        with st.container(horizontal=True, vertical_alignment="center", gap="small"):
            _quiet(f"○ {engine.message}")
            st.button("Load it again", on_click=engine.start, args=(True,), key="retry-model")
    elif engine.status == "failed":
        frame.complain(engine.message, "model")
        st.button("Try again", on_click=engine.start, args=(True,), key="retry-model")
    else:
        part = engine.part
        _quiet(f"○ {engine.message}…" + (f" {part:.0%}" if part else ""))
    if complaint and engine.switching is None:
        frame.complain(complaint, "switch")
        st.button("Close", type="tertiary", on_click=_dismiss, args=(engine,), key="model-note-close")


def _dismiss(engine: Engine) -> None:
    engine.note = ""
    st.session_state.pop(model_switch.COMPLAINT, None)


def _on_its_way(engine: Engine, switch: Switch) -> None:
    """Everybody is told which model comes, what it waits for, and how to hasten it or call it off."""
    with st.container(horizontal=True, vertical_alignment="center", gap="small"):
        _quiet(in_words(engine, switch))
        if switch.state == "waiting" and engine.working:
            st.button(
                "Stop what runs", on_click=engine.stop_all, key="model-stop-all",
                help="Ends all generations and measurements that wait for the model or use it, of everybody here",
            )  # fmt: skip
        if switch.to and switch.state != "loading":
            st.button(
                "Call off", on_click=switch.cancel.set, disabled=switch.cancel.is_set(), key="model-call-off"
            )


def in_words(engine: Engine, switch: Switch) -> str:
    """How far the other model is."""
    if not switch.to:
        return "○ Unloading the model…"
    if switch.state == "fetching":
        part = f" {switch.part:.0%}" if switch.part else ""
        return (
            f"◐ {switch.message or 'Looking'}{part}: {switch.title}. Until then {shown(engine.name)} answers."
        )
    if switch.state == "waiting":
        count = engine.working
        others = "one computation that uses" if count == 1 else f"{count} computations that use"
        return (
            f"◐ {switch.title} comes after {others} the present model" if count else f"◐ {switch.title} comes"
        )
    part = f" {engine.part:.0%}" if engine.part else ""
    return f"○ {engine.message or 'Loading the model'}: {switch.title}…{part}"


def _quiet(sentence: str) -> None:
    with st.container(key="quiet-model"):
        st.text(sentence, width="content")


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
