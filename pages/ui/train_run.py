"""One run: how far it is, what it skipped, a way to pause it, to go on, to remove it, and what came out."""

from __future__ import annotations

import streamlit as st

from at2_core.errors import At2Error
from at2_core.runs import ACTIVE, Progress, RunFolder
from pages.ui import frame, train_process, train_runs
from pages.ui.train_report import figures

RESUMABLE = ("new", "paused", "interrupted", "failed")
STAGES = {"collect": "Collecting", "fit": "Fitting"}
SENTENCES = {
    "new": "It has not begun.",
    "starting": "Starting: reading the examples and loading the model, which is downloaded first if it is new…",
    "paused": "Paused. All that was collected is kept, and Resume goes on from here.",
    "interrupted": "Its process ended without a word, as after a crash or a power cut. Nothing that was collected is lost, "
    "and Resume goes on from here.",
}
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
                _delete(run)
        _asked(run)
        st.fragment(_follow, run_every=1.0 if working else None)(run, working)
    complaint = st.session_state.pop("train-run-complaint", "")
    if complaint:
        frame.complain(complaint, "train-run")
    if not working:
        _output(run, progress)
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
        request.model.rstrip("/\\").replace("\\", "/").rsplit("/", 1)[-1],
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
        said, amount = SENTENCES.get(progress.state, ""), train_runs.amount(progress)
        return f"{said} ({amount})" if amount else said
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
        elif progress.state in RESUMABLE:
            label = (
                "Try again"
                if progress.state == "failed"
                else "Start"
                if progress.state == "new"
                else "Resume"
            )
            if st.button(
                label,
                icon=":material/play_arrow:",
                type="primary",
                key="train-resume",
                on_click=_resume,
                args=(run,),
            ):
                st.rerun()


def _pause(run: RunFolder, stop: bool) -> None:
    st.session_state["train-stopped"] = run.name if stop else None
    train_process.pause(run)


def _resume(run: RunFolder) -> None:
    st.session_state["train-stopped"] = None
    try:
        if not train_process.start(run):
            st.session_state["train-run-complaint"] = "A process works in this run already."
    except At2Error as error:
        st.session_state["train-run-complaint"] = str(error)


def _output(run: RunFolder, progress: Progress) -> None:
    said = train_process.last_lines(run)
    if progress.state == "failed" and said:
        open_ = progress.message == train_process.DIED
        with st.expander("The last lines of its output", expanded=open_), st.container(key="train-output"):
            st.text(said)


def _delete(run: RunFolder) -> None:
    with st.popover("Delete", icon=":material/delete:", type="tertiary", key="train-delete"):
        st.text(f"This removes {run.folder} with all that was collected. It cannot be undone.")
        st.button("Delete for good", key="train-delete-for-good", on_click=_removed, args=(run,))


def _removed(run: RunFolder) -> None:
    try:
        train_runs.delete(run)
    except At2Error as error:
        st.session_state["train-run-complaint"] = str(error)
    else:
        train_runs.look_at(None)
