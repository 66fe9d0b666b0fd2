"""What the panels of the Compare page share: what they draw from, durations in words, a job while it runs."""

from __future__ import annotations

from dataclasses import dataclass

import streamlit as st

from at2_core.exploration import Exploration
from pages.ui import session
from pages.ui.compare_board import Board, Job, Key, Result
from pages.ui.compare_methods import Way, num_targets


@dataclass(frozen=True)
class Page:
    """What every panel draws from."""

    exploration: Exploration
    granularity: str
    engine: session.Engine
    board: Board

    def key(self, way: Way) -> Key:
        return self.exploration.id, self.granularity, way.identity

    def passes(self, way: Way) -> int:
        return way.passes(len(self.exploration.sources[self.granularity]), num_targets(self.exploration))


def in_passes(count: float) -> str:
    return f"{count:,.0f} forward pass{'' if count == 1 else 'es'}"


def seconds(count: float) -> str:
    """A duration with as many digits as mean something."""
    if count >= 90:
        return f"{count / 60:.0f} min"
    return (
        f"{count:.0f} s"
        if count >= 9.95
        else f"{count:.1f} s"
        if count >= 0.95
        else f"{max(count, 0.01):.2f} s"
    )


def lasting(result: Result) -> str:
    """What a method took here; ablations that were there already took it nothing."""
    return seconds(result.seconds) + (f" + {result.reused} shared" if result.reused else "")


def job_row(page: Page, job: Job, name: str, key: str) -> None:
    """How far a job is, and a way to stop it: three slots, whatever its state."""
    with st.container(horizontal=True, vertical_alignment="center", key=f"quiet-{key}"):
        stopping = job.cancel.is_set()
        st.button("Stopping…" if stopping else "Stop", icon=":material/stop_circle:", on_click=job.cancel.set,
                  disabled=stopping, key=f"stop-{key}")  # fmt: skip
        st.text(f"{name}: {_how_far(page, job)}", width="content")
        bar, total = st.empty(), job.total
        if total:
            bar.progress(min(1.0, job.done / total))


def _how_far(page: Page, job: Job) -> str:
    engine = page.engine
    if engine.lm is None:
        return f"{engine.message or 'The model is loading'}…"
    if job.state == "waiting":
        return session.in_line(engine, job)
    if not job.total:
        return "computing…"
    said, left = f"{job.done} of {job.total} ablations", job.seconds_left()
    if engine.ahead_of(job):
        return f"{said}, waiting for its next turn with the model"
    return said + (f", about {seconds(left)} left" if left else "")


def quiet(sentence: str, key: str) -> None:
    """Small print, as text: it quotes the response and names estimators."""
    with st.container(key=f"quiet-compare-{key}"):
        st.text(sentence)
