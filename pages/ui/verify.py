"""Verify, below an attribution: take away the sources that it names, and see what becomes of the response.

Nothing here runs without a press. What was pressed is a job of the server, found again after a rerun or a reload by what
it verifies; results of another span, method, granularity or number are not shown.
"""

from __future__ import annotations

import contextlib
import re
from typing import Any

import numpy as np
import streamlit as st

from at2_core.exploration import Exploration
from pages.ui import export, frame, session
from pages.ui.session import Engine
from pages.ui.token_heatmap import ViewState
from pages.ui.verify_jobs import ABLATIONS, Job, Subject, jobs
from pages.ui.verify_picture import is_pinned, picture
from pages.ui.verify_words import these

PARAM = "remove"  # in the address: how many sources
MOST = 5
ANCHOR = "verify"
Head = tuple[int, int]
HELP = (
    "Scores are a claim about the model, and a claim can be tested: without the sources that it relied on, the model should "
    "find its own words much less likely, and less so without any others. The sources are hidden from the model; all else "
    "stays in its place."
)
NO_THOUGHT = (
    "Only sources in the prompt can be taken away, since the response stays as it is; attribute to the context or the prompt "
    "to verify."
)
NO_RESPONSE = (
    "Only sources in the prompt are taken away; what the response took from itself is left out of this."
)
CHECK_HELP = (
    f"Removes about half of the sources by chance, {ABLATIONS} times, and compares what the scores predict with what is "
    "measured. Also tells how many nats a score is worth, and with it the drop to expect."
)


@st.fragment
def verify(
    exploration: Exploration,
    scores: np.ndarray,
    view: ViewState,
    method: str,
    head: Head | None = None,
    own: np.ndarray | None = None,
) -> None:
    """The section, for the pinned span or all that is attributed. scores: float32 (T, n), those that are shown; own: (T, T)."""
    frame.style("verify_page.css")
    with st.container(key="verify", gap="xsmall"):
        st.subheader("Verify", anchor=ANCHOR, help=HELP)
        if not exploration.response_ids:
            frame.remark("There is no response to verify.", "verify")
            return
        subject = subject_of(exploration, view, method, head)
        if view.scope == "thought":
            frame.remark(NO_THOUGHT, "verify")
            return
        count = len(exploration.sources_in(view.granularity, subject.scope))
        values = export.target_scores(exploration, scores, view, own)[:count]  # the prompt's come first
        if view.scope == "all":
            frame.remark(NO_RESPONSE, "verify-scope")
        if len(values) < 2:
            frame.remark(
                f"There is only one {view.granularity} here, and nothing to compare it with; choose smaller sources above.",
                "verify",
            )
            return
        if not session.is_of(exploration):
            frame.remark(f"Verifying asks the model that made this, {exploration.model}.", "verify")
            return
        k = _controls(exploration, subject, values)
        was = _state(subject, k)
        busy = session.engine().busy and not any(was[:2])
        watch = st.fragment(_results, run_every=_pace(*was, busy))
        watch(exploration, subject, k, values, was, busy)


def verify_link() -> None:
    """The way down to the section, which begins below the window's edge."""
    with st.container(key="verify-link", width="content"):
        st.markdown(f":material/fact_check: [Verify](#{ANCHOR})", width="content")


def subject_of(exploration: Exploration, view: ViewState, method: str, head: Head | None) -> Subject:
    """What is verified while this is looked at."""
    scores_of = f"head {head[0]} {head[1]}" if head else method
    if method in export.LEARNED:
        scores_of = f"{method} {exploration.estimator_fingerprint}"
    scope = "context" if view.scope == "context" else "prompt"
    return Subject(exploration.id, export.target_runs(exploration, view), view.granularity, scores_of, scope)


# ------------------------------------------------------------------------------------------------ the controls


def _controls(exploration: Exploration, subject: Subject, values: np.ndarray) -> int:
    """Draw them and begin what is pressed; return how many sources are to be removed."""
    engine = session.engine()
    pinned = is_pinned(exploration, subject)
    target, it = ("the pinned words", "them") if pinned else (f"the {exploration.target_kind}", "it")
    with st.container(key="quiet-verify"):
        st.text(f"Is it true? Remove what {target} came from, and see whether the model can still say {it}.")
    with st.container(horizontal=True, vertical_alignment="bottom", gap="medium", key="verify-controls"):
        k = _number(min(MOST, len(values) - 1), subject.granularity)
        removal, checked = jobs().get(subject, k), jobs().get(subject, 0)
        ready = engine.status == "ready"
        st.button(
            "Remove and measure", type="primary", icon=":material/content_cut:", key="verify-remove",
            disabled=not ready or _begun(removal), on_click=_start, args=(engine, exploration, subject, k, values),
        )  # fmt: skip
        st.button(
            "Check these scores on this example", icon=":material/rule:", key="verify-check", help=CHECK_HELP,
            disabled=not ready or _begun(checked), on_click=_start, args=(engine, exploration, subject, 0, values),
        )  # fmt: skip
    return k


def _begun(job: Job | None) -> bool:
    return job is not None and (job.active or job.state == "done")


def _start(engine: Engine, exploration: Exploration, subject: Subject, k: int, values: np.ndarray) -> None:
    jobs().start(engine, exploration, subject, k, values)


def _number(most: int, granularity: str) -> int:
    """How many sources; the address says it, and knows it after a reload."""
    usual = min(most, 1 if granularity in ("sentence", "paragraph", "document") else 3)
    key, asked = f"verify-k-{granularity}-{most}", st.query_params.get(PARAM, "")
    if key not in st.session_state:
        named = re.fullmatch(r"\d{1,3}", asked, re.ASCII)
        st.session_state[key] = int(asked) if named and 1 <= int(asked) <= most else usual
    if most > 1:
        plural = f"{granularity}s"
        k = st.slider(
            f"Top {plural} to remove", 1, most, key=key, width=260, persist_state="session",
            help=f"The {plural} with the highest scores go first.",
        )  # fmt: skip
    else:
        k = 1
        st.text(f"Of two {granularity}s, the one with the higher score is removed.", width="content")
    if k == usual:
        with contextlib.suppress(KeyError):
            del st.query_params[PARAM]
    elif asked != str(k):
        st.query_params[PARAM] = str(k)
    return k


# ------------------------------------------------------------------------------------------------- the results


def _state(subject: Subject, k: int) -> tuple[bool, bool, str]:
    """What the page has to be drawn again for, when it changes: the two jobs at work, and the model. Not whether others have
    the model: every page that is open would be drawn again whenever anybody begins something."""
    own = [job is not None and job.active for job in (jobs().get(subject, k), jobs().get(subject, 0))]
    return own[0], own[1], session.engine().status


def _pace(removing: bool, checking: bool, status: str, busy: bool) -> float | None:
    """Seconds between two looks; None where nothing is going to change by itself."""
    if removing or checking:
        return 0.4
    return 1.0 if busy or status in ("idle", "loading") else None


def _results(
    exploration: Exploration,
    subject: Subject,
    k: int,
    values: np.ndarray,
    was: tuple[bool, bool, str],
    was_busy: bool,
) -> None:
    """One element, whatever the state. A page that is drawn again while the last drawing is being cleaned up can lose an
    element; one that is replaced by the next look does no harm, one that others stand behind takes the whole page down.
    """
    busy = session.engine().busy
    if _state(subject, k) != was or (was_busy and not busy):  # then nobody needs to look any longer
        st.rerun()
    engine, removal, checked = session.engine(), jobs().get(subject, k), jobs().get(subject, 0)
    lines = []
    if engine.status != "ready":
        lines.append({"name": "model", "kind": "remark", "text": _not_ready(engine)})
    elif was_busy:
        said = "The model is busy; what you press here begins when it is free."
        lines.append({"name": "model", "kind": "remark", "text": said})
    named = {name: job for name, job in (("removal", removal), ("check", checked)) if job is not None}
    lines += [line for name, job in named.items() if (line := _line(engine, name, job))]
    without = these(k, subject.granularity)
    hint = f"Press “Remove and measure”: the model answers again without {without}, and what changes is marked here."
    if removal is not None and removal.active:
        hint = f"The answer without {without} appears here."

    def stop(name: str) -> None:
        if name in named:
            named[name].cancel.set()

    picture(exploration, subject, k, values, removal, checked, lines=lines, hint=hint, on_stop=stop)


def _not_ready(engine: Engine) -> str:
    if engine.status == "failed":
        return f"Verifying needs the model. {engine.message}"
    return f"Verifying needs the model. {engine.message or 'Loading the model'}…"


def _line(engine: Engine, name: str, job: Job) -> dict[str, Any] | None:
    """How far a job is, or why there is no result; None where there is nothing to say."""
    if job.state == "failed":
        return {"name": name, "kind": "complaint", "text": job.error}
    if job.state == "stopped":
        said = f"The {name} was stopped; press its button to begin it again."
        return {"name": name, "kind": "remark", "text": said}
    if not job.active:
        return None
    how_far = {"part": part_done(job), "stopping": job.cancel.is_set()}
    return {"name": name, "kind": "progress", "text": status_line(engine, job), **how_far}


def status_line(engine: Engine, job: Job) -> str:
    """What a job is doing, in words."""
    if job.state == "waiting":
        return session.in_line(engine, job)
    if job.max_tokens:
        which = (
            "with all sources" if job.after is None else f"without {these(job.k, job.subject.granularity)}"
        )
        return f"Answering {which}: {job.tokens} of at most {job.max_tokens} tokens"
    left = job.seconds_left()
    pace = f", about {left:.0f} s left" if left is not None and left >= 1 else ""
    what = "Removing and measuring" if job.k else "Removing sources by chance and measuring"
    return f"{what}: {job.done} of {job.total} ablations{pace}" if job.total else f"{what}…"


def part_done(job: Job) -> float:
    """Of the stage it is in."""
    if job.max_tokens:
        return min(1.0, job.tokens / job.max_tokens)
    return job.done / job.total if job.total else 0.0
