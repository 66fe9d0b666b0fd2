"""A generation while it runs: how far it is, how long it may still take, the text so far, and a way to stop it."""

from __future__ import annotations

import streamlit as st

from pages.ui import session
from pages.ui.jobs import Run

LONG = 1000  # tokens of a prompt whose number is told


def run_progress(run: Run) -> None:
    """Follows the run until it has ended; then the page runs again and shows what came of it."""
    st.fragment(_follow, run_every=0.4)(run)


def _follow(run: Run) -> None:
    if not run.active:
        st.rerun()
    with st.container(horizontal=True, vertical_alignment="center", key="quiet-progress"):
        st.text(status_line(run), width="stretch")
        stopping = run.cancel.is_set()
        st.button(
            "Stopping…" if stopping else "Stop",
            icon=":material/stop_circle:", on_click=run.cancel.set, disabled=stopping, key=f"stop-{run.id}",
        )  # fmt: skip
    if run.settings.response is None:
        done = run.tokens / run.settings.max_new_tokens
        st.progress(min(1.0, done if run.tokens else run.read))
    with st.container(border=True, height=320, key="response-so-far", autoscroll=True):
        st.text(run.text or " ")


def status_line(run: Run) -> str:
    """What the run is doing, in words."""
    engine = session.engine()
    if engine.lm is None and engine.switching is None:
        return f"{engine.message or 'The model is loading'}… your generation begins right after."
    if run.state == "waiting":
        return session.in_line(engine, run)
    if run.settings.response is not None:
        return "Reading the response…" + _left(run)
    if not run.tokens:
        of = f" of {run.prompt_tokens:,} tokens" if run.prompt_tokens >= LONG else ""
        return f"Reading the prompt{of}…" + (f" {run.read:.0%}" if run.read else "") + _left(run)
    if run.generated or run.tokens >= run.settings.max_new_tokens:
        return "Attributing…"
    left = run.seconds_left()
    pace = f", at most {_duration(left)} left" if left is not None else ""
    return f"Generating: {run.tokens} of at most {run.settings.max_new_tokens} tokens{pace}"


def _left(run: Run) -> str:
    """How long reading will still take, where that is worth saying."""
    left = run.reading_left()
    return f", about {_duration(left)} left" if left is not None and left >= 2 else ""


def _duration(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 90 else f"{seconds / 60:.0f} min"
