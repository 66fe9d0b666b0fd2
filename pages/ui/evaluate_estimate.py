"""What an evaluation would cost: ablations by counting, minutes by trying one example with the loaded model in a thread."""

from __future__ import annotations

import logging
import threading
import time
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import streamlit as st

from at2_core.data import Example
from at2_core.errors import At2Error
from at2_core.evaluation_runs import EvaluationRequest
from at2_core.segmentation import split_paragraphs, split_sentences, split_words
from pages.ui import frame, session
from pages.ui.evaluate_methods import measuring, passes_of
from pages.ui.session import Engine
from pages.ui.train_runs import duration

log = logging.getLogger(__name__)
LOOKED_AT = 20  # examples, to know about how many sources there are
CHARACTERS = 4  # of a token, about
TRIED = 4  # ablations
MOST_JOBS = 16
_SPLIT = {"word": split_words, "sentence": split_sentences, "paragraph": split_paragraphs}


@dataclass
class Job:
    """One estimate. state: "working", "done" or "failed". generating, ablating: seconds for one response, for one ablation."""

    state: str = "working"
    generating: float = 0.0
    ablating: float = 0.0
    error: str = ""


def sources_of(examples: Sequence[Example], granularity: str) -> float:
    """About how many sources an example has."""
    counts = []
    for example in examples[:LOOKED_AT]:
        texts = [d.text for d in example.task.documents] or [example.task.context]
        if granularity == "document":
            counts.append(len(texts))
        elif granularity == "token":
            counts.append(sum(len(text) for text in texts) // CHARACTERS)
        else:
            counts.append(sum(len(_SPLIT[granularity](text)) for text in texts))
    return float(np.mean(counts)) if counts else 0.0


def ablations_of(request: EvaluationRequest, sources: float, rows: int) -> tuple[float, float]:
    """Forward passes over one example: to judge so many rows, at most, and of the methods themselves."""
    return measuring(request.ablations, rows, len(request.top_k)), passes_of(request.methods, sources)


@st.cache_resource(show_spinner=False)
def _jobs() -> OrderedDict[tuple, Job]:
    return OrderedDict()


def estimate(
    request: EvaluationRequest, examples: Sequence[Example], stamp: tuple, passes: float, *, pressed: bool
) -> None:
    """Draw how long it takes, where that is known; pressed: begin to work it out. passes: ablations in all."""
    columns = tuple(sorted(request.columns.items()))
    asked = (request.data, stamp, columns, request.granularity, request.max_new_tokens)
    jobs, engine = _jobs(), session.engine()
    if pressed and (asked not in jobs or jobs[asked].state == "failed"):
        jobs[asked] = Job()
        while len(jobs) > MOST_JOBS:
            jobs.popitem(last=False)
        engine.start(again=True)
        typical = sorted(examples[:LOOKED_AT], key=_size)[min(LOOKED_AT, len(examples)) // 2]
        threading.Thread(target=_work, args=(jobs[asked], engine, typical, request), daemon=True).start()
    job = jobs.get(asked)
    if job is not None:
        working = job.state == "working"
        number = min(request.examples, len(examples))
        st.fragment(_show, run_every=0.5 if working else None)(job, engine, number, passes, working)


def _size(example: Example) -> int:
    return len(example.task.context) + sum(len(d.text) for d in example.task.documents)


def _work(job: Job, engine: Engine, example: Example, request: EvaluationRequest) -> None:
    try:
        lm = engine.wait()
        from at2_core.ablation import random_keep
        from at2_core.evaluation import ExampleAblations

        with engine.hold():
            began = time.perf_counter()
            tried = ExampleAblations(lm, example, None, request.granularity, request.max_new_tokens)
            job.generating = time.perf_counter() - began
            keep = random_keep(TRIED, len(tried.sources), np.random.default_rng(0))
            began = time.perf_counter()
            if tried.gen.response_ids and tried.sources:
                tried.measure(keep)
            job.ablating = (time.perf_counter() - began) / TRIED
        job.state = "done"
    except At2Error as error:
        job.error, job.state = str(error), "failed"
    except Exception as error:
        log.exception("the estimate failed")
        job.error = f"Something went wrong inside ({type(error).__name__}); the terminal has the details."
        job.state = "failed"


def _show(job: Job, engine: Engine, examples: int, passes: float, was_working: bool) -> None:
    if was_working and job.state != "working":
        st.rerun()
    if job.state == "working":
        loading = engine.status == "loading"
        frame.remark(f"{engine.message}…" if loading else "Trying one example…", "evaluate-estimate")
    elif job.state == "failed":
        frame.complain(job.error, "evaluate-estimate")
    else:
        seconds = examples * job.generating + passes * job.ablating
        frame.remark(
            f"About {duration(seconds)} on this machine: {_short(job.generating)} for each response and {_short(job.ablating)} "
            "for each ablation, as tried with one example.",
            "evaluate-estimate",
        )


def _short(seconds: float) -> str:
    return f"{seconds:.1f} s" if seconds >= 1 else f"{1000 * seconds:,.0f} ms"
