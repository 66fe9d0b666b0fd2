"""One evaluation: what was asked for, how far it is, a way to pause it, to go on and to remove it, and what there is so far."""

from __future__ import annotations

from pathlib import Path

import streamlit as st

from at2_core.catalogue import list_estimators
from at2_core.errors import At2Error
from at2_core.evaluation_runs import EvaluationRequest, asked
from at2_core.progress import ACTIVE, Progress
from at2_core.prompts import without_surrogates
from at2_core.runs import RunFolder
from pages.ui import evaluate_runs, frame, train_process, train_runs
from pages.ui.evaluate_estimators import distinct
from pages.ui.evaluate_examples import examples_table
from pages.ui.evaluate_export import export
from pages.ui.evaluate_figures import skipped_of, unhurried
from pages.ui.evaluate_report import figures
from pages.ui.evaluate_runs import EVALUATIONS
from pages.ui.run_folder_parts import complaint, delete_button, in_words, output, resume_button


def show(run: RunFolder) -> None:
    """The whole panel; it follows the evaluation while a process works there."""
    progress = train_process.seen(run)
    working = progress.state in ACTIVE
    request = None
    with st.container(gap="xsmall"):
        with st.container(horizontal=True, horizontal_alignment="distribute", vertical_alignment="center",
                          key="train-heading"):  # fmt: skip
            st.text(run.name, width="content")
            with st.container(horizontal=True, width="content"):
                export(run)
                if not working:
                    delete_button(run, EVALUATIONS)
        try:
            request = asked(run)
        except At2Error as error:
            frame.complain(str(error), "evaluate-request")
        if request is not None:
            with st.container(key="quiet-evaluate-asked"):
                st.text(asked_in_words(request))
        st.fragment(_follow, run_every=1.0 if working else None)(run, working)
    complaint(EVALUATIONS)
    if not working:
        output(run, progress)
    st.fragment(figures, run_every=2.0 if working else None)(run, working)
    if request is not None:
        st.fragment(examples_table, run_every=4.0 if working else None)(run, request, working)


def _data_name(request: EvaluationRequest) -> str:
    """What the file was called before it was copied into the run's folder (`run_start.start`)."""
    path = Path(request.data)
    inside = train_runs.root(EVALUATIONS) in path.parents
    return path.name.removeprefix("data-") if inside else path.name


def asked_in_words(request: EvaluationRequest) -> str:
    """What is judged, in one line."""
    ablations = f"{request.ablations} ablations of each" if request.ablations else "known truth alone"
    parts = [
        train_runs.short_model(request.model),
        without_surrogates(_data_name(request)),
        f"at most {request.examples:,} examples",
        f"{request.granularity}s as sources",
        ablations,
        f"responses of at most {request.max_new_tokens} tokens",
        f"seed {request.seed}",
    ]
    if request.min_sources > 2:
        parts.append(f"at least {request.min_sources} sources")
    if request.max_prompt_tokens:
        parts.append(f"prompts of at most {request.max_prompt_tokens:,} tokens")
    if request.ablations and request.top_k != EvaluationRequest("", "").top_k:
        parts.append(f"without the top {', '.join(map(str, request.top_k))}" if request.top_k else "no drops")
    if request.estimators:
        known = {entry.fingerprint: entry.name for entry in list_estimators()}
        names = distinct({which: known.get(which, Path(which).name) for which in request.estimators})
        parts.append(f"estimators: {', '.join(names.values())}")
    if request.not_learned_in:
        parts.append(f"without what {', '.join(Path(f).name for f in request.not_learned_in)} learned from")
    return " · ".join(parts)


# ------------------------------------------------------------------------------------------------ how far it is


def _follow(run: RunFolder, was_working: bool) -> None:
    progress = train_process.seen(run)
    if (progress.state in ACTIVE) != was_working or not run.folder.exists():
        st.rerun()
    active = progress.state in ACTIVE
    stopping = active and train_process.stopping(run)
    with st.container(gap="xsmall"):
        # The same places whatever there is to say: a fragment that draws fewer than before leaves the last ones standing.
        state, bar, facts, skipped, others, buttons = (st.container() for _ in range(6))
    with state:
        if progress.state == "failed":
            frame.complain(progress.message or "It failed.", "evaluate-failed")
        elif progress.state != "done":
            st.text("Stopping in good order after the work at hand…" if stopping else _sentence(progress))
    with bar:
        if progress.total and progress.state not in ("failed", "done"):
            st.progress(min(1.0, progress.done / progress.total))
    with facts:
        if said := _facts(progress):
            with st.container(key="quiet-evaluate-facts"):
                st.text(said)
    with skipped:
        _skipped(run, active)
    with others:
        beside = evaluate_runs.at_work(beside=run) if active else ""
        if beside:
            frame.remark(beside, "evaluate-others")
    with buttons:
        _buttons(run, progress, stopping)


def _sentence(progress: Progress) -> str:
    if progress.state != "running":
        return in_words(progress, EVALUATIONS)
    return f"Evaluating: {train_runs.amount(progress)}"


def _facts(progress: Progress) -> str:
    facts = []
    if progress.state == "running" and progress.per_minute:
        facts.append(f"{progress.per_minute:,.1f} examples per minute")
    if progress.state == "running" and progress.seconds_left:
        facts.append(f"about {train_runs.duration(progress.seconds_left)} left")
    return " · ".join(facts)


def _skipped(run: RunFolder, working: bool) -> None:
    reasons = skipped_of(str(run.folder), unhurried(run, working))
    if not reasons:
        return
    total = sum(reasons.values())
    frame.remark(f"{total:,} example{'' if total == 1 else 's'} skipped: "
                 + "; ".join(f"{count:,} × {without_surrogates(reason)}" for reason, count in list(reasons.items())[:4])
                 + (f"; and {len(reasons) - 4} more reasons." if len(reasons) > 4 else ""), "evaluate-skipped")  # fmt: skip


def _buttons(run: RunFolder, progress: Progress, stopping: bool) -> None:
    if progress.state in ACTIVE:
        st.button("Pause", icon=":material/pause:", disabled=stopping, on_click=train_process.pause, args=(run,),
                  key="evaluate-pause", help="All that was measured is kept.")  # fmt: skip
    resume_button(run, progress, EVALUATIONS)
