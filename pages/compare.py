"""The Compare page: two to four methods side by side on the example that Explore looks at."""

from __future__ import annotations

from pages.ui import frame

frame.require()

import streamlit as st  # noqa: E402 (the frame's guard comes first)

from at2_core.errors import ExplorationFileError  # noqa: E402
from pages.ui import session  # noqa: E402
from pages.ui.compare_page import compare  # noqa: E402
from pages.ui.compare_state import SETTINGS  # noqa: E402
from pages.ui.estimator_choice import choice  # noqa: E402
from pages.ui.example_picker import example_picker, say_instead  # noqa: E402
from pages.ui.model_status import model_status  # noqa: E402
from pages.ui.run_progress import run_progress  # noqa: E402
from pages.ui.thoughts import with_markers_of_address  # noqa: E402

frame.style("compare_page.css")
engine = session.engine()
if engine.status == "idle":  # after a failure it waits to be asked again
    engine.start()
kind, name = session.asked()
with st.container(gap="xsmall"):
    with st.container(horizontal=True, vertical_alignment="bottom", horizontal_alignment="distribute"):
        st.title("How far do methods agree on this example?", anchor=False, width="content")
        with st.container(width="content"):
            model_status(engine)
    own = session.own_run()
    example_picker(
        kind, name, "compare-picked", SETTINGS, own=own is not None and own.exploration is not None
    )
    try:
        exploration = with_markers_of_address(session.current())
    except ExplorationFileError as error:
        frame.complain(str(error), "compare-example")
        st.stop()
    run = session.run_of_address()
    if run is not None and run.active:
        run_progress(run)
    else:
        say_instead(kind, name, "compare-instead")
        chosen = choice()
        if chosen.problem:
            frame.complain(chosen.problem, "compare-choice")
        compare(exploration, chosen)
