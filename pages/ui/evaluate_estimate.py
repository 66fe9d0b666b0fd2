"""What an evaluation would cost: ablations by counting, minutes by trying one example with the loaded model in a thread."""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import streamlit as st

from at2_core.data import Example
from at2_core.errors import At2Error, Cancelled
from at2_core.evaluation_runs import EvaluationRequest
from at2_core.segmentation import split_paragraphs, split_sentences, split_words
from pages.ui import frame, session
from pages.ui.evaluate_methods import measuring, passes_of
from pages.ui.session import Engine
from pages.ui.train_runs import duration

log = logging.getLogger(__name__)
LOOKED_AT = 20  # examples, to know about how many sources there are
SEARCHED = 1000  # examples, for those that are long enough and short enough
CHARACTERS = 4  # of a token, about
TRIED = 4  # ablations
MOST_JOBS = 16
NONE_FITS = "None of the first {count:,} examples has enough sources and a prompt short enough; ask less of them under More."
NO_RESPONSE = "The model ended its response to the example that was tried at once, so that nothing is known about the time."
NO_SOURCES = "The example that was tried has no sources, so that nothing is known about the time."
_SPLIT = {"word": split_words, "sentence": split_sentences, "paragraph": split_paragraphs}


@dataclass
class Job:
    """One estimate. state: "working", "done", "stopped" or "failed". generating, ablating: seconds for one response, for one
    ablation. share: of the examples, those that are judged."""

    state: str = "working"
    generating: float = 0.0
    ablating: float = 0.0
    share: float = 1.0
    error: str = ""
    cancel: threading.Event = field(default_factory=threading.Event)


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
    limits = (request.min_sources, request.max_prompt_tokens)
    asked = (request.data, stamp, columns, request.granularity, request.max_new_tokens, limits)
    jobs, engine = _jobs(), session.engine()
    if pressed and (asked not in jobs or jobs[asked].state in ("failed", "stopped")):
        jobs[asked] = Job()
        while len(jobs) > MOST_JOBS:
            jobs.popitem(last=False)[1].cancel.set()
        engine.start(again=True)
        threading.Thread(target=_work, args=(jobs[asked], engine, examples, request), daemon=True).start()
    job = jobs.get(asked)
    if job is not None:
        working = job.state == "working"
        number = min(request.examples, len(examples))
        fewer = min(number, round(job.share * len(examples)))
        st.fragment(_show, run_every=0.5 if working else None)(
            job, engine, fewer, passes * fewer / max(1, number), working
        )


def _size(example: Example) -> int:
    return len(example.task.context) + sum(len(d.text) for d in example.task.documents)


def fitting(lm: Any, examples: Sequence[Example], request: EvaluationRequest, job: Job) -> list[Example]:
    """Some of the examples that are judged; the job gets to know how many are. Raises At2Error where none is, or Cancelled."""
    if request.min_sources <= 2 and request.max_prompt_tokens is None:
        return list(examples[:LOOKED_AT])
    from at2_core.prompts import render
    from at2_core.sources import cut

    found: list[Example] = []
    searched = 0
    for searched, example in enumerate(examples[:SEARCHED], 1):  # noqa: B007
        if job.cancel.is_set():
            raise Cancelled("Stopped.")
        with contextlib.suppress(At2Error):  # what has no prompt is skipped
            prompt = render(lm.tokenizer, example.task)
            short = request.max_prompt_tokens is None or prompt.n <= request.max_prompt_tokens
            if short and len(cut(prompt, request.granularity)) >= request.min_sources:
                found.append(example)
        if len(found) >= LOOKED_AT:
            break
    if not found:
        raise At2Error(NONE_FITS.format(count=searched))
    job.share = len(found) / searched
    return found


def _work(job: Job, engine: Engine, examples: Sequence[Example], request: EvaluationRequest) -> None:
    try:
        lm = engine.wait(job.cancel)
        from at2_core.ablation import random_keep
        from at2_core.evaluation import ExampleAblations

        with engine.hold(job.cancel):
            typical = sorted(fitting(lm, examples, request, job), key=_size)
            example = typical[len(typical) // 2]
            began = time.perf_counter()
            tried = ExampleAblations(
                lm, example, None, request.granularity, request.max_new_tokens, job.cancel
            )
            job.generating = time.perf_counter() - began
            if not tried.gen.response_ids or not tried.sources:
                raise At2Error(NO_RESPONSE if tried.sources else NO_SOURCES)
            keep = random_keep(TRIED, len(tried.sources), np.random.default_rng(0))
            began = time.perf_counter()
            tried.measure(keep)
            job.ablating = (time.perf_counter() - began) / TRIED
        job.state = "done"
    except Cancelled:
        job.state = "stopped"
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
        with st.container(horizontal=True, vertical_alignment="center"):
            frame.remark(f"{engine.message}…" if loading else "Trying one example…", "evaluate-estimate")
            st.button("Stop", icon=":material/stop_circle:", on_click=job.cancel.set, disabled=job.cancel.is_set(),
                      key="evaluate-estimate-stop")  # fmt: skip
    elif job.state == "stopped":
        frame.remark("Stopped; nothing is known about the time.", "evaluate-estimate")
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
