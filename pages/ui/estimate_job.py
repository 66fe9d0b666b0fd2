"""What a long piece of work would cost, worked out with the loaded model in a thread of its own."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import streamlit as st

from pages.ui import frame, session
from pages.ui.job_end import ending
from pages.ui.session import Engine

MOST_JOBS = 16
Work = Callable[[Any, threading.Event], Any]  # model, cancel -> result; it has the model to itself


@dataclass
class Job:
    """One estimate. state: "working", "done", "stopped" or "failed"."""

    state: str = "working"
    result: Any = None
    error: str = ""
    cancel: threading.Event = field(default_factory=threading.Event)


@st.cache_resource(show_spinner=False)
def _jobs() -> OrderedDict[tuple, Job]:
    return OrderedDict()


def estimate(form: str, asked: tuple, work: Work, show: Callable[[Any], None], *, pressed: bool) -> None:
    """Draw what is known about the cost of what was asked; pressed: begin to work it out. show: draws work's result.

    form: "train" or "evaluate", for the keys.
    """
    jobs, engine = _jobs(), session.engine()
    asked = (form, engine.name, *asked)
    if pressed and (asked not in jobs or jobs[asked].state in ("failed", "stopped")):
        jobs[asked] = Job()
        while len(jobs) > MOST_JOBS:
            jobs.popitem(last=False)[1].cancel.set()
        engine.start(again=True)
        threading.Thread(target=_work, args=(jobs[asked], engine, work), daemon=True).start()
    job = jobs.get(asked)
    if job is not None:
        working = job.state == "working"
        st.fragment(_follow, run_every=0.5 if working else None)(form, job, engine, working, show)


def _work(job: Job, engine: Engine, work: Work) -> None:
    with ending(job, "the estimate"):
        with engine.use(job.cancel, ticket=job) as lm:
            job.result = work(lm, job.cancel)
        job.state = "stopped" if job.cancel.is_set() else "done"


def _follow(form: str, job: Job, engine: Engine, was_working: bool, show: Callable[[Any], None]) -> None:
    if was_working and job.state != "working":
        st.rerun()
    key = f"{form}-estimate"
    if job.state == "working":
        stopping = job.cancel.is_set()
        with st.container(horizontal=True, vertical_alignment="center"):
            doing = "Stopping after the example at hand" if stopping else "Trying one example"
            frame.remark(f"{engine.message if engine.status == 'loading' else doing}…", key)
            st.button(
                "Stop",
                icon=":material/stop_circle:",
                on_click=job.cancel.set,
                disabled=stopping,
                key=f"{key}-stop",
            )
    elif job.state == "stopped":
        frame.remark("Stopped; nothing is known about the time.", key)
    elif job.state == "failed":
        frame.complain(job.error, key)
    else:
        show(job.result)
