"""What a run would cost, worked out with the loaded model in a thread of its own."""

from __future__ import annotations

import logging
import threading
from collections import OrderedDict
from dataclasses import dataclass, field
from typing import Any

import streamlit as st

from at2_core.errors import At2Error, Cancelled
from at2_core.runs import Settings
from pages.ui import frame, session, train_runs
from pages.ui.session import Engine
from pages.ui.train_reading import Found

log = logging.getLogger(__name__)
MOST_JOBS = 16
ELSEWHERE = "The estimate needs the model, and another one is loaded here. Once the run has begun it says how long it takes."


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


def estimate(found: Found, settings: Settings, examples: int, *, pressed: bool) -> None:
    """Draw what is known about the cost of this run; pressed: begin to work it out."""
    asked = (found.source, found.stamp, tuple(sorted((found.columns or {}).items())), settings, examples)
    jobs, engine = _jobs(), session.engine()
    if pressed and (asked not in jobs or jobs[asked].state in ("failed", "stopped")):
        jobs[asked] = Job()
        while len(jobs) > MOST_JOBS:
            jobs.popitem(last=False)[1].cancel.set()
        engine.start(again=True)
        threading.Thread(
            target=_work, args=(jobs[asked], engine, found, settings, examples), daemon=True
        ).start()
    job = jobs.get(asked)
    if job is not None:
        working = job.state == "working"
        st.fragment(_show, run_every=0.5 if working else None)(job, engine, working)


def _work(job: Job, engine: Engine, found: Found, settings: Settings, examples: int) -> None:
    try:
        lm = engine.wait(job.cancel)
        from at2_core.collecting import estimate as work_out

        with engine.hold(job.cancel):
            job.result = work_out(lm, found.examples.examples, train_runs.root(), settings, examples)
        job.state = "stopped" if job.cancel.is_set() else "done"
    except Cancelled:
        job.state = "stopped"
    except At2Error as error:
        job.error, job.state = str(error), "failed"
    except Exception as error:
        log.exception("the estimate failed")
        job.error = f"Something went wrong inside ({type(error).__name__}); the terminal has the details."
        job.state = "failed"


def _show(job: Job, engine: Engine, was_working: bool) -> None:
    if was_working and job.state != "working":
        st.rerun()
    if job.state == "working":
        loading = engine.status == "loading"
        stopping = job.cancel.is_set()
        with st.container(horizontal=True, vertical_alignment="center"):
            doing = "Stopping after the example at hand" if stopping else "Trying one example"
            frame.remark(f"{engine.message if loading else doing}…", "train-estimate")
            st.button("Stop", icon=":material/stop_circle:", on_click=job.cancel.set, disabled=stopping,
                      key="train-estimate-stop")  # fmt: skip
    elif job.state == "stopped":
        frame.remark("Stopped; nothing is known about the time.", "train-estimate")
    elif job.state == "failed":
        frame.complain(job.error, "train-estimate")
    else:
        frame.remark(in_words(job.result), "train-estimate")
        if job.result.disk_mb > job.result.free_mb:
            frame.complain("That is more than the disk has room for; take fewer examples.", "train-disk")


def in_words(cost: Any) -> str:
    skipped = f" ({cost.skipped:,} skipped: too long)" if cost.skipped > 0 else ""
    return (
        f"About {cost.examples:,} examples{skipped} in {train_runs.duration(cost.seconds)} on this machine; "
        f"{_mb(cost.disk_mb)} on disk of {_mb(cost.free_mb)} free; {_mb(cost.memory_mb)} of memory for the fit, "
        "beside the model."
    )


def _mb(megabytes: float) -> str:
    if megabytes < 1:
        return "less than 1 MB"
    return f"{megabytes:,.0f} MB" if megabytes < 10_000 else f"{megabytes / 1000:,.0f} GB"
