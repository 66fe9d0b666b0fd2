"""The Compare page's panels in their order: what is compared, what must be computed first, the columns, the figures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import streamlit as st

from at2_core.exploration import Exploration
from pages.ui import compare_tables, frame, history, model_switch, session
from pages.ui.compare_board import ACTIVE, Job, Result, board
from pages.ui.compare_methods import BY_COEFFICIENTS, MOST, WORDS, Way, offered, own_scores, usual
from pages.ui.compare_parts import Page, in_passes, job_row, lasting, seconds
from pages.ui.compare_state import GRANULARITIES, State, from_address, to_address
from pages.ui.compare_view import Column, compare_view
from pages.ui.compare_work import score
from pages.ui.estimator_choice import Choice

HELP = "Two to four ways to score, side by side:\n\n" + "\n".join(
    f"- **{n}**: {about}" for n, about in WORDS.values()
)


@st.fragment
def compare(exploration: Exploration, choice: Choice) -> None:
    """Everything about one exploration. A pin or a switch runs this again, and nothing else."""
    ways = offered(exploration, choice)
    standard = usual(ways, choice)
    state = _controls(exploration, ways, from_address(exploration, tuple(ways), standard))
    if len(state.methods) < 2:
        frame.remark("Choose at least two methods above to compare them.", "compare-few")
    if not state.methods:
        to_address(exploration, state, standard)
        return
    page = Page(exploration, state.granularity, session.engine(), board())
    chosen = [ways[key] for key in state.methods]
    if not model_switch.offer(
        exploration, "compare", "Methods that are not computed yet ask the model that made it."
    ):
        for way in chosen:
            _begin_cheap(page, way)
    _work(page, chosen)
    columns = [_column(page, way) for way in chosen]
    state = compare_view(exploration, columns, state, key=history.key("compare"))
    to_address(exploration, state, standard)
    compare_tables.tables(page, chosen, columns, state)


def _controls(exploration: Exploration, ways: dict[str, Way], wished: State) -> State:
    """The methods and the sources that are picked."""
    methods, sources = (history.key(f"compare-{what}-{exploration.id}") for what in ("methods", "sources"))
    picked = st.session_state.get(methods)
    st.session_state[methods] = [key for key in (wished.methods if picked is None else picked) if key in ways]
    if st.session_state.get(sources) not in GRANULARITIES:
        st.session_state[sources] = wished.granularity
    with st.container(horizontal=True, vertical_alignment="top", key="row-compare-controls"):
        keys = st.multiselect(
            "Methods",
            list(ways),
            format_func=lambda key: ways[key].name,
            key=methods,
            max_selections=MOST,
            placeholder="Choose two to four methods",
            help=HELP,
            width="stretch",
        )
        granularity = st.segmented_control(
            "Sources",
            GRANULARITIES,
            format_func=str.capitalize,
            key=sources,
            required=True,
            help="What gets a score in the prompt.",
            width="content",
        )
    return replace(wished, methods=tuple(keys), granularity=granularity)


def _begin_cheap(page: Page, way: Way) -> None:
    """What costs no forward pass is computed unasked; also what the example carries, for its seconds."""
    key = page.key(way)
    job = page.board.job(key)
    again = job is not None and job.state == "failed" and job.no_model and page.engine.status == "ready"
    fresh = job is None or again or job.state == "done"  # done, and its result gone to make room
    if page.passes(way) == 0 and fresh and page.board.result(key) is None:
        page.board.start(page.engine, key, score(page.board, page.exploration, page.granularity, way))


def _column(page: Page, way: Way) -> Column:
    result: Result | None = page.board.result(page.key(way))
    if result is not None:
        name = result.name if way.key in BY_COEFFICIENTS else way.name  # these say which heads, or how many
        return Column(way.key, name, way.about, _cost(way, result), result.scores)
    own = own_scores(page.exploration, page.granularity, way)
    if own is not None:
        return Column(way.key, way.name, way.about, "0 forward passes", own)
    return Column(way.key, way.name, way.about, in_passes(page.passes(way)), None, _why_empty(page, way))


def _why_empty(page: Page, way: Way) -> str:
    """Never how far it is: a note that changes would send everything again."""
    job = page.board.job(page.key(way))
    state = job.state if job is not None else ""
    if job is not None and state == "failed":
        return job.error
    if state in ACTIVE:
        return "The scores appear here as soon as they are computed."
    return f"Press Compute above: {way.name} takes {in_passes(page.passes(way))} on this example."


def _cost(way: Way, result: Result) -> str:
    said = f"{in_passes(result.passes)} · {lasting(result)}"
    return said + (" · by sentence" if way.by_sentence else "")


# ------------------------------------------------------------------------------------------- what takes a while


def _work(page: Page, chosen: Sequence[Way]) -> None:
    """A row for each method that waits to be computed, is being computed, or could not be."""
    # What works is asked for first, and once: a job that ends in between has left its result by then, or is seen to end.
    active = _active(page, chosen)
    waiting = [way for way in chosen if way.key in active or page.board.result(page.key(way)) is None]
    if waiting:
        st.fragment(_rows, run_every=0.5 if active else None)(page, waiting, active)


def _active(page: Page, ways: Sequence[Way]) -> set[str]:
    return {way.key for way in ways if (job := page.board.job(page.key(way))) is not None and job.active}


def _rows(page: Page, waiting: Sequence[Way], active: set[str]) -> None:
    """The same slots whenever it is drawn for the same methods at work: it is drawn alone, among others' elements."""
    if _active(page, waiting) != active:
        st.rerun()
    shown = [way for way in waiting if own_scores(page.exploration, page.granularity, way) is None]
    offers = [way for way in shown if way.key not in active]
    with st.container(key="row-compare-work", gap="xsmall"):
        for way in shown:
            job = page.board.job(page.key(way))
            if way.key in active and page.passes(way) and job is not None:
                job_row(page, job, way.name, f"compare-{way.key}")
        if offers:
            with st.container(
                horizontal=True, vertical_alignment="center", gap="medium", key="quiet-compare-offers"
            ):
                for way in offers:
                    _offer(page, way, page.board.job(page.key(way)))


def _offer(page: Page, way: Way, job: Job | None) -> None:
    """What it costs, and the button that starts it."""
    state = job.state if job is not None else ""
    passes, pace = page.passes(way), page.board.pace(page.exploration.id, page.granularity)
    about = f", about {seconds(passes * pace)}" if way.removes and pace else ""
    said = f"{way.name}: {in_passes(passes)}{about}"
    if state == "stopped":
        less = ", less those already made" if way.removes else ""
        said = f"{way.name}, stopped: {in_passes(passes)}{about}{less}"
    if job is not None and state == "failed":
        said = f"{way.name}: {job.error}"
    with st.container(horizontal=True, vertical_alignment="center", gap="xsmall", width="content"):
        label = "Try again" if state == "failed" else "Compute"
        # A callback: a press that comes in just when another job ends would be lost in the redraw.
        st.button(
            label, icon=":material/play_arrow:", key=f"compute-{way.key}", on_click=_start, args=(page, way)
        )
        st.text(said, width="content")


def _start(page: Page, way: Way) -> None:
    page.engine.start(again=True)
    page.board.start(page.engine, page.key(way), score(page.board, page.exploration, page.granularity, way))
