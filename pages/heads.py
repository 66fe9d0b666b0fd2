"""The Heads page: the coefficients of all heads, what each contributes, and any head's attention on the example."""

from __future__ import annotations

from pages.ui import frame

frame.require()

import streamlit as st  # noqa: E402 (the frame's guard comes first)

from at2_core.errors import ExplorationFileError  # noqa: E402
from at2_core.estimator import Estimator  # noqa: E402
from at2_core.exploration import Exploration  # noqa: E402
from pages.ui import head_overview, head_views, model_switch, session  # noqa: E402
from pages.ui.estimator_choice import choice  # noqa: E402
from pages.ui.estimator_shortfall import shortfall_remark  # noqa: E402
from pages.ui.example_picker import instead, say_instead  # noqa: E402
from pages.ui.head_address import Address  # noqa: E402
from pages.ui.head_page import Page, estimator_for, waiting  # noqa: E402
from pages.ui.jobs import Run  # noqa: E402
from pages.ui.run_progress import status_line  # noqa: E402
from pages.ui.thoughts import with_markers_of_address  # noqa: E402


@st.fragment
def heads(exploration: Exploration, engine: session.Engine, estimator: Estimator) -> None:
    """Everything that a click changes. What needs no model is on screen before the model is asked."""
    if session.current().id != exploration.id:
        st.rerun()  # another example was chosen in here
    address = Address(exploration, estimator.theta)
    state = address.read()
    address.write(state)  # drops from the address what it says wrongly
    page = Page(exploration, engine, estimator, address, state)
    with st.container(gap="xsmall"):
        upper, lower = st.container(gap="xsmall"), st.container(gap="xsmall")

    def overview() -> None:
        with upper:
            head_overview.grid_controls(page)
            head_overview.grid_and_ranking(page)

    def view() -> None:
        with lower:
            head_views.pattern_controls(page)
            head_views.patterns(page)

    # A page that opens shows the grid while the model still reads. After a click the pattern goes first: the grid
    # has framed the cell by itself, and it is the pattern that somebody waits for.
    for draw in (view, overview) if engine.kept(exploration.id) else (overview, view):
        draw()


@st.fragment(run_every=1.0)
def _follow(run: Run) -> None:
    if not run.active:
        st.rerun()
    frame.remark(f"Your own text appears here when its response is done; until then, {instead()}. {status_line(run)}",
                 "heads-instead")  # fmt: skip


engine = session.engine()
kind, name = session.asked()
if engine.status == "idle":  # after a failure it waits to be asked again
    engine.start()
try:
    exploration = with_markers_of_address(session.current())
except ExplorationFileError as error:
    frame.complain(str(error), "heads-example")
    st.stop()
run = session.run_of_address()
if run is not None and run.active:
    _follow(run)
else:
    say_instead(kind, name, "heads-instead")
chosen = choice()
estimator, shortfall = estimator_for(exploration, engine, chosen)
if chosen.problem:
    frame.complain(chosen.problem, "heads-choice")
if shortfall:
    shortfall_remark(shortfall, "heads-estimator")
if estimator is None:
    waiting(engine, "grid")
    model_switch.offer(exploration, "grid", "Whose heads these are is known when it is loaded.")
else:
    heads(exploration, engine, estimator)
