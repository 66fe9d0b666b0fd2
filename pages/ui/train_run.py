"""One run: how far it is, what it skipped, a way to pause it, to go on, to remove it, and what came out."""

from __future__ import annotations

import streamlit as st

from at2_core.errors import At2Error
from at2_core.progress import ACTIVE, Progress
from at2_core.runs import RunFolder
from pages.ui import frame, train_process, train_runs
from pages.ui.run_folder_parts import complaint, delete_button, in_words, output, resume_button
from pages.ui.train_report import figures
from pages.ui.train_runs import RUNS

STAGES = {"collect": "Collecting", "fit": "Fitting"}
STOPPED = "Stopped. The run is kept in {folder} with all it has collected; Resume goes on from here, Delete removes it."


def show(run: RunFolder) -> None:
    """The whole panel; it follows the run while a process works there."""
    progress = train_process.seen(run)
    working = progress.state in ACTIVE
    with st.container(gap="xsmall"):
        with st.container(
            horizontal=True,
            horizontal_alignment="distribute",
            vertical_alignment="center",
            key="train-heading",
        ):
            st.text(run.name, width="content")
            if not working:
                delete_button(run, RUNS)
        _asked(run)
        st.fragment(_follow, run_every=1.0 if working else None)(run, working)
    complaint(RUNS)
    if not working:
        output(run, progress)
        if progress.state == "done":
            figures(run)


def _asked(run: RunFolder) -> None:
    """What the run does, in one line."""
    try:
        request = run.request()
    except At2Error as error:
        frame.complain(str(error), "train-request")
        return
    if request is None:
        return
    licence = request.about.get("licence", "")
    examples = f"at most {request.max_examples:,} examples" if request.max_examples else "all examples"
    parts = [
        train_runs.short_model(request.model),
        f"{request.about.get('name', request.data)}"
        + (f" ({licence})" if licence not in ("", "not stated") else ""),
        examples,
        f"{request.settings.num_ablations} ablations of each",
        f"{request.settings.granularity}s removed",
    ]
    with st.container(key="quiet-train-asked"):
        st.text(" · ".join(parts))


def _follow(run: RunFolder, was_working: bool) -> None:
    progress = train_process.seen(run)
    if (progress.state in ACTIVE) != was_working or not run.folder.exists():
        st.rerun()
    stopping = progress.state in ACTIVE and train_process.stopping(run)
    with st.container(gap="xsmall"):
        if progress.state == "failed":
            frame.complain(progress.message or "It failed.", "train-failed")
        elif progress.state == "paused" and st.session_state.get("train-stopped") == run.name:
            frame.remark(STOPPED.format(folder=run.folder), "train-stopped")
        elif progress.state != "done":
            st.text("Stopping in good order after the work at hand…" if stopping else _sentence(progress))
        if progress.total and progress.state != "done":
            st.progress(min(1.0, progress.done / progress.total))
        with st.container(key="quiet-train-facts"):
            st.text(_facts(run, progress))
        if progress.skipped:
            _skipped(progress)
        _buttons(run, progress, stopping)


def _sentence(progress: Progress) -> str:
    if progress.state != "running":
        return in_words(progress, RUNS)
    if progress.stage == "fit" and progress.done >= progress.total:
        return "Validating: how far the result can be trusted…"
    return f"{STAGES.get(progress.stage, progress.stage)}: {train_runs.amount(progress)}"


def _facts(run: RunFolder, progress: Progress) -> str:
    """Pace, time left, disk."""
    facts = []
    if progress.state == "running":
        if progress.per_minute and progress.stage == "collect":
            facts.append(f"{progress.per_minute:,.0f} examples per minute")
        if progress.seconds_left:
            what = "this stage" if progress.stage == "fit" else "the collection"
            facts.append(f"about {train_runs.duration(progress.seconds_left)} left of {what}")
    megabytes = _disk_mb(str(run.folder), progress.state in ACTIVE, progress.updated)
    if megabytes is not None:
        facts.append("less than 1 MB on disk" if megabytes < 1 else f"{megabytes:,.0f} MB on disk")
    return " · ".join(facts)


@st.cache_data(ttl=5, max_entries=32, show_spinner=False)
def _measured(folder: str) -> float | None:
    return RunFolder(folder).disk_mb()


@st.cache_data(max_entries=32, show_spinner=False)
def _settled(folder: str, updated: str) -> float | None:
    return RunFolder(folder).disk_mb()


def _disk_mb(folder: str, working: bool, updated: str) -> float | None:
    """Measured now and then while it grows: a long run has thousands of files."""
    return _measured(folder) if working else _settled(folder, updated)


def _skipped(progress: Progress) -> None:
    total = sum(progress.skipped.values())
    reasons = "; ".join(f"{count:,} {reason}" for reason, count in progress.skipped.items())
    frame.remark(f"{total:,} skipped: {reasons}.", "train-skipped")


def _buttons(run: RunFolder, progress: Progress, stopping: bool) -> None:
    with st.container(horizontal=True):
        if progress.state in ACTIVE:
            st.button(
                "Pause",
                icon=":material/pause:",
                disabled=stopping,
                on_click=_pause,
                args=(run, False),
                key="train-pause",
            )
            st.button(
                "Stop", icon=":material/stop:", disabled=stopping, on_click=_pause, args=(run, True), key="train-stop",
                help="The run is kept, with all it has collected.",
            )  # fmt: skip
        resume_button(run, progress, RUNS)


def _pause(run: RunFolder, stop: bool) -> None:
    st.session_state["train-stopped"] = run.name if stop else None
    train_process.pause(run)
