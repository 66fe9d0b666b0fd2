"""A generation before and while it runs: what it will take; how far it is, the text so far, and a way to stop it."""

from __future__ import annotations

import streamlit as st

from at2_core.prompts import ContextTask
from pages.ui import session
from pages.ui.jobs import Run, Settings
from pages.ui.model_engine import runs_again
from pages.ui.model_memory import duration, foretold

LONG = 1000  # tokens of a prompt whose number is told


def run_estimate(task: ContextTask, settings: Settings) -> None:
    """What the run would take, where that is much, for whoever has not pressed yet."""
    said = foretold(session.engine(), task, settings)
    if said:
        with st.container(key="quiet-estimate"):
            st.text(said)


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
    if run.generated or run.tokens >= run.settings.max_new_tokens:
        again = runs_again(engine.lm)
        return f"Attributing… {again}" if again else "Attributing…"
    if not run.tokens:
        what = "prompt" if run.settings.response is None else "response"
        of = f" of {run.prompt_tokens:,} tokens" if run.prompt_tokens >= LONG and what == "prompt" else ""
        return f"Reading the {what}{of}…" + (f" {run.read:.0%}" if run.read else "") + _left(run)
    left = run.seconds_left()
    pace = f", at most {duration(left)} left" if left is not None else ""
    return f"Generating: {run.tokens} of at most {run.settings.max_new_tokens} tokens{pace}"


def _left(run: Run) -> str:
    """How long reading will still take, where that is worth saying."""
    left = run.reading_left()
    return f", about {duration(left)} left" if left is not None and left >= 2 else ""
